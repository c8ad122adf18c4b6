"""One line per request, whatever its end; no line of the client's making; no key in it."""

import asyncio
import io

import pytest

from mooltiproxy.middlewares.access_log import AccessLog, printable
from tests.servers.proxy import KEY, head, passing, proxy
from tests.servers.scripted import Peer, Received, answer, answering, upstream

PATH = "/chat/completions"


async def test_a_request_leaves_one_line_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    async with upstream(answering(answer(b"12345"))) as up, proxy(passing(up.url)) as running:
        async with running.client.get(f"{PATH}?key={KEY}", headers={"x-request-id": "abc"}) as response:
            assert response.headers["x-request-id"] == "abc"
    (line,) = capsys.readouterr().out.splitlines()
    time, address, key, method, path, target, status, size, took, request_id = line.split()
    assert (address, key, method, path, target, status, size, request_id) == (
        "127.0.0.1", "master", "GET", PATH, "one", "200", "5B", "abc",
    )  # fmt: skip
    assert took.endswith("ms")
    assert KEY not in line


async def test_a_path_of_several_apis_is_logged_as_the_client_has_sent_it(capsys: pytest.CaptureFixture[str]) -> None:
    targets = {"default": "one", "one": {"url": "http://127.0.0.1:1", "speaks": "tgi"}}
    async with proxy({"targets": targets}) as running:
        for path in ("/v1/models", "/to/one/v1/models", "/@none/v1/models"):
            async with running.client.get(path, headers={"anthropic-version": "2023-06-01"}):
                pass
    assert [line.split()[4] for line in capsys.readouterr().out.splitlines()] == [
        "/v1/models", "/v1/models", "/@none/v1/models",
    ]  # fmt: skip


async def test_a_refusal_is_logged_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    async with proxy(passing("http://127.0.0.1:1")) as running, running.client.get(PATH):
        pass
    assert "502 0B" in (line := capsys.readouterr().out)
    assert "UpstreamUnreachable" in line


async def test_a_client_that_left_is_logged_as_499(capsys: pytest.CaptureFixture[str]) -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.gone()

    async with upstream(script) as up, proxy(passing(up.url)) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(head(f"GET {PATH}"))
        await up.asked.wait()
        writer.transport.abort()
        await up.script_ended.wait()
    assert " 499 " in capsys.readouterr().out


@pytest.mark.parametrize("offered", ["x" * 200, "a b", "<script>", "a\tb"])
async def test_a_request_id_that_is_no_plain_word_is_replaced(offered: str) -> None:
    async with proxy(passing("http://127.0.0.1:1")) as running:
        async with running.client.get("/unknown", headers={"x-request-id": offered}) as response:
            assert len(response.headers["x-request-id"]) == 16


def test_a_path_cannot_write_lines_of_its_own() -> None:
    assert printable("/a\nb\x1b[31m\udcff") == "/a\\nb\\x1b[31m\\udcff"


async def test_a_log_that_cannot_be_written_does_not_end_the_proxy() -> None:
    stream = io.StringIO()
    log = AccessLog(stream)
    stream.close()
    log.write("one\n")
    log.flush()
    log.write("two\n")
    log.flush()
