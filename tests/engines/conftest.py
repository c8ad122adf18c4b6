"""For the tests of engines with an API: a session, and drivers that do not wait long between two questions."""

from collections.abc import AsyncIterator

import pytest

from mooltiproxy.engines.remote import common
from mooltiproxy.upstream.session import PooledSession


@pytest.fixture
async def session() -> AsyncIterator[PooledSession]:
    made = PooledSession()
    yield made
    await made.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions follow each other at once."""
    monkeypatch.setattr(common, "POLL", 0.002)
    monkeypatch.setattr(common, "WATCH", 0.005)
