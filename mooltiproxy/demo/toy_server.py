"""A small, strict model server that speaks TGI's HTTP API, with switches for the faults that real servers have.

It backs `mooltiproxy demo` and the tests. `python -m mooltiproxy.demo --help` lists the switches. With --log it writes
one JSON line per event: `request` (method, path, headers, body), `started`, then `finished`, `failed`, `cut` or
`client_gone`; each with the request's number `id` and `time` in seconds since 1970.
"""

import argparse
import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TextIO

import orjson
from aiohttp import web

import mooltiproxy
from mooltiproxy.demo.generation import Generation
from mooltiproxy.demo.language_model import BOS, TEXT, LanguageModel, Step, pieces
from mooltiproxy.demo.parameters import (
    MAX_BEST_OF,
    MAX_INPUT_TOKENS,
    MAX_STOP_SEQUENCES,
    MAX_TOTAL_TOKENS,
    Invalid,
    Malformed,
    Request,
    read_request,
)

HOLDER = Path(__file__).parent / "holder.py"
MAX_BODY = 2_000_000
COMMENT_EVERY = 15.0
"""Seconds of silence after which a stream gets an SSE comment, so that nobody takes it for dead."""
ERROR_TYPES = {
    422: "validation",
    424: "generation",
    429: "overloaded",
    500: "incomplete_generation",
    503: "healthcheck",
}
ENDED = web.RequestKey("ended", str)
NUMBER = web.RequestKey("number", int)


class GenerationFailed(Exception):
    """The fault that --fail-after asks for."""


class Log:
    """Appends events as JSON lines; without a file it writes nothing."""

    def __init__(self, file: Path | None) -> None:
        self._out: TextIO | None = file.open("a", buffering=1, encoding="utf-8") if file else None

    def write(self, event: str, number: int, **facts: Any) -> None:
        """Write one event of the request with this number."""
        if self._out:
            line = {"event": event, "id": number, "time": time.time(), **facts}
            self._out.write(orjson.dumps(line).decode() + "\n")


