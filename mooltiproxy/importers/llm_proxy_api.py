"""llm-proxy-api's models-config.json, and its variables LLM_PROXY_API_...

As the README, constants.py and MODELS_CONFIG.md of github.com/radlab-dev-group/llm-router have them, which it was
renamed to: kinds of models at the top, in each the models with their server or list of `providers`; `active_models`
says which of them count.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mooltiproxy.config.document import Place, read_value
from mooltiproxy.config.prompts import read_library
from mooltiproxy.config.seed_variables import LLM_PROXY_API, llm_proxy_api
from mooltiproxy.config.shapes import Where
from mooltiproxy.errors import ConfigError
from mooltiproxy.importers.accounts import Pattern
from mooltiproxy.importers.draft import Data, Draft, Imported
from mooltiproxy.importers.foreign import items, section, text
from mooltiproxy.importers.servers import STAND_INS, hint_for, openai_server, wrong_url

_ACTIVE = "active_models"
_PROMPTS = f"{LLM_PROXY_API}PROMPTS_DIR"
_OPENAI = ("openai", "vllm", "llama.cpp", "lmstudio", "lm_studio", "sglang")
_OTHERS = ("ollama", "anthropic", "tgi", "gemini")

_POOL = "one server answers for a model: put a load balancer before several"

REASONS: dict[Pattern, str] = {
    ("*", "*", "providers_sleep"): _POOL,
    ("*", "*", "fallback_model"): "no other model is asked in its place: the client gets the error",
}
_PROVIDER_REASONS = {
    "id": "targets have names of their own",
    "input_size": "the target counts its tokens, and refuses what is too long",
    "weight": _POOL,
    "nworkers": "limits are not carried: see `concurrent` of targets",
    "keep_alive": "`run: {engine: ollama}` of the target, with `unload_after` or `pin`, keeps models loaded",
    "tool_calling": "tools are told to every target that its API has them for",
    "is_embedding": "the client's path says what it wants",
    "provider_options": "they are of Google's Vertex AI",
}
_VARIABLE_REASONS = {
    "MODELS_CONFIG": "it names the file that was read here",
    "MINIMUM": "mooltiproxy is nothing but a proxy",
    "LOG_FILENAME": "logs go to standard error: let the shell or systemd keep them",
    "LOG_LEVEL": "`mooltiproxy serve --verbose` logs more",
}
_NO_VARIABLE = "one process serves: mooltiproxy has nothing like it"


def recognise(data: Any) -> bool:
    """Whether this is a models-config.json."""
    return isinstance(data, dict) and isinstance(data.get(_ACTIVE), dict)


def convert(draft: Draft, environ: Mapping[str, str]) -> Imported:
    """Each active model becomes a model, each server a target; variables that are set become settings."""
    draft.need("MOOLTIPROXY_KEY", "the key that clients send, a new one")
    for kind in section(draft.document.data, _ACTIVE):
        for position, name in enumerate(items(section(draft.document.data, _ACTIVE)[kind])):
            _active(draft, kind, position, str(name))
    _inactive(draft)
    _environment(draft, environ)
    return draft.finish(REASONS)


def _active(draft: Draft, kind: str, position: int, name: str) -> None:
    listed: Where = (_ACTIVE, kind, position)
    model = section(section(draft.document.data, kind), name)
    if not model:
        draft.drop(listed, "there is no such model in the file")
    elif draft.has_model(name):
        draft.drop(listed, "there is a model of this name")
    elif _model(draft, (kind, name), name, model):
        draft.tell(listed, ("models", name))
    else:
        draft.drop(listed, "none of its servers can be a target")


def _model(draft: Draft, path: Where, name: str, model: Data) -> bool:
    """Make a model of the first server that can be a target; whether there was one."""
    is_done = False
    for where, provider in _providers(path, model):
        why = _POOL if is_done else _refusal(provider)
        if why:
            draft.drop(where, why)
            continue
        is_done = True
        _provider(draft, where, name, provider)
    return is_done


def _providers(path: Where, model: Data) -> Iterator[tuple[Where, Data]]:
    """The servers of a model: of newer files a list, of older ones the model itself."""
    if "providers" not in model:
        yield path, model
    for position, provider in enumerate(items(model.get("providers"))):
        yield (*path, "providers", position), provider if isinstance(provider, dict) else {}


def _refusal(provider: Data) -> str:
    kind = text(provider.get("api_type"))
    if kind not in (*_OPENAI, *_OTHERS):
        return "its api_type is none that targets can speak: write the target yourself"
    wrong = wrong_url(text(provider.get("api_host")))
    return f"api_host cannot be a target's url: {wrong}" if wrong else ""


def _provider(draft: Draft, path: Where, name: str, provider: Data) -> None:
    url, kind = text(provider["api_host"]), text(provider["api_type"])
    entry = openai_server(url) if kind in _OPENAI else {"url": url.rstrip("/"), "speaks": kind}
    token = text(provider.get("api_token"))
    has_key = bool(token) and token.lower() not in STAND_INS
    hint = hint_for(url)
    variable = draft.secret(token, hint, f"the key of {hint}") if has_key else ""
    target = draft.target(hint, {"url": entry["url"], **({"envkey": variable} if variable else {}), **entry})
    upstream = text(provider.get("model_path"))
    draft.tell((*path, "api_host"), ("targets", target, "url"))
    draft.tell((*path, "api_type"), ("targets", target, "speaks" if "speaks" in entry else "mapping"))
    if "api_token" in provider:
        if has_key:
            draft.tell(
                (*path, "api_token"), ("targets", target, "envkey"), "the key is not written here: set the variable"
            )
        else:
            draft.say((*path, "api_token"), "kept: no key is sent")
    draft.put(
        path,
        ("models", name),
        {"target": target, **({"name": upstream} if upstream not in ("", name) else {})},
        is_all=False,
    )
    if "model_path" in provider:
        draft.tell((*path, "model_path"), ("models", name, "name"))
    for field, reason in _PROVIDER_REASONS.items():
        if field in provider:
            draft.drop((*path, field), reason)


def _inactive(draft: Draft) -> None:
    """The models that the file has and does not use."""
    data = draft.document.data
    for kind, models in data.items():
        if kind != _ACTIVE and isinstance(models, dict):
            active = set(map(str, items(section(data, _ACTIVE).get(kind))))
            for name in models.keys() - active:
                draft.drop((kind, name), "it is not under active_models: add it there and import again to have it")


def _environment(draft: Draft, environ: Mapping[str, str]) -> None:
    """The variables that are set where the import runs; some of them count also where they are not."""
    own = {name: value for name, value in environ.items() if name.startswith(LLM_PROXY_API)}
    for name, place, value in llm_proxy_api({**own, f"{LLM_PROXY_API}MINIMUM": "1"}):
        draft.place((name,), Place("the environment"))
        remark = "" if name in own else "not set, this is its default"
        if place[0] == "prompts":
            _prompts(draft, (name,), place, value, environ.get(_PROMPTS, ""))
        else:
            draft.put((name,), place, read_value(value), remark)
        own.pop(name, None)
    for name in sorted(own):
        draft.place((name,), Place("the environment"))
        draft.drop((name,), _VARIABLE_REASONS.get(name.removeprefix(LLM_PROXY_API), _NO_VARIABLE))


def _prompts(draft: Draft, theirs: Where, ours: Where, value: str, named: str) -> None:
    """The folder of prompts, or their default language, if they can be found from here."""
    folder = Path(named).absolute() if named and Path(named).is_dir() else None
    try:
        languages = read_library(folder).languages
    except ConfigError as error:
        draft.drop(theirs, f"the prompts cannot be used: {error}")
        return
    if ours[-1] == "dir" and folder is None:
        draft.drop(theirs, "there is no such folder, seen from here: set `prompts.dir`")
    elif ours[-1] == "language" and value not in languages:
        draft.drop(theirs, "there are no prompts in this language: set `prompts.language`")
    else:
        draft.put(theirs, ours, str(folder) if ours[-1] == "dir" else value)
