"""Counts of a request's tokens: `POST /v1/responses/input_tokens` (platform.openai.com/docs/api-reference/responses,
November 2026), and for targets that do not have it vLLM's `POST /tokenize` (docs.vllm.ai, November 2026)."""

from typing import Any

from mooltiproxy.errors import BadRequest, UpstreamBroken, UpstreamError
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.forms import Form
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.neutral import CountAnswer, Request
from mooltiproxy.mapping.tool_names import renamed_tools

from . import responses
from .chat import function_fields
from .common import NAMES, count_in, write_model
from .messages import write_messages
from .tools import nested, write_tools


def write_request(request: Request, config: Config) -> Written:
    """A request to have the input counted: nothing that only shapes the answer belongs to it; raises BadRequest."""
    dropped = sorted(request.extra)
    return Written(responses.write_input(request, config, dropped), tuple(dropped))


def read_answer(body: Any, request: Request) -> CountAnswer:
    """The number of tokens; raises UpstreamBroken where there is none."""
    return _read_count(body, "input_tokens")


def write_answer(answer: CountAnswer, request: Request) -> dict[str, Any]:
    """The number of tokens for a client."""
    return {"object": "response.input_tokens", "input_tokens": answer.tokens}


def write_tokenize_request(request: Request, config: Config) -> Written:
    """A request to have a conversation made a prompt and that one's tokens counted; raises BadRequest."""
    if request.prompt is not None:
        raise BadRequest("this endpoint of the target takes messages, not a prompt", param="prompt")
    dropped = sorted(request.extra)
    names = renamed_tools(request, NAMES)
    body: dict[str, Any] = write_model(request.model, config)
    body["messages"] = write_messages(request.turns, dropped, names)
    if request.tools:
        body["tools"] = write_tools(request, names, nested, function_fields)["tools"]
    body["add_generation_prompt"] = True
    return Written(body, tuple(dropped))


def read_tokenize_answer(body: Any, request: Request) -> CountAnswer:
    """The number of tokens; raises UpstreamError with status 404 for a server whose /tokenize takes a text only
    (llama.cpp): it has no tokens for a conversation, and no fault either."""
    if isinstance(body, dict) and body.get("tokens") == [] and "count" not in body:
        message = "this target cannot count the tokens of a conversation: its /tokenize takes a text only"
        raise UpstreamError(message, status=404)
    return _read_count(body, "count")


def _read_count(body: Any, name: str) -> CountAnswer:
    raise_failure(body)
    tokens = count_in(body, name)
    if tokens is None:
        raise UpstreamBroken(f"the target's answer has no {name}")
    return CountAnswer(tokens)


endpoint = Endpoint(
    kind="count",
    name="input_tokens",
    form=Form(conversation=responses.CONVERSATION),
    paths=("/v1/responses/input_tokens", "/responses/input_tokens"),
    read_request=responses.read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
)
tokenize_endpoint = Endpoint(
    kind="count",
    name="tokenize",
    paths=(),
    target_path="/tokenize",
    documents="pdf",
    read_request=responses.read_request,
    write_request=write_tokenize_request,
    read_answer=read_tokenize_answer,
    write_answer=write_answer,
)
"""For targets only: clients of `/tokenize` want the tokens themselves, which no other API tells."""
