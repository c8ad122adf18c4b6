"""What a client is to the grid: how it asks for each feature, and how it reads what it gets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from mooltiproxy.mapping.dialect import Dialect, Endpoint
from mooltiproxy.mapping.neutral import NOWHERE
from mooltiproxy.mapping.neutral import Asked as Outside

from .conversation import Feature, Told
from .shapes import need

ALL = frozenset(("prompt", "answer", "cached", "reasoning", "ids", "thought"))
Body = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """What a client has understood: the answer, and the error that broke it off."""

    told: Told
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Client:
    """One endpoint as its clients use it.

    `bodies` are requests by feature, without those that the API has no words for; `streamed` makes one ask for a
    stream. `read` and `read_stream` raise where the official client would, or ought to. `knows` are the things in an
    answer for which the API has a place.
    """

    name: str
    dialect: Dialect
    endpoint: Endpoint
    bodies: Mapping[Feature, Body]
    read: Callable[[bytes], Told]
    read_stream: Callable[[bytes], Seen]
    read_error: Callable[[int, bytes], str]
    streamed: Mapping[str, Any] = field(default_factory=lambda: {"stream": True})
    stream_endpoint: Endpoint | None = None
    knows: frozenset[str] = ALL
    outside: Outside = NOWHERE
    outside_stream: Outside = NOWHERE

    def body(self, feature: Feature, *, stream: bool) -> Body:
        """The request for a feature."""
        return {**self.bodies[feature], **(self.streamed if stream else {})}

    def endpoint_for(self, *, stream: bool) -> Endpoint:
        """Where it is sent."""
        return self.stream_endpoint if stream and self.stream_endpoint else self.endpoint


def sse_events(data: bytes) -> list[tuple[str | None, bytes]]:
    """Name and data of each event of a stream; refuses what is not framed as we frame it."""
    blocks = data.split(b"\n\n")
    need(blocks.pop() == b"", "the last event does not end")
    return [_event(block) for block in blocks]


def _event(block: bytes) -> tuple[str | None, bytes]:
    lines = dict(line.split(b": ", 1) for line in block.split(b"\n"))
    need(lines.keys() <= {b"event", b"data"}, f"a strange event: {block!r}")
    name = lines.get(b"event")
    return name.decode() if name else None, lines[b"data"]


def unnamed(data: bytes) -> list[bytes]:
    """The data of a stream of events without names."""
    events = sse_events(data)
    need(all(name is None for name, _ in events), "an event with a name")
    return [text for _, text in events]


def named(data: bytes) -> list[tuple[bytes, Any]]:
    """The data of a stream of events that are named by their `type`, as text and parsed."""
    events = [(name, text, orjson.loads(text)) for name, text in sse_events(data)]
    need(all(name == event["type"] for name, _, event in events), "an event whose name is not its type")
    return [(text, event) for _, text, event in events]
