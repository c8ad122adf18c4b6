"""`GET /v1beta/models` and `GET /v1beta/models/{model}` (ai.google.dev/api/models), both ways."""

from typing import Any

from mooltiproxy.errors import NotFound, UpstreamBroken
from mooltiproxy.mapping.dialect import Config, Written
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.neutral import NOWHERE, Asked, ModelInfo, ModelsAnswer, ModelsRequest

from .common import objects_of
from .names import MODELS, model_path, plain_model

_CAPABILITIES = {
    "generateContent": ("completion", "tools", "vision"),
    "embedContent": ("embedding",),
    "batchEmbedContents": ("embedding",),
}
"""What a method says of a model. The API does not tell of functions and images; all but its oldest models take both."""

_METHODS = {
    "completion": ("generateContent", "streamGenerateContent", "countTokens"),
    "embedding": ("embedContent", "batchEmbedContents"),
}
_PAGE = 1000
"""The most models that the service lists at once."""


def read_request(body: Any, asked: Asked = NOWHERE) -> ModelsRequest:
    """Which models a client asks for. All come on one page: `pageSize` and `pageToken` of the query mean nothing."""
    return ModelsRequest(asked.model)


def write_request(request: ModelsRequest, config: Config) -> Written:
    """A request for a target of this dialect."""
    path = model_path(request.model) if request.model else f"{MODELS}?pageSize={_PAGE}"
    return Written({}, tuple(sorted(request.extra)), path)


def read_answer(body: Any, request: ModelsRequest) -> ModelsAnswer:
    """The models of a target's list, or the one that it tells about; raises UpstreamBroken where it is neither."""
    raise_failure(body)
    models = body.get("models", [] if request.model is None else [body]) if isinstance(body, dict) else None
    if not isinstance(models, list):
        raise UpstreamBroken("the target's answer has no models")
    return ModelsAnswer([_read(model) for model in objects_of(models) if isinstance(model.get("name"), str)])


def _read(model: dict[str, Any]) -> ModelInfo:
    methods = model.get("supportedGenerationMethods")
    known = [word for method in methods or () for word in _CAPABILITIES.get(method, ())]
    known += ["thinking"] if model.get("thinking") is True else []
    return ModelInfo(
        id=plain_model(model["name"]) or "",
        owner="google",
        context=_integer(model, "inputTokenLimit"),
        max_output=_integer(model, "outputTokenLimit"),
        capabilities=tuple(dict.fromkeys(known)) or None,
    )


def _integer(model: dict[str, Any], name: str) -> int | None:
    value = model.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def write_answer(answer: ModelsAnswer, request: ModelsRequest) -> dict[str, Any]:
    """The list for a client, or the one model that it asked for; raises NotFound where there is none."""
    if request.model is None:
        return {"models": [_write(model) for model in answer.models]}
    if not answer.models:
        raise NotFound(f"models/{request.model} is not found")
    return _write(answer.models[0])


def _write(model: ModelInfo) -> dict[str, Any]:
    capabilities = model.capabilities or ("completion",)
    limits = {"inputTokenLimit": model.context, "outputTokenLimit": model.max_output}
    written: dict[str, Any] = {
        "name": f"models/{model.id}",
        "version": "001",
        "displayName": model.id,
        **{name: limit for name, limit in limits.items() if limit is not None},
        "supportedGenerationMethods": [method for known in capabilities for method in _METHODS.get(known, ())],
    }
    return {**written, "thinking": True} if "thinking" in capabilities else written
