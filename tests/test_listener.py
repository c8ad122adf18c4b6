"""Hostile and clumsy requests, as raw bytes: what is not plain HTTP/1.1 is refused, and nothing of it is repeated."""

import asyncio
import time

import orjson
import pytest

from mooltiproxy import listener
from tests.servers.proxy import KEY, head, passing, proxy
from tests.servers.scripted import Peer, Received, answer, answering, upstream

PATH = "/chat/completions"
START = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n".encode()


def status(data: bytes) -> int:
    return int(data.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "rest",
    [
        b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"content-length: -1\r\n\r\n",
        b"content-length: +2\r\n\r\nab",
        b"content-length: 0x2\r\n\r\nab",
        b"content-length: 1, 1\r\n\r\na",
        b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        b"x y: 1\r\n\r\n",
        b" folded: 1\r\n\r\n",
        b"x: a\x00b\r\n\r\n",
        b"x: a\rb\r\n\r\n",
        b"target: one\rtwo\r\n\r\n",
        b"no colon\r\n\r\n",
    ],
)
async def test_malformed_framing_is_refused_and_the_connection_closed(rest: bytes) -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        got = await running.raw(START + rest + b"GET /smuggled HTTP/1.1\r\n\r\n")
        assert 400 <= status(got) < 500
        assert got.count(b"HTTP/1.1") == 1
        assert KEY.encode() not in got
    assert all("smuggled" not in received.line for received in up.requests)


@pytest.mark.parametrize(
    "line",
    [b"rubbish", b"GET", b"GET /", b"GET / HTTP/9.9", b"PRI * HTTP/2.0", b"GET / HTTP/0.9", b"\x16\x03\x01\x02"],
)
async def test_what_is_not_http_is_refused(line: bytes) -> None:
    async with proxy(passing("http://127.0.0.1:1")) as running:
        got = await running.raw(line + b"\r\nhost: x\r\n\r\n", then_close=True)
        assert got == b"" or 400 <= status(got) <= 505
        assert b"200 OK" not in got


@pytest.mark.parametrize("name", ["line", "field", "many"])
async def test_heads_without_measure_are_refused(name: str) -> None:
    heads = {
        "line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        "field": START + b"x: " + b"a" * 20_000 + b"\r\n\r\n",
        "many": START + b"".join(b"x%d: 1\r\n" % number for number in range(500)) + b"\r\n",
    }
    async with proxy(passing("http://127.0.0.1:1")) as running:
        assert status(await running.raw(heads[name])) in (400, 414, 431)


async def test_a_refusal_of_the_parser_has_openais_form_and_a_request_id() -> None:
    async with proxy(passing("http://127.0.0.1:1")) as running:
        head, _, body = (await running.raw(b"rubbish\r\n\r\n")).partition(b"\r\n\r\n")
    error = orjson.loads(body)["error"]
    assert error["type"] == "invalid_request_error"
    assert b"x-request-id: " in head
    assert b"rubbish" not in body


async def test_a_pipelined_second_request_needs_its_own_key() -> None:
    async with upstream(answering(answer(b"first"))) as up, proxy(passing(up.url)) as running:
        second = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode()
        got = await running.raw(START + b"content-length: 0\r\n\r\n" + second)
    assert got.count(b"HTTP/1.1 200") == 1
    assert got.count(b"HTTP/1.1 401") == 1
    assert len(up.requests) == 1


ASTRAY = ["/%2e%2e/x", "/../x", "/chat/%2e%2e/chat/completions", "//chat/completions", PATH + "%2f"]


@pytest.mark.parametrize("path", ASTRAY)
async def test_a_path_cannot_leave_its_mapping(path: str) -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        got = await running.raw(head(f"GET {path}"))
        assert status(got) == 404
    assert up.requests == []


async def test_the_absolute_form_goes_where_its_path_says_and_nowhere_else() -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        head = f"GET http://127.0.0.9:1{PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n"
        assert status(await running.raw(head.encode())) == 200
    assert up.requests[0].line == f"GET {PATH} HTTP/1.1"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
async def test_connect_and_trace_are_never_forwarded(method: str) -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        target = "x:1" if method == "CONNECT" else PATH
        got = await running.raw(head(f"{method} {target}"))
        assert status(got) in (400, 405)
    assert up.requests == []


async def test_an_upgrade_is_not_tunnelled() -> None:
    async with upstream(answering(answer(b"plain"))) as up, proxy(passing(up.url)) as running:
        fields = b"connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n"
        assert b"200 OK" in await running.raw(START + fields)
    assert up.requests[0].value("upgrade") is None


async def test_a_head_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEAD_TIMEOUT", 0.5)
    async with proxy(passing("http://127.0.0.1:1")) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\n")
        async with asyncio.timeout(3):
            assert await reader.read() == b""
        writer.close()


async def test_a_body_that_stops_is_answered_with_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mooltiproxy.exchange.BODY_IDLE", 0.3)
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(START + b"content-length: 100\r\n\r\nabc")
        async with asyncio.timeout(3):
            assert b"408" in await reader.readline()
        writer.close()


async def test_slow_clients_do_not_disturb_others() -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        slow = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(300)]
        for _, writer in slow:
            writer.write(b"POST / HTTP/1.1\r\nhost:")
        started = time.monotonic()
        async with running.client.post(PATH, data=b"{}") as response:
            assert response.status == 200
        assert time.monotonic() - started < 5
        for _, writer in slow:
            writer.close()


async def test_sender_without_a_key_is_answered_before_its_body_is_read() -> None:
    async with proxy(passing("http://127.0.0.1:1")) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 50000000\r\n\r\n".encode())
        assert b"401" in await reader.readline()
        writer.close()


async def test_a_transfer_coding_other_than_chunked_is_refused() -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        got = await running.raw(START + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
        assert 400 <= status(got) <= 501
    assert up.requests == []


async def test_half_a_head_behind_a_request_is_cut_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEAD_TIMEOUT", 0.5)
    may_answer = asyncio.Event()

    async def script(peer: Peer, received: Received) -> None:
        await may_answer.wait()
        await peer.send(answer())

    async with upstream(script) as up, proxy(passing(up.url)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(START + b"content-length: 0\r\n\r\n")
        await up.asked.wait()
        writer.write(b"POST / HT")
        await writer.drain()
        await asyncio.sleep(0.05)
        may_answer.set()
        async with asyncio.timeout(3):
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.parametrize("path", ["/ping", PATH, "/unknown"])
async def test_no_answer_of_ours_says_what_it_is_made_with(path: str) -> None:
    async with proxy(passing("http://127.0.0.1:1")) as running:
        for method in ("GET", "OPTIONS"):
            async with running.client.request(method, path) as response:
                assert response.headers["server"] == "mooltiproxy"
