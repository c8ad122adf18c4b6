"""What the forwarder does with bodies, headers, broken upstreams and leaving clients."""

import asyncio
import gc
import io
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from mooltiproxy.exchange import Exchange
from mooltiproxy.upstream.relay import Relay
from tests.servers.proxy import BEARER, KEY, head, passing, proxy
from tests.servers.scripted import STREAM_HEAD, Peer, Received, Script, answer, answering, chunk, upstream

PATH = "/chat/completions"
BODY = b'{"model": "m", "x": 1.0,   "messages": []}'


async def test_body_and_answer_pass_byte_for_byte() -> None:
    async with upstream(answering(answer(b'{"id":  "1"}'))) as up, proxy(passing(up.url)) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert (response.status, await response.read()) == (200, b'{"id":  "1"}')
    assert up.requests[0].body == BODY
    assert up.requests[0].line == f"POST {PATH} HTTP/1.1"


async def test_clients_whose_base_url_ends_in_v1_meet_mappings_without_it() -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        async with running.client.post(f"/v1{PATH}", data=BODY) as response:
            assert response.status == 200
    assert up.requests[0].line.split()[1] == PATH


async def test_a_path_of_another_name_is_asked_for_below_the_targets_base() -> None:
    async with upstream(answering(answer())) as up:
        config = passing(up.url)
        config["targets"]["one"] |= {"url": f"{up.url}/api", "mapping": {"/chat": "/generate"}}
        async with proxy(config) as running, running.client.post(URL("/chat?a=1&b=%2F", encoded=True)) as response:
            assert response.status == 200
    assert up.requests[0].line == "POST /api/generate?a=1&b=%2F HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_any_method_is_forwarded(method: str) -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        async with running.client.request(method, PATH) as response:
            assert response.status == 200
    assert up.requests[0].line.startswith(method)


async def test_an_answer_to_head_has_the_length_and_no_body() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n"
    async with upstream(answering(head)) as up, proxy(passing(up.url)) as running:
        for _ in range(2):
            async with running.client.head(PATH) as response:
                assert response.headers["content-length"] == "12345"


async def test_a_large_body_is_streamed_with_its_length() -> None:
    body = b"x" * 3_000_000
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        async with running.client.post(PATH, data=io.BytesIO(body)) as response:
            assert response.status == 200
    assert up.requests[0].value("content-length") == "3000000"
    assert up.requests[0].body == body


async def test_a_chunked_body_is_forwarded_in_chunks() -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"part"

        async with running.client.post(PATH, data=parts()) as response:
            assert response.status == 200
    assert up.requests[0].value("transfer-encoding") == "chunked"
    assert up.requests[0].body == b"part" * 3


