"""The one conversation of the grid: what each feature asks, and what a model answers."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "celsius": {"type": "integer"}},
    "required": ["city", "celsius"],
    "additionalProperties": False,
}
TOOL = "get_weather"
DESCRIPTION = "Weather of a city"
MESSAGE = "it went wrong over there"
"""What a target says when it fails."""


class Feature(StrEnum):
    """What a cell of the grid is about."""

    PLAIN = "plain"
    STREAM = "stream"
    SYSTEM = "system"
    MULTI_TURN = "multi-turn"
    TOOLS = "tools"
    PARALLEL = "parallel tools"
    RESULTS = "tool results"
    IMAGE = "image"
    REASONING = "reasoning"
    SCHEMA = "JSON schema"
    STOP = "stop"
    LENGTH = "length"
    USAGE = "usage"
    ERROR = "error"
    BROKEN = "mid-stream error"


@dataclass(frozen=True)
class Asked:
    """A request as a client means it, and as a target hears it.

    `said` are roles and texts; a target of bare prompts hears `prompt` instead, which holds them all. `results` are the
    cities of the calls that are answered, with what they returned.
    """

    system: str = ""
    said: tuple[tuple[str, str], ...] = ()
    prompt: str | None = None
    images: tuple[str, ...] = ()
    tools: dict[str, Any] = field(default_factory=dict)
    calls: tuple[str, ...] = ()
    results: tuple[tuple[str, str], ...] = ()
    schema: Any = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    temperature: float | None = None
    thinks: bool = False
    streams: bool = False


@dataclass(frozen=True)
class Call:
    """A call of a tool; a target that gives no ids has none."""

    city: str
    id: str | None = None
    name: str = TOOL


@dataclass(frozen=True)
class Usage:
    """Tokens, None where they are not told."""

    prompt: int | None = 12
    answer: int | None = 9
    cached: int | None = 4
    reasoning: int | None = 2


@dataclass(frozen=True)
class Told:
    """An answer as a target tells it, and as a client understands it. `finish` is one of stop, length, tool_calls."""

    text: str = ""
    thought: str = ""
    calls: tuple[Call, ...] = ()
    finish: str = "stop"
    stop_string: str | None = None
    usage: Usage = Usage()


HI = (("user", "Say hi"),)
BOTH = (("user", "Weather in Paris and Rome?"),)
ASKED = {
    Feature.PLAIN: Asked(said=HI, temperature=0.5),
    Feature.STREAM: Asked(said=HI),
    Feature.SYSTEM: Asked("Be brief.", HI),
    Feature.MULTI_TURN: Asked(said=(*HI, ("assistant", "Hi there"), ("user", "Once more"))),
    Feature.TOOLS: Asked(said=(("user", "Weather in Paris?"),), tools={TOOL: CITY}),
    Feature.PARALLEL: Asked(said=BOTH, tools={TOOL: CITY}),
    Feature.RESULTS: Asked(
        said=BOTH,
        tools={TOOL: CITY},
        calls=("Paris", "Rome"),
        results=(("Paris", "20 degrees"), ("Rome", "25 degrees")),
    ),
    Feature.IMAGE: Asked(said=(("user", "What is this?"),), images=(PNG,)),
    Feature.REASONING: Asked(said=(("user", "2+2?"),), thinks=True),
    Feature.SCHEMA: Asked(said=(("user", "Weather in Paris?"),), schema=WEATHER),
    Feature.STOP: Asked(said=HI, stop=("END",)),
    Feature.LENGTH: Asked(said=HI, max_tokens=64),
    Feature.USAGE: Asked(said=HI),
    Feature.ERROR: Asked(said=HI),
    Feature.BROKEN: Asked(said=HI),
}
HI_THERE = Told("Hi there")
TOLD = {
    Feature.TOOLS: Told(calls=(Call("Paris"),), finish="tool_calls"),
    Feature.PARALLEL: Told(calls=(Call("Paris", "call_a"), Call("Rome", "call_b")), finish="tool_calls"),
    Feature.RESULTS: Told("Rome is warmer."),
    Feature.REASONING: Told("4", thought="An easy sum."),
    Feature.SCHEMA: Told('{"city":"Paris","celsius":20}'),
    Feature.STOP: Told("Hi", stop_string="END"),
    Feature.LENGTH: Told("Hi there and", finish="length"),
    Feature.BROKEN: Told("Hi"),
}


def streamings(feature: Feature) -> tuple[bool, ...]:
    """Whether a feature is tried whole, streamed, or both ways."""
    if feature in (Feature.STREAM, Feature.BROKEN):
        return (True,)
    return (False,) if feature is Feature.PLAIN else (False, True)


def pieces_of(text: str) -> list[str]:
    """A text as a stream brings it: in two pieces, where it has more than one character."""
    half = (len(text) + 1) // 2
    return [piece for piece in (text[:half], text[half:]) if piece]
