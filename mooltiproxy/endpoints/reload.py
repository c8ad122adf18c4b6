"""reload: POST /-/reload reads the configuration anew, as SIGHUP does, and says what has changed."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import orjson
from aiohttp import web

from mooltiproxy.errors import MethodNotAllowed


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reload has ended: `lines` are what has changed, in the words of `mooltiproxy plan`, or else what is wrong
    with the configuration, of which nothing is in force then."""

    is_done: bool
    lines: Sequence[str]


Reload = Callable[[], Awaitable[Outcome]]
"""Reads the configuration anew and puts it in force, in all processes that serve."""

NOTHING_TO_RELOAD = "nothing to reload: the proxy was started without a configuration file"


def reload(again: Reload) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """An endpoint that answers when it is done: 200 with `changes`, or 400 with `problems`."""

    async def endpoint(request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "POST":
            raise MethodNotAllowed("reloading takes a POST")
        outcome = await again()
        body = {"reloaded": outcome.is_done, "changes" if outcome.is_done else "problems": outcome.lines}
        return web.Response(
            status=200 if outcome.is_done else 400, body=orjson.dumps(body), content_type="application/json"
        )

    return endpoint
