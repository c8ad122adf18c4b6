"""`batchEmbedContents` and `embedContent` (ai.google.dev/api/embeddings), both ways."""

from collections.abc import Callable
from typing import Any

from mooltiproxy.errors import BadRequest, UpstreamBroken
from mooltiproxy.mapping.dialect import Config, Written
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.neutral import NOWHERE, Asked, EmbeddingsAnswer, EmbeddingsRequest

from .common import objects_of, read_usage, write_usage
from .fields import ProtoFields
from .names import model_path, plain_model


def read_request(body: Any, asked: Asked = NOWHERE) -> EmbeddingsRequest:
    """The neutral form of one text to embed; raises BadRequest that names the field at fault."""
    fields = ProtoFields(body)
    request = EmbeddingsRequest(asked.model, [])
    _read_one(fields, request)
    return request


def read_batch_request(body: Any, asked: Asked = NOWHERE) -> EmbeddingsRequest:
    """The neutral form of several texts to embed; raises BadRequest that names the field at fault."""
    fields = ProtoFields(body)
    request = EmbeddingsRequest(asked.model or plain_model(fields.text("model")), [])
    sizes = {_read_one(one, request) for one in fields.objects("requests")}
    if not request.inputs:
        raise fields.wrong("requests", "at least one request")
    if len(sizes) > 1:
        raise fields.wrong("requests", "one outputDimensionality for all requests")
    request.extra.update(fields.leftovers())
    return request


def _read_one(fields: ProtoFields, request: EmbeddingsRequest) -> int | None:
    """Add a text to the request; its dimensions. What has no place is named once for all texts."""
    request.model = request.model or plain_model(fields.text("model"))
    fields.any("model")
    content = fields.required_object("content")
    content.any("role")
    texts = [part.required_text("text") for part in content.objects("parts")]
    if not texts:
        raise content.wrong("parts", "parts of text")
    request.inputs = [*request.inputs, "".join(texts)]
    request.dimensions = fields.integer("outputDimensionality", 1)
    others = {**content.leftovers(), **fields.leftovers()}
    request.extra.update({name.rpartition(".")[2]: value for name, value in others.items()})
    return request.dimensions


def write_batch_request(request: EmbeddingsRequest, config: Config) -> Written:
    """A request for a target of this dialect; raises BadRequest for what it cannot be asked."""
    return _written(request, "batchEmbedContents", {"requests": _write_all(request)})


def write_request(request: EmbeddingsRequest, config: Config) -> Written:
    """The same for a target that embeds one text at a time."""
    requests = _write_all(request)
    if len(requests) != 1:
        raise BadRequest("input: this target embeds one text at a time", param="input")
    return _written(request, "embedContent", requests[0])


def _written(request: EmbeddingsRequest, method: str, body: dict[str, Any]) -> Written:
    dropped = [*sorted(request.extra), *(["user"] if request.user else [])]
    return Written(body, tuple(dropped), model_path(request.model, method))


def _write_all(request: EmbeddingsRequest) -> list[dict[str, Any]]:
    size = {} if request.dimensions is None else {"outputDimensionality": request.dimensions}
    model = f"models/{plain_model(request.model)}"
    written = []
    for text in request.inputs:
        if not isinstance(text, str):
            raise BadRequest("input: token ids cannot be translated to another model's tokenizer", param="input")
        written.append({"model": model, "content": {"parts": [{"text": text}]}, **size})
    return written


def _reader(take: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> Callable[[Any, Any], EmbeddingsAnswer]:
    def read_answer(body: Any, request: EmbeddingsRequest) -> EmbeddingsAnswer:
        """The vectors of a target's answer; raises UpstreamBroken where it is none, or has too few of them."""
        raise_failure(body)
        embeddings = take(body) if isinstance(body, dict) else []
        vectors = [embedding["values"] for embedding in embeddings if isinstance(embedding.get("values"), list)]
        if len(vectors) != len(request.inputs):
            raise UpstreamBroken("the target's answer has not one embedding for each input")
        return EmbeddingsAnswer(vectors, read_usage(body.get("usageMetadata")))

    return read_answer


read_batch_answer = _reader(lambda body: objects_of(body.get("embeddings")))
read_answer = _reader(lambda body: objects_of([body.get("embedding")]))


def write_batch_answer(answer: EmbeddingsAnswer, request: EmbeddingsRequest) -> dict[str, Any]:
    """The vectors for a client."""
    return {"embeddings": [{"values": vector} for vector in answer.vectors], **_usage(answer)}


def write_answer(answer: EmbeddingsAnswer, request: EmbeddingsRequest) -> dict[str, Any]:
    """The one vector for a client."""
    return {"embedding": {"values": answer.vectors[0]}, **_usage(answer)}


def _usage(answer: EmbeddingsAnswer) -> dict[str, Any]:
    prompt = write_usage(answer.usage).get("promptTokenCount")
    return {} if prompt is None else {"usageMetadata": {"promptTokenCount": prompt, "totalTokenCount": prompt}}
