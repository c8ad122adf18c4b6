"""Text Generation Inference's own API (huggingface.github.io/text-generation-inference), as of its release 3.3.

`/generate`, its stream, `/`, `/info` and `/health`. `/` is what huggingface_hub's InferenceClient asks. It takes the
same requests, streams by their `stream`, answers whole in a list, and repeats the prompt in `generated_text` unless
told otherwise.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mooltiproxy.errors import ProxyError
from mooltiproxy.mapping.dialect import Dialect, Endpoint
from mooltiproxy.mapping.forms import Form
from mooltiproxy.mapping.neutral import Request, Usage

from . import info
from .answers import read_chat_answer, read_count, read_text_answer, write_answer, write_root_answer
from .answers import read_usage as usage_of_details
from .reading import read_request, read_root_request, read_stream_request
from .stream import Writer, chat_reader, text_reader
from .writing import write_chat_request, write_count_request, write_text_request

_ERROR_TYPES = {400: "validation", 422: "validation", 424: "generation", 429: "overloaded", 503: "overloaded"}


def write_error(error: ProxyError, request_id: str) -> dict[str, Any]:
    """The body of an error answer; the id has its place in a header only."""
    return {"error": str(error), "error_type": _ERROR_TYPES.get(error.status, "incomplete_generation")}


def read_usage(told: Any, fields: Mapping[str, str]) -> Usage | None:
    """What an answer (the whole one of `/` is a list) or the last event of a stream tells of tokens."""
    whole = told[0] if isinstance(told, list) and told else told
    details = whole.get("details") if isinstance(whole, dict) else None
    return usage_of_details(details, Request(answer_fields=fields))


_PLACES = {
    name: (f"parameters.{name}",)
    for name in ("top_p", "top_k", "typical_p", "seed", "frequency_penalty", "repetition_penalty", "stop")
}

text_endpoint = Endpoint(
    kind="text",
    paths=("/generate",),
    read_request=read_request,
    write_request=write_text_request,
    read_answer=read_text_answer,
    write_answer=write_answer,
    stream_reader=text_reader,
    stream_writer=Writer,
    stream_path="/generate_stream",
    form=Form(
        places={
            **_PLACES,
            "temperature": ("parameters.temperature", "parameters.do_sample"),
            "max_tokens": ("parameters.max_new_tokens",),
            "output": ("parameters.grammar",),
        }
    ),
)
chat_endpoint = replace(
    text_endpoint,
    kind="chat",
    write_request=write_chat_request,
    read_answer=read_chat_answer,
    stream_reader=chat_reader,
    documents="text",
)
"""For targets only: no client sends messages here. It stands behind the text endpoint, to which the path leads."""

count_endpoint = replace(
    text_endpoint,
    kind="count",
    paths=(),
    target_path="/tokenize",
    write_request=write_count_request,
    read_answer=read_count,
    stream_reader=None,
    stream_writer=None,
    stream_path=None,
    documents="text",
)
"""For targets only: clients of `/tokenize` want the tokens themselves, which no other API tells."""

stream_endpoint = replace(
    text_endpoint, paths=("/generate_stream",), read_request=read_stream_request, stream_path=None
)
root_endpoint = replace(text_endpoint, paths=("/",), read_request=read_root_request, write_answer=write_root_answer)

dialect = Dialect(
    name="tgi",
    doc="Text Generation Inference: generate, generate_stream, /, info, health",
    base="",
    endpoints=(
        text_endpoint,
        chat_endpoint,
        count_endpoint,
        stream_endpoint,
        root_endpoint,
        info.endpoint,
        info.health_endpoint,
    ),
    write_error=write_error,
    write_stream_error=write_error,
    limit_style="general",
    usage_mark=b'"generated_tokens"',
    read_usage=read_usage,
    probe=("/info", lambda status, body: isinstance(body, dict) and "model_id" in body),
    other_paths=frozenset(
        ["/info", "/health", "/ping", "/metrics", "/tokenize", "/chat_tokenize", "/invocations"],
    ),
)
