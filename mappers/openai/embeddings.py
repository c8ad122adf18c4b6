"""`POST /v1/embeddings` (platform.openai.com/docs/api-reference/embeddings, November 2026)."""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.neutral import NOWHERE, Asked, EmbeddingsAnswer, EmbeddingsRequest
from mooltiproxy.mapping.vectors import pack, unpack

from .common import index_of, read_usage, write_model


def read_request(body: Any, asked: Asked = NOWHERE) -> EmbeddingsRequest:
    """The neutral form of a client's request; raises BadRequest that names the field at fault."""
    fields = Fields(body)
    request = EmbeddingsRequest(model=fields.text("model"), inputs=_read_inputs(fields))
    encoding = fields.text("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise fields.wrong("encoding_format", "float or base64")
    request.base64 = encoding == "base64"
    request.dimensions = fields.integer("dimensions", 1)
    request.user = fields.text("user")
    request.extra = fields.leftovers()
    return request


def _read_inputs(fields: Fields) -> list[str] | list[list[int]]:
    """One text or one list of token ids is a list of one."""
    value = fields.any("input")
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(one, str) for one in value):
            return value
        if _are_ids(value):
            return [value]
        if all(isinstance(one, list) and one and _are_ids(one) for one in value):
            return value
    raise fields.wrong("input", "a string, a list of strings, or lists of token ids")


def _are_ids(values: list[Any]) -> bool:
    return all(isinstance(one, int) and not isinstance(one, bool) for one in values)


def write_request(request: EmbeddingsRequest, config: Config) -> Written:
    """A request for an OpenAI-speaking target. It is asked for numbers: not every server knows base64."""
    body: dict[str, Any] = write_model(request.model, config)
    body["input"] = request.inputs
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if request.user:
        body["user"] = request.user
    return Written(body, tuple(sorted(request.extra)))


def read_answer(body: Any, request: EmbeddingsRequest) -> EmbeddingsAnswer:
    """A target's vectors in the order of the inputs; raises UpstreamBroken where they are none, or not as many."""
    raise_failure(body)
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise UpstreamBroken("the target's answer has no embeddings")
    if len(data) != len(request.inputs):
        raise UpstreamBroken(f"the target gave {len(data)} embeddings for {len(request.inputs)} inputs")
    ordered = sorted(data, key=index_of)  # servers that leave the index out keep the order
    return EmbeddingsAnswer([_read_vector(one) for one in ordered], read_usage(body.get("usage")))


def _read_vector(item: Mapping[str, Any]) -> list[float]:
    value = item.get("embedding")
    if isinstance(value, list) and all(isinstance(one, int | float) for one in value):
        return value
    if isinstance(value, str):
        try:
            return unpack(value)
        except ValueError as error:
            raise UpstreamBroken(f"the target's answer has an embedding that cannot be read: {error}") from error
    raise UpstreamBroken("the target's answer has an embedding that is no list of numbers")


def write_answer(answer: EmbeddingsAnswer, request: EmbeddingsRequest) -> dict[str, Any]:
    """The vectors for a client, packed where it asked for that. Usage has to be there: 0 is for what nobody told."""
    data = [
        {"object": "embedding", "index": index, "embedding": pack(vector) if request.base64 else vector}
        for index, vector in enumerate(answer.vectors)
    ]
    tokens = (answer.usage.prompt if answer.usage else None) or 0
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request.model or "", "usage": usage}


endpoint = Endpoint(
    kind="embeddings",
    paths=("/v1/embeddings", "/embeddings"),
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
)
