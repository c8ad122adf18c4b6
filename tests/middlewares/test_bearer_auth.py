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


# Nothing but the key counts.

OPEN_HOUSE = {"cerbere": {"whitelist": ["127.0.0.1"]}}
SPELLINGS = [
    f"GET {PATH}",
    f"GET /{PATH}",
    f"GET {PATH}/",
    "GET /ping/../chat/completions",
    "GET /ping/%2e%2e/chat/completions",
    "GET /ping%2f..%2fchat/completions",
    "GET /chat/./completions",
    "GET /%63hat/completions",
    "GET /CHAT/completions",
    f"GET {PATH}?a=/ping",
    f"GET {PATH};/ping",
    f"GET {PATH}#/ping",
    f"GET /to/one{PATH}",
    f"GET http://127.0.0.1{PATH}",
    "GET http://127.0.0.1/ping/../chat/completions",
    "GET /-/status",
    "GET /-/live/../status",
    *(f"{method} {PATH}" for method in ("POST", "PUT", "PATCH", "DELETE", "HEAD", "PROPFIND", "TRACE", "BREW", "get")),
]
FORGED = [
    "host: localhost",
    "x-http-method-override: OPTIONS",
    "x-method-override: OPTIONS",
    "x-original-url: /ping",
    "x-rewrite-url: /ping",
    "x-forwarded-for: 127.0.0.1",
    "x-real-ip: 127.0.0.1",
    "forwarded: for=127.0.0.1;proto=https",
    "x-ssl-client-verify: SUCCESS",
    "x-ssl-client-s-dn: CN=alice",
    'x-forwarded-client-cert: Subject="CN=alice"',
    "x-admin-key: " + KEY,
    "api-key: " + KEY,
    "proxy-authorization: Bearer " + KEY,
    "cookie: authorization=Bearer " + KEY,
    "authorization: Bearer wrong",
]


@pytest.mark.parametrize("line", SPELLINGS)
async def test_no_spelling_of_a_request_does_without_the_key(line: str) -> None:
    async with upstream(answering(answer())) as up, proxy({**passing(up.url), **OPEN_HOUSE}) as running:
        for row in ("host: x", *FORGED):
            rows = row if row.startswith("host") else f"host: x\r\n{row}"
            got = await running.raw(f"{line} HTTP/1.1\r\n{rows}\r\nconnection: close\r\n\r\n".encode())
            assert got.split(b" ")[1] in (b"400", b"401", b"405"), row
            assert KEY.encode() not in got
    assert up.requests == []


async def test_a_key_in_a_trailer_is_none() -> None:
    trailer = f"0\r\nauthorization: Bearer {KEY}\r\n\r\n"
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        rows = "host: x\r\ntrailer: authorization\r\ntransfer-encoding: chunked"
        got = await running.raw(f"POST {PATH} HTTP/1.1\r\n{rows}\r\n\r\n{trailer}".encode())
        assert b"401" in got
    assert up.requests == []


@pytest.mark.parametrize("query", [f"key={KEY}&key={KEY}", f"key={KEY}&key=", f"key={KEY}&%6bey=x", "key=", "key"])
async def test_a_key_that_is_twice_in_the_query_or_empty_is_none(query: str) -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        assert b"401" in await running.raw(f"GET {PATH}?{query} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert up.requests == []


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (f"key={KEY}", ""),
        (f"key={KEY}&a=1", "?a=1"),
        (f"%6bey={KEY}&a=1", "?a=1"),
        (f"a=1&k%65y={KEY}", "?a=1"),
        (f"monkey=1&key={KEY}&keys=2", "?monkey=1&keys=2"),
    ],
)
async def test_no_target_sees_the_key_however_its_name_is_written(query: str, left: str) -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        assert b"200 OK" in await running.raw(f"GET {PATH}?{query} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert up.requests[0].line == f"GET {PATH}{left} HTTP/1.1"


async def test_a_word_that_ends_in_key_is_no_wrong_key() -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        got = await running.raw(f"GET {PATH}?monkey=1 HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert b"a key is needed" in got


REDIRECT = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (PATH, answer()),
        (PATH, answer(b'{"error": "no"}', status="500 Internal Server Error")),
        (PATH, b"garbage\r\n\r\n"),
        (PATH, REDIRECT),
        ("/nowhere", answer()),
        ("/to/nobody/x", answer()),
        ("/-/logs", answer()),
        ("/-/unload", answer()),
        ("/chat/\x01", answer()),
    ],
)
async def test_no_log_and_no_error_shows_a_key_of_the_query(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, path: str, said: bytes
) -> None:
    caplog.set_level("DEBUG")
    config = {"system": {"debug": True}, **OPEN_HOUSE}
    async with upstream(answering(said)) as up, proxy({**passing(up.url, preserveMethod=True), **config}) as running:
        for key in (KEY, "wrong-key"):
            got = await running.raw(f"GET {path}?key={key}&model=m HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert key.encode() not in got
    written = capsys.readouterr()
    for text in (written.out, written.err, caplog.text, repr(up.requests)):
        assert KEY not in text
        assert "wrong-key" not in text


async def test_a_key_without_admin_reaches_nothing_of_the_proxy_by_any_spelling() -> None:
    config = {**passing("http://127.0.0.1:1"), "keys": {"alice": {"envkey": "ALICE"}}}
    paths = [
        "/-/status",
        "//-/status",
        "/-/status/",
        "/-//status",
        "/-/%73tatus",
        "/to/one/-/status",
        "/status",
        "/STATUS",
    ]
    async with proxy(config, ALICE="of-alice") as running:
        for path in paths:
            got = await running.raw(head(f"GET {path}", key="of-alice"))
            assert got.split(b" ")[1] in (b"403", b"404"), path
