"""`countTokens` (ai.google.dev/api/tokens), both ways."""

from typing import Any

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.dialect import Config, Written
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.neutral import NOWHERE, Asked, CountAnswer, Request

from .fields import ProtoFields
from .names import model_path, plain_model
from .read_request import read_fields
from .write_request import write_contents


def read_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The input to count, given as `contents` alone or as a whole request; raises BadRequest."""
    fields = ProtoFields(body)
    return read_fields(fields.object("generateContentRequest") or fields, asked)


def write_request(request: Request, config: Config) -> Written:
    """A request for a target of this dialect; raises BadRequest for what it cannot be asked."""
    path = model_path(request.model, "countTokens")
    dropped = sorted(request.extra)
    contents = write_contents(request, dropped)
    if contents.keys() == {"contents"}:
        return Written(contents, tuple(dropped), path)
    whole = {"model": f"models/{plain_model(request.model)}", **contents}
    return Written({"generateContentRequest": whole}, tuple(dropped), path)


def read_answer(body: Any, request: Request) -> CountAnswer:
    """The number of tokens; raises UpstreamBroken where there is none."""
    raise_failure(body)
    tokens = body.get("totalTokens") if isinstance(body, dict) else None
    if not isinstance(tokens, int):
        raise UpstreamBroken("the target's answer has no totalTokens")
    return CountAnswer(tokens)


def write_answer(answer: CountAnswer, request: Request) -> dict[str, Any]:
    """The number of tokens for a client."""
    return {"totalTokens": answer.tokens}
