"""No request without the key; nothing but the key counts."""

import pytest

from tests.servers.proxy import KEY, head, passing, proxy
from tests.servers.scripted import answer, answering, upstream

PATH = "/chat/completions"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY}"},
        {"x-api-key": KEY},
        {"x-goog-api-key": KEY},
        {"Authorization": "Bearer another", "x-api-key": KEY},
    ],
)
async def test_the_key_is_taken_in_each_dialects_place(headers: dict[str, str]) -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        rows = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        assert b"200 OK" in await running.raw(f"GET {PATH} HTTP/1.1\r\nhost: x\r\n{rows}\r\n".encode())


async def test_the_key_is_taken_from_the_query_and_goes_no_further() -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        got = await running.raw(f"GET {PATH}?a=1&key={KEY}&b=2 HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert b"200 OK" in got
    assert up.requests[0].line == f"GET {PATH}?a=1&b=2 HTTP/1.1"


@pytest.mark.parametrize(
    "rows",
    [
        b"",
        b"authorization: Bearer wrong\r\n",
        b"authorization: Bearer \r\n",
        b"authorization: Bearer\r\n",
        b"authorization: Basic " + KEY.encode() + b"\r\n",
        b"authorization: " + KEY.encode() + b"\r\n",
        b"authorization: Bearer caf\xe9\r\n",
        b"authorization: Bearer \xff\xfe\x80\r\n",
        b"authorization: Bearer " + KEY.encode() + b"\r\nauthorization: Bearer x\r\n",
        b"x-api-key: " + KEY.encode() + b"\r\nx-api-key: " + KEY.encode() + b"\r\n",
        b"x-forwarded-host: localhost\r\nx-forwarded-for: 127.0.0.1\r\n",
        b"x-original-url: /ping\r\nx-http-method-override: OPTIONS\r\n",
    ],
)
async def test_anything_else_is_401_and_never_forwarded(rows: bytes) -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        got = await running.raw(f"GET {PATH} HTTP/1.1\r\nhost: x\r\n".encode() + rows + b"\r\n")
        assert got.startswith(b"HTTP/1.1 401")
        assert b'"code":"invalid_api_key"' in got
    assert up.requests == []


@pytest.mark.parametrize("path", ["/ping", "/-/live", "/-/ready"])
async def test_health_needs_no_key(path: str) -> None:
    async with proxy(passing("http://127.0.0.1:1")) as running:
        assert b"200 OK" in await running.raw(head(f"GET {path}", key=None))


async def test_a_mapped_path_needs_the_key_even_where_its_name_is_one_of_ours() -> None:
    async with upstream(answering(answer(b"theirs"))) as up, proxy(passing(up.url, "/ping")) as running:
        assert b"401" in await running.raw(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        async with running.client.get("/ping") as response:
            assert await response.read() == b"theirs"


async def test_a_path_that_a_targets_api_happens_to_have_stays_ours_and_open() -> None:
    config = {"targets": {"default": "one", "one": {"url": "http://127.0.0.1:1", "speaks": "tgi"}}}
    async with proxy(config) as running:
        assert b"200 OK" in await running.raw(head("GET /ping", key=None))
