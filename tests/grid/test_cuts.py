"""However the bytes of a target's stream arrive, the client gets the same bytes."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType

import orjson
import pytest

from mappers.ollama import lines

from . import strict_tgi
from .cells import CLIENTS, TARGETS, translate, translation
from .clients import Client
from .conversation import Call, Feature, Told

CHATTING = [client for client in CLIENTS if Feature.TOOLS in client.bodies]
STOPPING = [client for client in CHATTING if Feature.STOP in client.bodies]
PROMPTING = [client for client in CLIENTS if Feature.TOOLS not in client.bodies]
CALLING = tuple(target for target in TARGETS if target is not strict_tgi)
RICH = Told("Héllo\u2028 \U0001f600", "Let me see.", (Call("Paris", "call_a"), Call("Rome", "call_b")), "tool_calls")
PLAIN = Told("Héllo\u2028 \U0001f600", stop_string="END")
LENGTH = 512
"""Of pieces of a stream, in bytes: some whole events and parts of two others."""

Run = Callable[[list[bytes]], bytes]


class Clock(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: object = None) -> "Clock":
        return cls(2026, 11, 14, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _clocks_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_794_694_400.0)
    monkeypatch.setattr("time.monotonic_ns", lambda: 0)
    monkeypatch.setattr(lines, "datetime", Clock)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Callable[[Client, ModuleType, Feature], Run]:
    """What gives a client's bytes for the pieces of a stream, with the same ids each time."""

    def make(client: Client, target: ModuleType, feature: Feature) -> Run:
        pair = translation(client.endpoint_for(stream=True), target)
        body = orjson.loads(orjson.dumps(client.body(feature, stream=True)))

        def run(pieces: list[bytes]) -> bytes:
            count = itertools.count()
            monkeypatch.setattr("secrets.token_hex", lambda size: f"{next(count):0{2 * size}x}")
            return translate(client, pair.request(body, client.outside_stream), target.MEDIA_TYPE, pieces, {})

        return run

    return make


def path_of(client: Client, target: ModuleType, feature: Feature) -> str:
    pair = translation(client.endpoint_for(stream=True), target)
    return pair.request(client.body(feature, stream=True), client.outside_stream).path or ""


def cuts(data: bytes) -> list[list[bytes]]:
    """The stream byte by byte, and cut at every place: into pieces of LENGTH, the first one of each length up to it."""
    single = [data[at : at + 1] for at in range(len(data))]
    return [single, *(_pieces(data, first) for first in range(1, min(LENGTH + 1, len(data))))]


def _pieces(data: bytes, first: int) -> list[bytes]:
    bounds = [0, *range(first, len(data), LENGTH), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def pairs(clients: list[Client], targets: tuple[ModuleType, ...]) -> list[object]:
    return [
        pytest.param(client, target, id=f"{client.name}-{target.NAME}".replace(" ", "_"))
        for client in clients
        for target in targets
    ]


@pytest.mark.parametrize(("client", "target"), pairs(CHATTING, CALLING))
def test_a_stream_may_be_cut_anywhere(runner: Callable[..., Run], client: Client, target: ModuleType) -> None:
    data = b"".join(target.stream(RICH, path_of(client, target, Feature.PARALLEL)))
    run = runner(client, target, Feature.PARALLEL)
    whole = run([data])
    assert all(run(pieces) == whole for pieces in cuts(data))


@pytest.mark.parametrize(("client", "target"), [*pairs(PROMPTING, TARGETS), *pairs(STOPPING, (strict_tgi,))])
def test_a_stream_with_a_stop_string_may_be_cut_anywhere(
    runner: Callable[..., Run], client: Client, target: ModuleType
) -> None:
    data = b"".join(target.stream(PLAIN, path_of(client, target, Feature.STOP)))
    run = runner(client, target, Feature.STOP)
    whole = run([data])
    assert all(run(pieces) == whole for pieces in cuts(data))


@pytest.mark.parametrize(("client", "target"), pairs(list(CLIENTS), TARGETS))
def test_a_stream_that_fails_may_be_cut_anywhere(
    runner: Callable[..., Run], client: Client, target: ModuleType
) -> None:
    events = target.broken(path_of(client, target, Feature.BROKEN))
    run = runner(client, target, Feature.BROKEN)
    whole = run(events)
    assert all(run(pieces) == whole for pieces in cuts(b"".join(events)))
