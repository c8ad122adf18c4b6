"""Every asynchronous test runs on the event loop of production, and processes that tests start keep what they compile:
each would spend half of its start on that."""

import asyncio
import os
from collections.abc import Callable, Mapping

import pytest
import uvloop

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
