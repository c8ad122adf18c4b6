"""What the configuration tells of its models without asking anybody."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mooltiproxy.config.model import Model, Target
from mooltiproxy.mapping.chat_template import ChatTemplate
from mooltiproxy.mapping.neutral import ModelInfo

TABBY, OLLAMA = "tabbyAPI", "ollama"
"""TabbyAPI-Proxy's words for where a model is."""
_CONTEXT = ("max_seq_len", "num_ctx")


def parameters_of(model: Model) -> dict[str, Any]:
    """What its requests get where they say nothing, and what they get in any case, by the names of settings."""
    settings = model.settings
    if settings is None:
        return {}
    said = {"max_tokens": settings.max_tokens} if settings.max_tokens is not None else {}
    both = (settings.defaults, settings.overrides)
    values = {name: value for one in both for kind in (one.neutral, one.own) for name, value in kind.items()}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return {**said, **{name: value for name, value in plain.items() if _is_plain(value)}}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str | int | float) for one in value)
    return isinstance(value, str | int | float)


def info_of(model: Model, target: Target, live: ModelInfo | None = None) -> ModelInfo:
    """What is to be told of a model of the file; `live` is what its target tells of it."""
    info = live or ModelInfo("")
    own = model.told.get("model", {})
    parameters = parameters_of(model)
    context = next((one for one in (own.get(_CONTEXT[0]), parameters.get(_CONTEXT[1])) if _is_count(one)), None)
    details = {"parent_model": model.upstream_name} if model.upstream_name != model.name else None
    system = model.settings.system if model.settings else None
    return replace(
        info,
        id=model.name,
        context=context or info.context,
        details={**(details or {}), **(info.details or {})} or None,
        parameters=parameters,
        template=_template_of(own, target),
        system=system.best(()) if system else "",
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _template_of(own: Mapping[str, Any], target: Target) -> str:
    """The chat template, or its name, where the file says one."""
    said = own.get("prompt_template") or target.written.get("template")
    if isinstance(said, ChatTemplate):
        return said.source
    return said if isinstance(said, str) else ""


def source_of(model: Model | None, target: Target) -> str | None:
    """Where a model is, in TabbyAPI-Proxy's words as far as it has any; else the engine, or the API of the target."""
    engine = target.run.engine if target.run else None
    if engine == "tabbyapi" or model is not None and model.told:
        return TABBY
    return engine or next(iter(target.speaks), None)