class ToyServer:
    """The HTTP side: TGI's paths, its errors, and the faults asked for in `options` (see `parse_options`)."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._model = LanguageModel(TEXT.read_text(encoding="utf-8"))
        self._log = Log(options.log)
        self._numbers = count(1)
        self._loaded = math.inf if options.crash_loading else time.monotonic() + options.load_time

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._watch])
        app.router.add_post("/", self._root)
        app.router.add_post("/generate", self._generate)
        app.router.add_post("/generate_stream", self._generate_stream)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_get("/info", self._info)
        for path in ("/health", "/ping"):
            app.router.add_get(path, self._health)
        return app

    @web.middleware
    async def _watch(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        number = request[NUMBER] = next(self._numbers)
        self._log.write("request", number, **await _facts(request))
        if time.monotonic() < self._loaded:
            return _json({"error": "the toy is loading", "error_type": ERROR_TYPES[503]}, 503)
        try:
            response = await handler(request)
        except (asyncio.CancelledError, ConnectionResetError):
            if request.transport is None or request.transport.is_closing():
                self._log.write("client_gone", number)
            raise
        self._log.write(request.get(ENDED, "finished"), number)
        return response

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _info(self, request: web.Request) -> web.Response:
        return _json(
            {
                "model_id": "mooltiproxy/toy",
                "model_sha": None,
                "model_pipeline_tag": "text-generation",
                "max_concurrent_requests": 4096,
                "max_best_of": MAX_BEST_OF,
                "max_stop_sequences": MAX_STOP_SEQUENCES,
                "max_input_tokens": MAX_INPUT_TOKENS,
                "max_total_tokens": MAX_TOTAL_TOKENS,
                "validation_workers": 1,
                "max_client_batch_size": 1,
                "router": "text-generation-router",
                "version": mooltiproxy.__version__,
                "sha": None,
                "docker_label": None,
            }
        )

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await _read(request)
        return body if isinstance(body, web.Response) else _json(_tokens(self._model, body.inputs))

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await _read(request)
        return body if isinstance(body, web.Response) else await self._whole(request, body, full_text=False)

    async def _generate_stream(self, request: web.Request) -> web.StreamResponse:
        body = await _read(request)
        return body if isinstance(body, web.Response) else await self._stream(request, body, full_text=False)

    async def _root(self, request: web.Request) -> web.StreamResponse:
        body = await _read(request)
        if isinstance(body, web.Response):
            return body
        return await (self._stream if body.stream else self._whole)(request, body, full_text=True)

    async def _whole(self, request: web.Request, body: Request, *, full_text: bool) -> web.StreamResponse:
        began = time.perf_counter()
        if self._options.status:
            return self._refusal(request)
        try:
            generation = Generation(self._model, body, streams=False, full_text=full_text)
            self._log.write("started", request[NUMBER])
            steps = [step async for step in self._paced(generation)]
        except (Invalid, GenerationFailed) as error:
            request[ENDED] = "failed"
            return _json(_error_body(error), 422 if isinstance(error, Invalid) else 424)
        answer = _json([generation.answer()] if full_text else generation.answer())
        answer.headers.update(_timing(generation, time.perf_counter() - began, len(body.inputs)))
        if len(steps) == self._options.cut_after:
            return await self._half(request, answer)
        return answer

    async def _stream(self, request: web.Request, body: Request, *, full_text: bool) -> web.StreamResponse:
        if self._options.status:
            return self._refusal(request)
        response = web.StreamResponse(headers=_stream_headers(body))
        await response.prepare(request)
        sent = 0
        try:
            generation = Generation(self._model, body, streams=True, full_text=full_text)
            self._log.write("started", request[NUMBER])
            async for step in self._paced(generation, response):
                await response.write(_event(generation.event(step)))
                sent += 1
                if sent == self._options.crash_after:
                    _crash("the toy was told to crash in an answer")
        except (Invalid, GenerationFailed) as error:
            request[ENDED] = "failed"
            await response.write(_event(_error_body(error)))
        if sent == self._options.cut_after:
            self._cut(request)
        return response

    async def _paced(self, generation: Generation, response: web.StreamResponse | None = None) -> AsyncIterator[Step]:
        """The steps at the speed asked for, up to the fault asked for."""
        options = self._options
        await _pause(options.first_delay, response)
        if options.cut_after == 0:
            return
        for number, step in enumerate(generation.run()):
            if number == options.fail_after:
                raise GenerationFailed("Request failed during generation: the toy was told to fail")
            if number:
                await _pause(options.delay, response)
            yield step
            if number + 1 == options.cut_after:
                return

    async def _half(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        """Send half of a whole answer, then cut."""
        body = bytes(answer.body) if isinstance(answer.body, bytes) else b""
        response = web.StreamResponse(headers={**answer.headers, "content-length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        self._cut(request)
        return response

    def _cut(self, request: web.Request) -> None:
        request[ENDED] = "cut"
        if request.transport:
            request.transport.abort()

    def _refusal(self, request: web.Request) -> web.Response:
        request[ENDED] = "failed"
        status = self._options.status
        kind = ERROR_TYPES.get(status, "unknown")
        return _json({"error": f"the toy was told to answer {status}", "error_type": kind}, status)


def _crash(last_words: str) -> None:
    print(last_words, file=sys.stderr, flush=True)
    os._exit(1)


async def _facts(request: web.Request) -> dict[str, Any]:
    """What the log keeps of a request: header names in lower case, repeated ones joined by a comma."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    raw = await request.read()
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = raw.decode("utf-8", "replace")
    return {"method": request.method, "path": request.raw_path, "headers": headers, "body": body}


async def _read(request: web.Request) -> Request | web.Response:
    """The request, or the plain-text refusal of TGI's JSON reader."""
    if request.content_type != "application/json":
        return web.Response(status=415, text="Expected request with `Content-Type: application/json`")
    try:
        return read_request(orjson.loads(await request.read()))
    except orjson.JSONDecodeError as error:
        return web.Response(status=400, text=f"Failed to parse the request body as JSON: {error}")
    except Malformed as error:
        return web.Response(status=422, text=f"Failed to deserialize the JSON body into the target type: {error}")


async def _pause(seconds: float, response: web.StreamResponse | None) -> None:
    while seconds > COMMENT_EVERY:
        await asyncio.sleep(COMMENT_EVERY)
        seconds -= COMMENT_EVERY
        if response:
            await response.write(b":\n\n")
    await asyncio.sleep(seconds)


