"""`GET /v1/models` and `/v1/models/{model}` (platform.openai.com/docs/api-reference/models, November 2026)."""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import NotFound, UpstreamBroken
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.model_names import known_as
from mooltiproxy.mapping.neutral import NOWHERE, Asked, ModelInfo, ModelsAnswer, ModelsRequest

from .common import count_in

LIST = "/v1/models"

_CONTEXT = ("max_model_len", "context_length", "context_window", "max_context_length")
"""How servers tell a model's context besides what the API has: vLLM, OpenRouter, Groq, LM Studio."""


_CAPABILITIES = {
    "completion": "completion",
    "completion_chat": "completion",
    "tools": "tools",
    "function_calling": "tools",
    "image": "vision",
    "vision": "vision",
    "reasoning": "thinking",
    "completion_fim": "insert",
}
"""How servers tell what a model can: OpenRouter by the parameters and inputs it takes, Mistral by `capabilities`."""


def read_request(body: Any, asked: Asked = NOWHERE) -> ModelsRequest:
    """Which models are asked for: the one that the path names, or all."""
    return ModelsRequest(asked.model)


def write_request(request: ModelsRequest, config: Config) -> Written:
    """The list is asked for in any case: not every server can be asked for one model."""
    return Written({}, path=LIST)


def read_answer(body: Any, request: ModelsRequest) -> ModelsAnswer:
    """A target's models, or the one that was asked for; raises UpstreamBroken for no list, NotFound for no such model.

    Lists without an envelope, and under `models`, are read too.
    """
    raise_failure(body)
    listed = body.get("data", body.get("models")) if isinstance(body, dict) else body
    if not isinstance(listed, list):
        raise UpstreamBroken("the target's answer is no list of models")
    models = [_read_model(model) for model in listed if isinstance(model, dict) and _name(model)]
    return ModelsAnswer(models if request.model is None else [_named(models, request.model)])


def _name(model: Mapping[str, Any]) -> str:
    name = model.get("id") or model.get("name")
    return name if isinstance(name, str) else ""


def _read_model(model: Mapping[str, Any]) -> ModelInfo:
    meta = model.get("meta")
    owner = model.get("owned_by")
    contexts = [count_in(model, name) for name in _CONTEXT] + [count_in(meta, "n_ctx_train")]
    return ModelInfo(
        id=_name(model),
        created=count_in(model, "created"),
        owner=owner if isinstance(owner, str) else None,
        context=next((context for context in contexts if context), None),
        size=count_in(meta, "size"),
        capabilities=_capabilities(model),
    )


def _capabilities(model: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What a model can, in the neutral words, where a server tells it in one of the two usual ways."""
    parameters, words, architecture = (
        model.get(name) for name in ("supported_parameters", "capabilities", "architecture")
    )
    told: set[str] = set()
    if isinstance(parameters, list):
        inputs = architecture.get("input_modalities") if isinstance(architecture, dict) else None
        told = {"completion", *map(str, parameters), *(map(str, inputs) if isinstance(inputs, list) else ())}
    elif isinstance(words, dict):
        told = {name for name, can in words.items() if can is True}
    return tuple(dict.fromkeys(word for name, word in _CAPABILITIES.items() if name in told)) or None


def _named(models: list[ModelInfo], name: str) -> ModelInfo:
    found = {model.id: model for model in models}
    known = known_as(name, found)
    if known is not None:
        return found[known]
    raise NotFound(f"the model {name} does not exist", param="model", code="model_not_found")


def write_answer(answer: ModelsAnswer, request: ModelsRequest) -> dict[str, Any]:
    """The list for a client, or the one model that it asked for; raises NotFound where the target does not have it."""
    if request.model is None:
        return {"object": "list", "data": [_write_model(model, model.id) for model in answer.models]}
    model = answer.models[0] if len(answer.models) == 1 else _named(answer.models, request.model)
    return _write_model(model, request.model)


def _write_model(model: ModelInfo, name: str) -> dict[str, Any]:
    """A model as the API lists it; the time has to be there, 0 is for what nobody told."""
    return {"id": name, "object": "model", "created": model.created or 0, "owned_by": model.owner or "unknown"}


endpoint = Endpoint(
    kind="models",
    paths=(LIST, "/models"),
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    method="GET",
)

one_endpoint = Endpoint(
    kind="model",
    paths=(f"{LIST}/{{model}}", "/models/{model}"),
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    method="GET",
)
