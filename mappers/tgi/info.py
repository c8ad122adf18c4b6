"""`GET /info` and `GET /health`: the one model of a server, and whether it answers."""

from typing import Any

from mooltiproxy.errors import NotFound, UpstreamBroken
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.neutral import NOWHERE, Asked, ModelInfo, ModelsAnswer, ModelsRequest

from .writing import MAX_STOPS

VERSION = "3.3.6"
"""The release whose API this is. Clients look at it to decide what they may ask: it belongs to this module, not to the
target."""

_ROUTER = {
    "model_sha": None,
    "model_pipeline_tag": "text-generation",
    "max_concurrent_requests": 128,
    "max_best_of": 1,
    "max_stop_sequences": MAX_STOPS,
    "validation_workers": 1,
    "max_client_batch_size": 1,
    "router": "text-generation-router",
    "version": VERSION,
    "sha": None,
    "docker_label": None,
}
"""What is said of the server itself where a target speaks another API: its release's defaults, and no best of several,
which few targets have."""


def read_request(body: Any, asked: Asked = NOWHERE) -> ModelsRequest:
    """The question for the server's model; it has no body."""
    return ModelsRequest()


def write_request(request: ModelsRequest, config: Config) -> Written:
    """What is asked of a target is in the path alone."""
    return Written({}, tuple(sorted(request.extra)))


def read_answer(body: Any, request: ModelsRequest) -> ModelsAnswer:
    """A target's model, which answers to any name that a client has for it; raises UpstreamBroken for none."""
    raise_failure(body)
    name = body.get("model_id") if isinstance(body, dict) else None
    if not isinstance(name, str):
        raise UpstreamBroken("the target's answer has no model_id")
    context = body.get("max_total_tokens")
    context = context if isinstance(context, int) and context > 0 else None
    return ModelsAnswer([ModelInfo(request.model or name, context=context, capabilities=("completion",))])


def write_answer(answer: ModelsAnswer, request: ModelsRequest) -> dict[str, Any]:
    """The first model of a target, for a client; raises NotFound where there is none.

    Limits that the target does not tell are left out: clients have their own then.
    """
    if not answer.models:
        raise NotFound("the target lists no model")
    model = answer.models[0]
    # At least one token of the context is left for the answer.
    limits = {} if model.context is None else {"max_input_tokens": model.context - 1, "max_total_tokens": model.context}
    return {"model_id": model.id, **limits, **_ROUTER}


def write_health(answer: ModelsAnswer, request: ModelsRequest) -> dict[str, Any]:
    """What a client hears of a target that answers: nothing but the status."""
    return {}


endpoint = Endpoint(
    kind="models",
    paths=("/info",),
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    method="GET",
)
health_endpoint = Endpoint(
    kind="health",
    paths=("/health",),
    read_request=read_request,
    write_request=write_request,
    read_answer=lambda body, request: ModelsAnswer([]),
    write_answer=write_health,
    method="GET",
)
