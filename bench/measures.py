"""What is measured. Each measure is given one running gateway and returns its figures of one round."""

import asyncio
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import uvloop

from bench import load, translate
from bench.gateways import OURS, Bench
from bench.processes import Process

CONNECTIONS = 32
STREAMS = 16
PACED_STREAMS = 100
IDLE_STREAMS = 500
RATE = 50.0
WARM_UP_SECONDS = 1.0
SETTLE_SECONDS = 0.5
FOREVER_MS = 600_000.0
MICRO, MILLI, KILO, MEGA = 1e6, 1e3, 1024, 1024 * 1024

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Measure:
    """`take` is given the gateway and the seconds to spend; `events` and `pace` (ms) say how the upstream streams.

    `longer` multiplies the seconds where a figure needs more samples than others.
    """

    name: str
    about: str
    take: Callable[[Bench, float], Figures]
    events: int = 256
    pace: float = 0.0
    longer: float = 1.0


def _target(gateway: Bench, name: str | None) -> str | None:
    # Only ours translates; beside it stands what the others do without.
    return name if gateway.name in OURS else None


def _cost(process: Process | None, cpu_before: float, count: load.Count, unit: str) -> Figures:
    if process is None:
        return {}
    spent = process.cpu_seconds() - cpu_before
    return {f"processor us/{unit}": spent / count.done * MICRO, "core busy %": spent / count.seconds * 100}


def start_up(gateway: Bench, seconds: float) -> Figures:
    """From spawn to the first 200 of /ping, and the memory then."""
    if gateway.process is None:
        return {}
    return {"start-up ms": gateway.process.startup * MILLI, "RSS idle MB": gateway.process.rss() / MEGA}


def chats(*, target: str | None = None, size: int = 1000) -> Callable[[Bench, float], Figures]:
    """Whole chats as fast as they are answered."""

    def take(gateway: Bench, seconds: float) -> Figures:
        request = load.chat(size=size, target=_target(gateway, target))
        process = gateway.process
        load.wrk(gateway.port, request, gateway.folder, connections=CONNECTIONS, seconds=WARM_UP_SECONDS)
        before = process.cpu_seconds() if process else 0.0
        count = load.wrk(gateway.port, request, gateway.folder, connections=CONNECTIONS, seconds=seconds)
        figures = {"requests/s": count.done / count.seconds, **_cost(process, before, count, "request")}
        return {**figures, "RSS after MB": process.rss() / MEGA} if process else figures

    return take


def latency(gateway: Bench, seconds: float) -> Figures:
    """At a fixed rate, in turns with a direct connection, so that both see the same noise of the machine."""
    ports = (gateway.port, gateway.upstream_port)
    asked = load.at_fixed_rate(ports, load.chat(), rate=RATE, seconds=seconds)
    (p50, p99), (direct50, direct99) = map(_percentiles, uvloop.run(asked))
    return {
        "p50 ms": p50 * MILLI,
        "p99 ms": p99 * MILLI,
        "added p50 ms": (p50 - direct50) * MILLI,
        "added p99 ms": (p99 - direct99) * MILLI,
    }


def _percentiles(took: Sequence[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(took, n=100)
    return cuts[49], cuts[98]


def streams(
    connections: int, *, target: str | None = None, asked: Callable[..., load.Chat] = load.chat_stream
) -> Callable[[Bench, float], Figures]:
    """Streams one after the other on each of the connections; a chunk is one token of the upstream."""

    def take(gateway: Bench, seconds: float) -> Figures:
        request = asked(target=_target(gateway, target))
        before = gateway.process.cpu_seconds() if gateway.process else 0.0
        reading = load.streams(gateway.port, request, connections=connections, events=gateway.events, seconds=seconds)
        count = uvloop.run(reading)
        return {"chunks/s": count.done / count.seconds, **_cost(gateway.process, before, count, "chunk")}

    return take


def idle_streams(gateway: Bench, seconds: float) -> Figures:
    """The memory of streams that have begun and then wait for their next token."""
    process = gateway.process
    return {"kB/stream": uvloop.run(_grown(gateway.port, process)) / IDLE_STREAMS / KILO} if process else {}


async def _grown(port: int, process: Process) -> int:
    raw = load.chat_stream().raw()
    async with asyncio.timeout(load.PATIENCE), load.connected([port]) as first:
        # One stream before: what is loaded or allocated once is no stream's own.
        await first[0].begin(raw)
        before = process.rss()
        async with load.connected([port] * IDLE_STREAMS) as clients:
            await asyncio.gather(*(client.begin(raw) for client in clients))
            await asyncio.sleep(SETTLE_SECONDS)
            return process.rss() - before


def translations(gateway: Bench, seconds: float) -> Figures:
    """The milliseconds that a long conversation takes to be translated, in this process."""
    if gateway.name not in OURS:
        return {}
    return {f"ms to {name}": took * MILLI for name, took in translate.times(seconds).items()}


MEASURES = (
    Measure("start", "spawn to first 200 of /ping", start_up),
    Measure("chat", f"pass-through chat, {CONNECTIONS} connections", chats()),
    Measure("chat-translated", "the same, OpenAI to TGI and back", chats(target="tgi")),
    Measure("chat-100kB", "pass-through chat with a body of 100 kB", chats(size=100_000)),
    Measure("latency", f"{RATE:.0f} requests/s, added to a direct connection", latency, longer=3),
    Measure("stream", f"{STREAMS} streams as fast as they come", streams(STREAMS)),
    Measure("stream-translated", "the same, TGI to OpenAI", streams(STREAMS, target="tgi")),
    Measure(
        "stream-anthropic",
        "the same, OpenAI to Anthropic",
        streams(STREAMS, target="openai", asked=load.message_stream),
    ),
    Measure("paced", f"{PACED_STREAMS} streams of 50 tokens/s", streams(PACED_STREAMS), events=50, pace=20),
    Measure("paced-translated", "the same, TGI to OpenAI", streams(PACED_STREAMS, target="tgi"), events=50, pace=20),
    Measure("translate-200kB", "one conversation of 200 kB translated, without any network", translations),
    Measure("idle", f"memory of {IDLE_STREAMS} idle streams", idle_streams, events=2, pace=FOREVER_MS),
)