async def test_the_first_piece_of_a_body_reaches_the_target_before_the_last_is_sent() -> None:
    arrived = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"first")
        arrived.set()
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(answer())
        await reader.read()
        writer.close()

    server = await asyncio.start_server(script, "127.0.0.1", 0)
    async with proxy(passing(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")) as running:

        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            await arrived.wait()
            yield b"last"

        async with running.client.post(PATH, data=parts()) as response:
            assert response.status == 200
    server.close()


async def test_each_chunk_of_a_stream_arrives_before_the_next_is_sent() -> None:
    may_go_on = asyncio.Event()

    async def script(peer: Peer, received: Received) -> None:
        await peer.send(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await may_go_on.wait()
        await peer.send(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    async with upstream(script) as up, proxy(passing(up.url)) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert await response.content.readuntil(b"\n\n") == b"data: 1\n\n"
            may_go_on.set()
            assert await response.content.read() == b"data: 2\n\n"


async def test_a_compressed_answer_passes_with_its_encoding() -> None:
    packed = b"\x1f\x8bnot really gzip"
    async with upstream(answering(answer(packed, "content-encoding: gzip"))) as up, proxy(passing(up.url)) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert response.headers["content-encoding"] == "gzip"
            assert await response.read() == packed


async def test_an_answer_without_length_ends_with_the_upstreams_connection() -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nall there is")
        peer.writer.close()

    async with upstream(script) as up, proxy(passing(up.url)) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert await response.read() == b"all there is"


async def test_an_http_1_0_client_gets_a_stream_that_ends_with_its_connection() -> None:
    async with upstream(answering(STREAM_HEAD + chunk(b"data: 1\n\n") + b"0\r\n\r\n")) as up:
        async with proxy(passing(up.url)) as running:
            got = await running.raw(f"GET {PATH} HTTP/1.0\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body == b"data: 1\n\n"


async def test_an_interim_answer_is_passed_over() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    async with upstream(answering(interim + answer(b"final"))) as up, proxy(passing(up.url)) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert (response.status, await response.read()) == (200, b"final")


async def test_a_client_that_expects_100_continue_is_told_to_go_on() -> None:
    async with upstream(answering(answer(b"ok"))) as up, proxy(passing(up.url)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
            "expect: 100-continue\r\ncontent-length: 4\r\n\r\n".encode()
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert up.requests[0].body == b"body"


# Headers.


async def test_neither_credentials_nor_the_proxys_own_nor_hop_by_hop_headers_reach_the_target() -> None:
    hidden = {
        "x-api-key": KEY, "x-goog-api-key": KEY, "cookie": "a=b", "target": "one", "te": "trailers",
        "x-forwarded-for": "1.2.3.4", "x-secret-hop": "1", "connection": "keep-alive, x-secret-hop",
        "proxy-authorization": "Basic x",
    }  # fmt: skip
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        headers = hidden | {"x-other": "kept"}
        async with running.client.post(f"{PATH}?key={KEY}&a=1", data=BODY, headers=headers) as response:
            assert response.status == 200
    received = up.requests[0]
    assert [name for name in hidden if received.value(name)] == []
    assert received.value("authorization") is None
    assert received.value("x-other") == "kept"
    assert KEY not in received.line
    assert received.line.endswith("?a=1 HTTP/1.1")


async def test_the_targets_own_key_is_added() -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url, key="upstream-key")) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert response.status == 200
    assert up.requests[0].values("authorization") == ["Bearer upstream-key"]


async def test_cookies_and_connection_headers_of_the_target_do_not_reach_the_client() -> None:
    fields = ("set-cookie: a=b", "x-hop: 1", "connection: x-hop", "x-kept: 1", "x-request-id: theirs")
    async with upstream(answering(answer(b"{}", *fields))) as up, proxy(passing(up.url)) as running:
        async with running.client.post(PATH, data=BODY, headers={"x-request-id": "mine"}) as response:
            assert "set-cookie" not in response.headers
            assert "x-hop" not in response.headers
            assert response.headers["x-kept"] == "1"
            assert response.headers.getall("x-request-id") == ["mine"]
            assert response.headers["x-upstream-request-id"] == "theirs"


async def test_upstream_cookies_are_not_replayed_for_other_clients() -> None:
    cookie = answer(b"{}", "set-cookie: session=secret")
    async with upstream(answering(cookie)) as up, proxy(passing(up.url)) as running:
        for _ in range(2):
            async with running.client.post(PATH, data=BODY):
                pass
    assert up.requests[1].value("cookie") is None


# Redirects.


async def test_a_redirect_is_passed_on_to_the_client() -> None:
    moved = answer(b"", "location: /elsewhere", status="307 Temporary Redirect")
    async with upstream(answering(moved)) as up, proxy(passing(up.url)) as running:
        async with running.client.post(PATH, data=BODY, allow_redirects=False) as response:
            assert (response.status, response.headers["location"]) == (307, "/elsewhere")
    assert len(up.requests) == 1


async def test_preserve_method_follows_within_the_host_with_method_and_body() -> None:
    async def script(peer: Peer, received: Received) -> None:
        moved = received.line.split()[1] == PATH
        await peer.send(answer(b"", "location: /new?x=1", status="301 Moved") if moved else answer(b"there"))

    async with upstream(script) as up, proxy(passing(up.url, preserveMethod=True, key="k")) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert await response.read() == b"there"
    assert up.requests[1].line == "POST /new?x=1 HTTP/1.1"
    assert up.requests[1].body == BODY
    assert up.requests[1].value("authorization") == "Bearer k"


ELSEWHERE = ["http://127.0.0.2/x", "http://127.0.0.1:1/x", "//other/x", "ftp://127.0.0.1/", "http://["]


@pytest.mark.parametrize("location", ELSEWHERE)
async def test_preserve_method_never_leaves_the_host(location: str) -> None:
    moved = answer(b"", f"location: {location}", status="308 Moved")
    async with upstream(answering(moved)) as up, proxy(passing(up.url, preserveMethod=True)) as running:
        async with running.client.post(PATH, data=BODY, allow_redirects=False) as response:
            assert response.status == 308


async def test_an_endless_redirect_ends_with_502() -> None:
    moved = answer(b"", f"location: {PATH}", status="308 Moved")
    async with upstream(answering(moved)) as up, proxy(passing(up.url, preserveMethod=True)) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert response.status == 502


# Upstream errors.


async def test_an_upstream_error_keeps_its_status_body_and_retry_after() -> None:
    busy = answer(b'{"error": "busy"}', "retry-after: 7", status="429 Too Many Requests")
    async with upstream(answering(busy)) as up, proxy(passing(up.url)) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert (response.status, response.headers["retry-after"]) == (429, "7")
            assert await response.read() == b'{"error": "busy"}'


async def test_a_401_of_the_target_is_the_proxys_own_trouble_and_never_shows_its_key() -> None:
    refused = answer(b'{"error": {"message": "Incorrect API key: sk-upstream"}}', status="401 Unauthorized")
    async with upstream(answering(refused)) as up, proxy(passing(up.url, key="sk-upstream")) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert response.status == 502
            assert b"sk-upstream" not in await response.read()


@pytest.mark.parametrize(
    "garbage",
    [
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 000 Zero\r\n\r\n",
        b"HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 700 High\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nbad\x00name: 1\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\x00b\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000,
        b"",
    ],
)
async def test_garbage_of_the_target_becomes_502(garbage: bytes) -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.send(garbage)
        peer.writer.close()

    async with upstream(script) as up, proxy(passing(up.url)) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert response.status == 502
            error = (await response.json())["error"]
            assert error["message"].startswith("the target")


async def test_an_upstream_that_refuses_connections_gives_502_that_says_so() -> None:
    async with proxy(passing("http://127.0.0.1:1")) as running, running.client.post(PATH, data=BODY) as response:
        assert response.status == 502
        assert "is it running" in (await response.json())["error"]["message"]


async def test_extra_bytes_never_answer_another_request() -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.send(answer(b"mine") + answer(b"smuggled"))

    async with upstream(script) as up, proxy(passing(up.url)) as running:
        for _ in range(3):
            async with running.client.post(PATH, data=BODY) as response:
                assert await response.read() == b"mine"
    assert up.connections == 3


async def test_a_cut_answer_looks_cut() -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.send(STREAM_HEAD + chunk(b"data: 1\n\n"))
        peer.writer.close()

    async with upstream(script) as up, proxy(passing(up.url)) as running:
        async with running.client.post(PATH, data=BODY) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_a_post_is_delivered_once_whatever_happens() -> None:
    async def script(peer: Peer, received: Received) -> None:
        if len(up.requests) == 1:
            await peer.send(answer())
        else:
            peer.abort()

    async with upstream(script) as up, proxy(passing(up.url)) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert response.status == 200
        async with running.client.post(PATH, data=BODY) as response:
            assert response.status == 502
    assert len(up.requests) == 2


async def test_a_get_on_a_connection_that_died_is_tried_again() -> None:
    async def script(peer: Peer, received: Received) -> None:
        if len(up.requests) == 2:
            peer.abort()
        else:
            await peer.send(answer(b"fine"))

    async with upstream(script) as up, proxy(passing(up.url)) as running:
        for _ in range(2):
            async with running.client.get(PATH) as response:
                assert await response.read() == b"fine"
    assert len(up.requests) == 3


async def test_connections_to_the_target_are_reused() -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        for _ in range(5):
            async with running.client.post(PATH, data=BODY):
                pass
    assert up.connections == 1


# Time.


async def silent(peer: Peer, received: Received) -> None:
    await peer.gone()


async def half(peer: Peer, received: Received) -> None:
    await peer.send(STREAM_HEAD + chunk(b"data: 1\n\n"))
    await peer.gone()


async def test_a_silent_target_gives_504_in_the_clients_dialect() -> None:
    config = {"system": {"timeout": {"first_byte": 0.2}}}
    async with upstream(silent) as up, proxy(passing(up.url) | config) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert response.status == 504
            assert "first_byte" in (await response.json())["error"]["message"]
        await up.script_ended.wait()


async def test_a_target_that_does_not_accept_gives_504_that_names_the_phase() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        waiting = [socket.socket() for _ in range(3)]  # they fill the queue that nobody empties
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        config = passing(f"http://127.0.0.1:{address[1]}") | {"system": {"timeout": {"connect": 0.3}}}
        async with proxy(config) as running, running.client.post(PATH, data=BODY) as response:
            assert response.status == 504
            assert "connect" in (await response.json())["error"]["message"]
        for each in waiting:
            each.close()


@pytest.mark.parametrize("phase", ["idle", "total"])
async def test_a_target_that_stops_in_the_middle_is_cut(phase: str) -> None:
    async with upstream(half) as up, proxy(passing(up.url) | {"system": {"timeout": {phase: 0.3}}}) as running:
        async with running.client.post(PATH, data=BODY) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        await up.script_ended.wait()


async def test_a_stream_that_goes_on_never_times_out() -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.send(STREAM_HEAD)
        for _ in range(8):
            await asyncio.sleep(0.1)
            await peer.send(chunk(b"data: 1\n\n"))
        await peer.send(b"0\r\n\r\n")

    async with upstream(script) as up, proxy(passing(up.url) | {"system": {"timeout": 0.4}}) as running:
        async with running.client.post(PATH, data=BODY) as response:
            assert len(await response.read()) == 8 * len(b"data: 1\n\n")


# Leaving clients and slow ones.


@pytest.mark.parametrize("script", [silent, half])
async def test_a_client_that_leaves_ends_the_upstream_request_at_once(script: Script) -> None:
    async with upstream(script) as up, proxy(passing(up.url)) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(head(f"POST {PATH}", "content-length: 2") + b"{}")
        await up.asked.wait()
        writer.transport.abort()
        async with asyncio.timeout(1.0):
            await up.script_ended.wait()


async def test_a_client_that_leaves_in_the_middle_of_its_body_ends_the_upstream_request() -> None:
    ended = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        ended.set()
        writer.close()

    server = await asyncio.start_server(script, "127.0.0.1", 0)
    async with proxy(passing(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(head(f"POST {PATH}", "content-length: 9999999") + b"{")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        async with asyncio.timeout(1.0):
            await ended.wait()
    server.close()


async def test_a_reader_that_stops_stops_the_upstream() -> None:
    sent = 0

    async def script(peer: Peer, received: Received) -> None:
        nonlocal sent
        await peer.send(STREAM_HEAD)
        while True:
            await peer.send(chunk(b"x" * 65536))
            sent += 65536

    async with upstream(script) as up, proxy(passing(up.url)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
        writer.write(head(f"GET {PATH}"))
        before = -1
        while sent != before or sent == 0:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 24 * 1024 * 1024
        writer.transport.abort()
        async with asyncio.timeout(1.0):
            await up.script_ended.wait()


async def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url) | {"system": {"max_body": 1000}}) as running:
        async with running.client.post(PATH, data=b"x" * 1001) as response:
            assert response.status == 413
        assert up.requests == []


async def test_a_chunked_body_over_the_limit_is_refused_while_it_is_read() -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    async with upstream(answering(answer())) as up, proxy(passing(up.url) | {"system": {"max_body": 1000}}) as running:
        async with running.client.post(PATH, data=parts()) as response:
            assert response.status == 413


async def test_an_early_answer_ends_the_upload() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"too much", status="413 Too Large"))
        writer.close()

    server = await asyncio.start_server(script, "127.0.0.1", 0)
    async with proxy(passing(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(head(f"POST {PATH}", "content-length: 9999999") + b"{")
        assert b"413" in await reader.readline()
        writer.close()
    server.close()


async def test_a_thousand_streams_at_once_are_each_exact() -> None:
    async def script(peer: Peer, received: Received) -> None:
        number = received.body
        await peer.send(STREAM_HEAD)
        for _ in range(3):
            await peer.send(chunk(b"data: " + number + b"\n\n"))
            await asyncio.sleep(0.01)
        await peer.send(b"0\r\n\r\n")

    async def one(number: int) -> bool:
        body = str(number).encode()
        async with client.post(PATH, data=body) as response:
            return await response.read() == (b"data: " + body + b"\n\n") * 3

    async with upstream(script) as up, proxy(passing(up.url)) as running:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(base_url=running.url, headers=BEARER, connector=connector) as client:
            results = await asyncio.gather(*(one(number) for number in range(1000)))
    assert all(results)


async def test_a_connection_that_the_target_closed_quietly_costs_no_request() -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.send(answer())
        peer.writer.close()

    async with upstream(script) as up, proxy(passing(up.url)) as running:
        for _ in range(20):
            async with running.client.post(PATH, data=BODY) as response:
                assert response.status == 200


@pytest.mark.parametrize("ending", ["whole", "cut"])
async def test_a_request_leaves_nothing_for_the_garbage_collector(ending: str) -> None:
    async def script(peer: Peer, received: Received) -> None:
        if ending == "whole":
            await peer.send(answer())
        else:
            peer.abort()

    gc.collect()
    gc.disable()
    try:
        async with upstream(script) as up, proxy(passing(up.url)) as running:
            async with running.client.post(PATH, data=BODY) as response:
                await response.read()
            await asyncio.sleep(0.05)
            assert [found for found in gc.get_objects() if isinstance(found, Exchange | Relay)] == []
    finally:
        gc.enable()
