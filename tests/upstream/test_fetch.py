"""Images and documents by URL: fetched for targets that need bytes, and only from where a client may lead the proxy."""

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest

from mooltiproxy.config.model import Timeouts
from mooltiproxy.errors import BadRequest
from mooltiproxy.upstream import fetch
from mooltiproxy.upstream.fetch import AttachmentFetcher, is_public
from mooltiproxy.upstream.session import Origin, PooledSession
from tests.servers.scripted import Peer, Received, Script, answer, answering, upstream

PNG = b"\x89PNG\r\n\x1a\n..."


@pytest.fixture
async def session() -> AsyncIterator[PooledSession]:
    made = PooledSession()
    yield made
    await made.close()


async def fetched(session: PooledSession, script: Script, path: str = "/cat.png?x=1") -> tuple[str | None, bytes]:
    async with upstream(script) as up:
        url = up.url + path
        image = (await AttachmentFetcher(session, allow_private=True).fetch([url]))[url]
    return image.media_type, base64.b64decode(image.data or "")


async def test_a_connection_of_our_own_is_given_to_nobody_else(session: PooledSession) -> None:
    idle: list[int] = []
    whole = fetch.Whole(asyncio.get_running_loop().create_future(), 100)
    whole.done.add_done_callback(lambda done: idle.append(session.counts()["idle"]))
    async with upstream(answering(answer())) as up:
        await fetch.ask(session, Origin.of(up.url), b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", whole, fetch.TIMEOUTS)
    assert (whole.status, idle) == (200, [0])


async def test_an_image_is_fetched_with_its_type(session: PooledSession) -> None:
    assert await fetched(session, answering(answer(PNG, media_type="image/png"))) == ("image/png", PNG)


@pytest.mark.parametrize("media_type", ["application/pdf", "text/plain", "text/csv; charset=utf-8"])
async def test_a_document_is_fetched_with_its_type(session: PooledSession, media_type: str) -> None:
    given = answering(answer(b"%PDF", media_type=media_type))
    assert await fetched(session, given) == (media_type.partition(";")[0], b"%PDF")


async def test_a_private_address_is_refused_and_never_asked(session: PooledSession) -> None:
    async with upstream(answering(answer(PNG, media_type="image/png"))) as up:
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "127.1"):
            with pytest.raises(BadRequest) as caught:
                await AttachmentFetcher(session).fetch([f"http://{host}:{up.port}/cat.png"])
            assert caught.value.param == "messages"
    assert up.connections == 0


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
        "2002:a00:1::", "fe80::1%eth0",
    ],
)  # fmt: skip
def test_what_is_not_the_public_internet_is_known_in_every_disguise(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


async def test_a_redirect_is_checked_anew(session: PooledSession, monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream(answering(answer(PNG, media_type="image/png"))) as inner:
        moved = answer(b"", f"location: http://localhost:{inner.port}/secret", status="302 Found")
        async with upstream(answering(moved)) as outer:
            public = {"127.0.0.1": True}
            monkeypatch.setattr(fetch, "is_public", lambda address: public.pop(address, False))
            with pytest.raises(BadRequest) as caught:
                await AttachmentFetcher(session).fetch([f"http://127.0.0.1:{outer.port}/cat.png"])
    assert "private" in str(caught.value)
    assert inner.requests == []


async def test_redirects_end(session: PooledSession) -> None:
    with pytest.raises(BadRequest, match="too often"):
        await fetched(session, answering(answer(b"", "location: /again", status="302 Found")))


@pytest.mark.parametrize(
    "script",
    [
        answering(answer(b"{}", media_type="application/json")),
        answering(answer(b"{}")),
        answering(answer(b"", status="404 Not Found")),
        answering(b"rubbish\r\n\r\n"),
    ],
)
async def test_what_is_no_image_and_no_document_is_refused(session: PooledSession, script: Script) -> None:
    with pytest.raises(BadRequest):
        await fetched(session, script)


async def test_an_endless_image_is_cut(session: PooledSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_SIZE", 100_000)

    async def script(peer: Peer, received: Received) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n")
        while True:
            await peer.send(b"x" * 10_000)

    with pytest.raises(BadRequest, match="longer"):
        await fetched(session, script)


async def test_a_silent_server_is_given_up(session: PooledSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "TIMEOUTS", Timeouts(connect=1, first_byte=0.2, idle=0.2, total=1))

    async def script(peer: Peer, received: Received) -> None:
        await peer.gone()

    async with asyncio.timeout(3):
        with pytest.raises(BadRequest):
            await fetched(session, script)


@pytest.mark.parametrize(
    "url", ["ftp://h/x", "file:///etc/passwd", "http://u:p@h/", "http://[", "http://h/a b", "http:///x"]
)
async def test_only_plain_http_urls_are_followed(session: PooledSession, url: str) -> None:
    with pytest.raises(BadRequest):
        await AttachmentFetcher(session, allow_private=True).fetch([url])


async def test_the_number_of_images_is_bounded(session: PooledSession) -> None:
    with pytest.raises(BadRequest, match="more than"):
        await AttachmentFetcher(session).fetch([f"http://h/{number}" for number in range(fetch.MAX_NUMBER + 1)])
