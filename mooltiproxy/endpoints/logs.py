"""logs: GET /-/logs, what a model server that the proxy has started says, and with `follow=true` what it will say."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from urllib.parse import parse_qs

from aiohttp import web

from mooltiproxy.config.model import Config
from mooltiproxy.engines.access import Access
from mooltiproxy.engines.logs import Follower, Log
from mooltiproxy.errors import BadRequest, MethodNotAllowed, NotFound
from mooltiproxy.exchange import EXCHANGE, Exchange

MOST_LINES = 1_000_000
FLAGS = {"true": True, "1": True, "": False, "false": False, "0": False}
LAST_WRITE = 0.5
"""Seconds that who follows has to take the last lines, when the log ends."""
UNCACHED = {"cache-control": "no-store", "x-accel-buffering": "no"}


def logs(config: Config, engines: Access) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """An endpoint that shows the log of the server of `?model=` or `?target=` as text: the last `lines=`, all that are
    kept by default. With `follow=true` it goes on until the client leaves or the proxy ends."""

    async def endpoint(request: web.BaseRequest) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        if request.method != "GET":
            raise MethodNotAllowed("logs are read with a GET")
        fields = {name: values[-1] for name, values in parse_qs(exchange.query, keep_blank_values=True).items()}
        count, follow = _count(fields.get("lines", "")), _flag(fields.get("follow", ""))
        log = await engines.log_of(await _engine(config, engines, fields.get("model"), fields.get("target")))
        begin = _text(log.history(count))
        if not follow:
            return web.Response(text=begin, headers=UNCACHED)
        return await _followed(request, exchange, log, begin)

    return endpoint


async def _followed(request: web.BaseRequest, exchange: Exchange, log: Log, begin: str) -> web.StreamResponse:
    follower = log.follow()
    response = web.StreamResponse(headers={**UNCACHED, "Server": "mooltiproxy"})
    response.content_type, response.charset = "text/plain", "utf-8"
    for name, value in exchange.headers:
        response.headers.add(name.decode("ascii"), value.decode("latin-1"))
    try:
        await response.prepare(request)
        await _copy(begin, follower, response)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    finally:
        follower.end()
    return response


async def _copy(begin: str, follower: Follower, response: web.StreamResponse) -> None:
    """Write lines as they come. Raises TimeoutError when the log has ended and the client does not take the last ones:
    the proxy may have to end."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:

        def hurry(ended: "asyncio.Future[None]") -> None:
            with suppress(RuntimeError):  # all has been written
                limit.reschedule(loop.time() + LAST_WRITE)

        follower.ended.add_done_callback(hurry)
        await response.write(begin.encode())
        async for lines in follower:
            await response.write(_text(lines).encode())


async def _engine(config: Config, engines: Access, model: str | None, target: str | None) -> str:
    """The name of the engine; raises NotFound, BadRequest."""
    if (model is None) == (target is None):
        raise BadRequest("name either `model=` or `target=`", param="model")
    if model is not None and model not in config.models:
        raise NotFound("there is no such model: see `models:` in the proxy's configuration", param="model")
    name = target or "" if model is None else config.models[model].target
    if name not in config.targets:
        raise NotFound("there is no such target: see `targets:` in the proxy's configuration", param="target")
    run = config.targets[name].run
    of_target = [one for one in await engines.states() if one.target == name]
    if run is None or run.engine is not None or not of_target:
        raise NotFound(f"target {name} has no server that the proxy starts: its log is elsewhere")
    found = [one for one in of_target if model in one.models] or of_target
    if len(found) > 1:
        raise BadRequest(f"target {name} has a server for each of its models: name one of those", param="model")
    return found[0].name


def _count(text: str) -> int:
    if not text:
        return MOST_LINES
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise BadRequest("`lines` is how many lines to show: a whole number", param="lines")
    return int(text)


def _flag(text: str) -> bool:
    if text not in FLAGS:
        raise BadRequest("`follow` is true or false", param="follow")
    return FLAGS[text]


def _text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
