"""Google's Gemini API (ai.google.dev/api, generativelanguage v1beta, of November 2026)."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mooltiproxy.errors import ProxyError
from mooltiproxy.mapping.dialect import Dialect, Endpoint
from mooltiproxy.mapping.forms import Conversation, Form
from mooltiproxy.mapping.neutral import Usage

from . import common, count, embeddings, models
from .read_answer import Reader, read_answer
from .read_request import read_request, read_stream_request
from .write_answer import Writer, write_answer
from .write_contents import IMAGE_HOSTS
from .write_request import write_request

_STATUS = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TYPE = "type.googleapis.com/google.rpc."


def write_error(error: ProxyError, request_id: str) -> dict[str, Any]:
    """The body of an error answer, and the event of an error in a stream (google.rpc.Status)."""
    other = "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL"
    details: list[dict[str, Any]] = [{"@type": f"{_TYPE}RequestInfo", "requestId": request_id}]
    if error.status == 401:
        domain = "googleapis.com"
        details.append({"@type": f"{_TYPE}ErrorInfo", "reason": "API_KEY_INVALID", "domain": domain})
    if error.param:
        violation = {"field": error.param, "description": str(error)}
        details.append({"@type": f"{_TYPE}BadRequest", "fieldViolations": [violation]})
    if error.retry_after is not None:
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{error.retry_after}s"})
    status = _STATUS.get(error.status, other)
    return {"error": {"code": error.status, "message": str(error), "status": status, "details": details}}


def read_usage(told: Any, fields: Mapping[str, str]) -> Usage | None:
    """What an answer, an event, or a stream that is one array tells of tokens: the last word counts."""
    events = told if isinstance(told, list) else [told]
    found = (
        event["usageMetadata"] for event in reversed(events) if isinstance(event, dict) and "usageMetadata" in event
    )
    return common.read_usage(next(found, None))


def _lists_models(status: int, body: Any) -> bool:
    """Whether an answer to GET /v1beta/models is one of this API's, if only the wish for a key."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        return status in (400, 401, 403) and isinstance(error.get("status"), str)
    return isinstance(body, dict) and isinstance(body.get("models"), list)


def _paths(method: str) -> tuple[str, ...]:
    """Google's SDKs since 3.0 ask at /v1, those before at /v1beta."""
    return (f"/v1beta/models/{{model}}:{method}", f"/v1/models/{{model}}:{method}")


def _places(**names: str) -> dict[str, tuple[str, ...]]:
    """Places in `generationConfig`, in both of the spellings that protocol buffers have."""
    return {name: (f"generationConfig.{place}", f"generationConfig.{_snake(place)}") for name, place in names.items()}


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda letter: "_" + letter[1].lower(), name)


_SPELLINGS = {
    "generation_config": "generationConfig",
    "system_instruction": "systemInstruction",
    "tool_config": "toolConfig",
}
_CONVERSATION = Conversation(
    messages="contents",
    content="parts",
    part={},
    system="systemInstruction",
    roles={"assistant": "model"},
    is_list=True,
    takes_system=False,
)
_FORM = Form(
    places={
        **_places(
            temperature="temperature",
            top_p="topP",
            top_k="topK",
            seed="seed",
            n="candidateCount",
            max_tokens="maxOutputTokens",
            stop="stopSequences",
            presence_penalty="presencePenalty",
            frequency_penalty="frequencyPenalty",
            logprobs="responseLogprobs",
            top_logprobs="logprobs",
            reasoning="thinkingConfig",
        ),
        "output": tuple(
            place
            for name in ("responseMimeType", "responseJsonSchema", "responseSchema")
            for place in (f"generationConfig.{name}", f"generationConfig.{_snake(name)}")
        ),
        "tools": ("tools",),
        "tool_choice": ("toolConfig",),
    },
    conversation=_CONVERSATION,
    spellings=_SPELLINGS,
)

chat = Endpoint(
    kind="chat",
    paths=_paths("generateContent"),
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=Reader,
    stream_writer=Writer,
    takes_image_urls=False,
    image_hosts=IMAGE_HOSTS,
    documents="bytes",
    form=_FORM,
)
chat_stream = replace(
    chat,
    name="chat_stream",
    paths=_paths("streamGenerateContent"),
    read_request=read_stream_request,
    # An empty line is nothing, as an event or inside a JSON array; Google's SDKs take comments for broken JSON.
    keepalive=b"\n",
)
count_tokens = Endpoint(
    kind="count",
    paths=_paths("countTokens"),
    read_request=count.read_request,
    write_request=count.write_request,
    read_answer=count.read_answer,
    write_answer=count.write_answer,
    takes_image_urls=False,
    image_hosts=IMAGE_HOSTS,
    documents="bytes",
    form=Form(conversation=_CONVERSATION, spellings=_SPELLINGS),
)
embed_batch = Endpoint(
    kind="embeddings",
    paths=_paths("batchEmbedContents"),
    read_request=embeddings.read_batch_request,
    write_request=embeddings.write_batch_request,
    read_answer=embeddings.read_batch_answer,
    write_answer=embeddings.write_batch_answer,
)
embed = Endpoint(
    kind="embeddings",
    name="embed_content",
    paths=_paths("embedContent"),
    read_request=embeddings.read_request,
    write_request=embeddings.write_request,
    read_answer=embeddings.read_answer,
    write_answer=embeddings.write_answer,
)
list_models = Endpoint(
    kind="models",
    paths=("/v1beta/models", "/v1/models"),
    method="GET",
    read_request=models.read_request,
    write_request=models.write_request,
    read_answer=models.read_answer,
    write_answer=models.write_answer,
)
get_model = replace(list_models, kind="model", paths=("/v1beta/models/{model}", "/v1/models/{model}"))

dialect = Dialect(
    name="gemini",
    doc="Gemini: generateContent, streamGenerateContent, countTokens, embeddings, models",
    base="/v1beta",
    endpoints=(chat, chat_stream, count_tokens, embed_batch, embed, list_models, get_model),
    write_error=write_error,
    write_stream_error=write_error,
    limit_style="general",
    usage_mark=b'"usageMetadata"',
    read_usage=read_usage,
    key_field="x-goog-api-key",
    key_prefix="",
    probe=("/v1beta/models", _lists_models),
    sign="x-goog-api-key",
)
