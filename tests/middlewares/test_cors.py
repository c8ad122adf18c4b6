"""OPTIONS is answered here; browsers may read what `system.cors` allows, refusals included."""

from tests.servers.proxy import passing, proxy
from tests.servers.scripted import answer, answering, upstream

PATH = "/chat/completions"
PREFLIGHT = {"Origin": "http://page", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "a, b"}


async def test_a_preflight_is_answered_without_a_key_and_never_forwarded() -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        rows = "".join(f"{name}: {value}\r\n" for name, value in PREFLIGHT.items())
        got = (await running.raw(f"OPTIONS {PATH} HTTP/1.1\r\nhost: x\r\n{rows}\r\n".encode())).decode().lower()
    assert got.startswith("http/1.1 204")
    assert "access-control-allow-origin: *" in got
    assert "access-control-allow-headers: a, b" in got
    assert up.requests == []


async def test_a_forwarded_answer_and_a_refusal_can_both_be_read_by_the_page() -> None:
    upstreams_own = "access-control-allow-origin: http://other"
    async with upstream(answering(answer(b"{}", upstreams_own))) as up, proxy(passing(up.url)) as running:
        for path, status in ((PATH, 200), ("/unknown", 404)):
            async with running.client.get(path, headers={"Origin": "http://page"}) as response:
                assert response.status == status
                assert response.headers.getall("access-control-allow-origin") == ["*"]


async def test_only_listed_origins_are_allowed() -> None:
    config = {"system": {"cors": ["http://page"]}}
    async with upstream(answering(answer())) as up, proxy(passing(up.url) | config) as running:
        async with running.client.get(PATH, headers={"Origin": "http://page"}) as response:
            assert response.headers["access-control-allow-origin"] == "http://page"
        async with running.client.get(PATH, headers={"Origin": "http://other"}) as response:
            assert "access-control-allow-origin" not in response.headers
            assert response.headers["vary"] == "origin"
