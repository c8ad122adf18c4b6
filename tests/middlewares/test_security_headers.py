"""Every answer carries them: forwarded, refused, our own."""

import pytest

from tests.servers.proxy import passing, proxy
from tests.servers.scripted import answer, answering, upstream


@pytest.mark.parametrize("path", ["/chat/completions", "/unknown", "/ping"])
async def test_every_answer_carries_the_security_headers(path: str) -> None:
    async with upstream(answering(answer())) as up, proxy(passing(up.url)) as running:
        async with running.client.get(path) as response:
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["x-frame-options"] == "DENY"
