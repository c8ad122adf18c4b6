"""`POST /api/embed` and its older form `POST /api/embeddings`."""

import time
from typing import Any

from mooltiproxy.errors import BadRequest, UpstreamBroken
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.model_names import required_model
from mooltiproxy.mapping.neutral import NOWHERE, Asked, EmbeddingsAnswer, EmbeddingsRequest

from .common import read_keep_alive
from .lines import answered, read_usage


def read_request(body: Any, asked: Asked = NOWHERE) -> EmbeddingsRequest:
    """The neutral form of a client's request: one text or several; raises BadRequest that names the field at fault, and
    Answered for none, which would only load the model."""
    fields = Fields(body)
    value = fields.any("input")
    inputs = [value] if isinstance(value, str) else value or []
    if not isinstance(inputs, list) or not all(isinstance(one, str) for one in inputs):
        raise fields.wrong("input", "a string or a list of strings")
    request = _read(fields, EmbeddingsRequest(fields.text("model"), inputs, fields.integer("dimensions", 1)))
    if not inputs:
        raise answered(write_answer(EmbeddingsAnswer([]), request), request.extra)
    return request


def read_old_request(body: Any, asked: Asked = NOWHERE) -> EmbeddingsRequest:
    """The same for the older endpoint, which takes one text."""
    fields = Fields(body)
    prompt = fields.text("prompt")
    request = _read(fields, EmbeddingsRequest(fields.text("model"), [prompt or ""]))
    if not prompt:
        raise answered({"embedding": []}, request.extra)
    return request


def _read(fields: Fields, request: EmbeddingsRequest) -> EmbeddingsRequest:
    """Options and all else go to `extra`: no other API knows them here."""
    keep_alive = read_keep_alive(fields)
    request.extra = fields.leftovers()
    if keep_alive is not None:
        request.extra["keep_alive"] = keep_alive
    return request


def write_request(request: EmbeddingsRequest, config: Config) -> Written:
    """A request for an Ollama server; raises BadRequest for what it cannot be asked."""
    body, dropped = _write(request)
    body["input"] = _texts(request)
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    truncate = request.extra.get("truncate")
    if isinstance(truncate, bool):
        body["truncate"] = truncate
        dropped.remove("truncate")
    return Written(body, tuple(dropped))


def write_old_request(request: EmbeddingsRequest, config: Config) -> Written:
    """The same for the older endpoint; raises BadRequest for more than one text."""
    body, dropped = _write(request)
    texts = _texts(request)
    if len(texts) > 1:
        raise BadRequest("input: this endpoint of the target takes one text", param="input")
    if request.dimensions is not None:
        raise BadRequest("dimensions: this endpoint of the target knows only the model's own", param="dimensions")
    body["prompt"] = texts[0]
    return Written(body, tuple(dropped))


def _write(request: EmbeddingsRequest) -> tuple[dict[str, Any], list[str]]:
    """The fields that both share, and the names of what is left out."""
    body: dict[str, Any] = {"model": required_model(request.model)}
    options, keep_alive = request.extra.get("options"), request.extra.get("keep_alive")
    if isinstance(options, dict):
        body["options"] = options
    if isinstance(keep_alive, str | int | float) and not isinstance(keep_alive, bool):
        body["keep_alive"] = keep_alive
    return body, [*sorted(request.extra.keys() - body.keys()), *(["user"] if request.user else [])]


def _texts(request: EmbeddingsRequest) -> list[str]:
    texts = [one for one in request.inputs if isinstance(one, str)]
    if len(texts) != len(request.inputs):
        raise BadRequest("input: this target takes text; tokens are those of another model", param="input")
    return texts


def read_answer(body: Any, request: EmbeddingsRequest) -> EmbeddingsAnswer:
    """A target's vectors; raises UpstreamBroken where there is not one for each text."""
    vectors = _list(body, "embeddings")
    if len(vectors) != len(request.inputs) or not all(isinstance(vector, list) for vector in vectors):
        raise UpstreamBroken("the target's answer does not have one vector for each input")
    return EmbeddingsAnswer(vectors, read_usage(body))


def read_old_answer(body: Any, request: EmbeddingsRequest) -> EmbeddingsAnswer:
    """A target's vector; raises UpstreamBroken where there is none. The older endpoint counts no tokens."""
    return EmbeddingsAnswer([_list(body, "embedding")])


def _list(body: Any, name: str) -> list[Any]:
    raise_failure(body)
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, list):
        raise UpstreamBroken(f"the target's answer has no {name}")
    return value


def write_answer(answer: EmbeddingsAnswer, request: EmbeddingsRequest) -> dict[str, Any]:
    """Vectors for a client; durations are nanoseconds, a count that nobody told is 0."""
    return {
        "model": request.model or "",
        "embeddings": answer.vectors,
        "total_duration": max(time.monotonic_ns() - request.began, 1),
        "load_duration": 1,
        "prompt_eval_count": (answer.usage and answer.usage.prompt) or 0,
    }


def write_old_answer(answer: EmbeddingsAnswer, request: EmbeddingsRequest) -> dict[str, Any]:
    """One vector for a client of the older endpoint."""
    return {"embedding": answer.vectors[0]}


endpoint = Endpoint(
    kind="embeddings",
    name="embed",
    paths=("/api/embed",),
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    keepalive=b"",
)
old_endpoint = Endpoint(
    kind="embeddings",
    name="embeddings",
    paths=("/api/embeddings",),
    read_request=read_old_request,
    write_request=write_old_request,
    read_answer=read_old_answer,
    write_answer=write_old_answer,
    keepalive=b"",
)