def _tokens(model: LanguageModel, text: str) -> list[dict[str, Any]]:
    tokens: list[dict[str, Any]] = [{"id": model.token(BOS).id, "text": "", "start": 0, "stop": 0}]
    start = 0
    for piece in pieces(text):
        tokens.append({"id": model.token(piece).id, "text": piece, "start": start, "stop": start + len(piece)})
        start += len(piece)
    return tokens


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


def _event(body: Any) -> bytes:
    return b"data:" + orjson.dumps(body) + b"\n\n"


def _error_body(error: Invalid | GenerationFailed) -> dict[str, str]:
    if isinstance(error, Invalid):
        return {"error": f"Input validation error: {error}", "error_type": "validation"}
    return {"error": str(error), "error_type": "generation"}


def _stream_headers(body: Request) -> dict[str, str]:
    return {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-compute-type": "cpu",
        "x-compute-characters": str(len(body.inputs)),
        "x-accel-buffering": "no",
    }


def _timing(generation: Generation, seconds: float, characters: int) -> dict[str, str]:
    """The measurements that TGI sends with a whole answer; times in milliseconds, compute time in seconds."""
    total = round(seconds * 1000)
    return {
        "x-compute-type": "cpu",
        "x-compute-time": f"{seconds:.3f}",
        "x-compute-characters": str(characters),
        "x-total-time": str(total),
        "x-validation-time": "0",
        "x-queue-time": "0",
        "x-inference-time": str(total),
        "x-time-per-token": str(total // max(len(generation.steps), 1)),
        "x-prompt-tokens": str(generation.input_length),
        "x-generated-tokens": str(len(generation.steps)),
    }


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of the toy server."""
    parser = argparse.ArgumentParser("python -m mooltiproxy.demo", description="A toy model server that speaks TGI.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="pause between two tokens")
    parser.add_argument("--first-delay", type=float, default=0.0, metavar="SECONDS", help="pause before the first one")
    parser.add_argument("--cut-after", type=int, metavar="N", help="cut the connection after N tokens")
    parser.add_argument("--fail-after", type=int, metavar="N", help="fail with an error after N tokens")
    parser.add_argument("--status", type=int, metavar="CODE", help="answer every generation with this error status")
    parser.add_argument(
        "--load-time", type=float, default=0.0, metavar="SECONDS", help="answer 503 for so long; inf: ever"
    )
    parser.add_argument("--crash-loading", action="store_true", help="crash when that time is over")
    parser.add_argument("--crash-after", type=int, metavar="N", help="crash after N tokens of a stream")
    parser.add_argument("--ignore-sigterm", action="store_true", help="only SIGKILL ends it")
    parser.add_argument("--hold", type=int, default=0, metavar="MIB", help="hold so much memory")
    parser.add_argument("--hold-after", type=float, default=0.0, metavar="SECONDS", help="so long after its end, too")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append one JSON line per event")
    return parser.parse_args(argv)


@contextmanager
def _holding(mebibytes: int, seconds: float) -> Iterator[None]:
    """Have memory held until so long after our end, by a process of a session of its own that nobody stops with us."""
    if not mebibytes:
        yield
        return
    command = [sys.executable, "-IS", str(HOLDER), str(mebibytes), str(seconds)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    yield


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    if sys.platform != "win32":
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, stop.set)
        loop.add_signal_handler(signal.SIGTERM, (lambda: None) if options.ignore_sigterm else stop.set)
    runner = web.AppRunner(
        ToyServer(options).application(),
        access_log=None,
        auto_decompress=False,
        handler_cancellation=True,
        shutdown_timeout=0.1,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", options.port, backlog=1024).start()
        if options.crash_loading:
            asyncio.get_running_loop().call_later(options.load_time, _crash, "the toy was told to crash while loading")
        print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; 3 if the port cannot be had."""
    options = parse_options(argv)
    try:
        with _holding(options.hold, options.hold_after):
            asyncio.run(_serve(options))
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(f"the toy server cannot start: {error}", file=sys.stderr)
        return 3
    return 0
