"""`GET /v1/models` and `GET /v1/models/{model}`."""

import re
from dataclasses import replace
from typing import Any

from mooltiproxy.errors import BadRequest, NotFound, UpstreamBroken
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.model_names import MODEL_NAME
from mooltiproxy.mapping.neutral import Asked, ModelInfo, ModelsAnswer, ModelsRequest
from mooltiproxy.mapping.times import rfc3339, unix_seconds

_CAPABILITIES = {"image_input": "vision", "thinking": "thinking"}
LIMIT = 1000
"""The most models that one page holds."""


def read_request(body: Any, asked: Asked) -> ModelsRequest:
    """All models, or the one in the path; pages are not needed, since everything is on the first."""
    return ModelsRequest(asked.model)


def write_request(request: ModelsRequest, config: Config) -> Written:
    """What is asked of a target is in the path alone; raises BadRequest for a name that no path can hold."""
    path = f"/v1/models?limit={LIMIT}"
    if request.model is not None:
        if not re.fullmatch(MODEL_NAME, request.model):
            raise BadRequest("model: this cannot be the name of a model", param="model")
        path = f"/v1/models/{request.model}"
    return Written({}, tuple(sorted(request.extra)), path)


def read_answer(body: Any, request: ModelsRequest) -> ModelsAnswer:
    """A target's models; raises UpstreamBroken where there are none."""
    raise_failure(body)
    listed = body.get("data", [body]) if isinstance(body, dict) else None
    if not isinstance(listed, list):
        raise UpstreamBroken("the target's answer has no list of models")
    models = [model for model in listed if isinstance(model, dict) and isinstance(model.get("id"), str)]
    return ModelsAnswer([_read_model(model) for model in models])


def _read_model(model: dict[str, Any]) -> ModelInfo:
    return ModelInfo(
        id=model["id"],
        created=unix_seconds(model.get("created_at")),
        context=_count(model.get("max_input_tokens")),
        max_output=_count(model.get("max_tokens")),
        capabilities=_capabilities(model.get("capabilities")),
    )


def _capabilities(told: Any) -> tuple[str, ...] | None:
    """What a model can, in the neutral words; all of the API's models chat and call functions."""
    if not isinstance(told, dict):
        return None
    supported = {name for name, one in told.items() if isinstance(one, dict) and one.get("supported") is True}
    return ("completion", "tools", *(word for name, word in _CAPABILITIES.items() if name in supported))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def write_answer(answer: ModelsAnswer, request: ModelsRequest) -> dict[str, Any]:
    """The models for a client, or the one that it named; raises NotFound where the target does not have that."""
    models = [_write_model(model) for model in answer.models]
    if request.model is not None:
        named = [model for model in models if model["id"] == request.model]
        if not named:
            raise NotFound(f"the target has no model {request.model}", code="model_not_found")
        return named[0]
    ids = [model["id"] for model in models]
    return {
        "data": models,
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }


def _write_model(model: ModelInfo) -> dict[str, Any]:
    written = {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": rfc3339(model.created),
        "lifecycle": "active",
    }
    limits = {"max_input_tokens": model.context, "max_tokens": model.max_output}
    return {**written, **{name: count for name, count in limits.items() if count is not None}}


list_endpoint = Endpoint(
    kind="models",
    paths=("/v1/models",),
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    method="GET",
)
one_endpoint = replace(list_endpoint, kind="model", paths=("/v1/models/{model}",))
