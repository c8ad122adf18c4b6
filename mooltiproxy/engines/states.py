"""What an engine is to the schedule, what a request to it is, and what can be decided about both."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

MAX_STAY = 10.0
"""Seconds that an engine keeps its place after a start, at the most; no longer than the start has taken."""
IDLE_STAY = 1.0
"""Seconds without a request after which it does not insist on that."""


class State(StrEnum):
    """What an engine does. There is a process, or a loaded model, from `starting` to `stopping`."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    FAILED = "failed"


RUNNING = frozenset({State.STARTING, State.READY, State.DRAINING, State.STOPPING})


class Reason(StrEnum):
    """Why a request is refused. `TOO_LARGE`: the engine does not fit into the budget, less what pinned ones hold of
    it. `PINNED`: another of its group is pinned."""

    FULL = "full"
    LATE = "late"
    FAILED = "failed"
    REMOVED = "removed"
    TOO_LARGE = "too large"
    PINNED = "pinned"


@dataclass(frozen=True, slots=True)
class Rules:
    """How one engine is to be treated.

    Of the engines of a `group` one runs at a time. `unload_after` is idle seconds, `math.inf` for never; `max_wait`
    those that a request waits at the most. `needs` are bytes by resource, of those that the budget names; what is not
    said there is what was last measured. An engine with `pin` is stopped neither for another nor for idleness; one with
    `preload` starts without a request; one with `swap_now` leaves its place to another in the middle of its answers; a
    start with `cancel_start` is broken off when nobody waits for it any more.
    """

    group: str = ""
    unload_after: float = math.inf
    max_waiting: int = 512
    max_wait: float = 600.0
    needs: Mapping[str, int] = field(default_factory=dict)
    pin: bool = False
    preload: bool = False
    swap_now: bool = False
    cancel_start: bool = False


@dataclass(eq=False, slots=True)
class Ticket:
    """One request to an engine. `keep_alive` are the idle seconds that it wants the engine to be kept, None where it
    does not say. The rest is the schedule's."""

    engine: str
    keep_alive: float | None = None
    number: int = field(default=0, init=False)
    deadline: float = field(default=math.inf, init=False)
    place: "Engine | None" = field(default=None, init=False, repr=False)
    waits: bool = field(default=False, init=False)
    admitted: bool = field(default=False, init=False)


@dataclass(frozen=True, slots=True)
class Admit:
    """The request may be sent; it counts as in flight until `leave`."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request is not to wait any longer. `retry_after` are seconds, 0 where nobody knows."""

    ticket: Ticket
    reason: Reason
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Start:
    """Start the engine; then `started`, `failed`, or `ended` where it was stopped meanwhile."""

    engine: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the engine, also where requests are in flight; then `ended`."""

    engine: str


Decision = Admit | Refuse | Start | Stop


@dataclass(eq=False, slots=True)
class Engine:
    """What the schedule knows of an engine; to be read only.

    `since` is when its state began, `ready_at` when its run became ready, `idle_since` when its last answer ended.
    `keep` is what the last request that said so wanted, until the engine stops. `used` is what has been measured of
    this run, `known` what was last measured of a ready one, both in bytes by resource. `is_due` tells that it is to be
    started without a request, `is_outdated` that what runs is no longer what is wanted,
    `is_lost` that it has ended by itself.
    """

    name: str
    rules: Rules
    state: State = State.STOPPED
    since: float = 0.0
    ready_at: float = 0.0
    in_flight: int = 0
    idle_since: float = 0.0
    keep: float | None = None
    waiting: deque[Ticket] = field(default_factory=deque)
    stay: float = 0.0
    failures: int = 0
    retry_at: float = 0.0
    used: Mapping[str, int] = field(default_factory=dict)
    known: Mapping[str, int] = field(default_factory=dict)
    is_due: bool = False
    must_stop: bool = False
    is_outdated: bool = False
    is_lost: bool = False
    removed: bool = False

    @property
    def is_running(self) -> bool:
        """Whether it has a process."""
        return self.state in RUNNING

    @property
    def until(self) -> float | None:
        """When it stops if nobody asks it any more: `math.inf` for never, None where it is busy or not ready."""
        if self.state is not State.READY or self.in_flight:
            return None
        if self.rules.pin:
            return math.inf
        return self.idle_since + (self.rules.unload_after if self.keep is None else self.keep)

    @property
    def free_at(self) -> float:
        """From when on a ready engine gives its place to another."""
        stayed = self.ready_at + self.stay
        return stayed if self.in_flight else min(stayed, self.idle_since + min(self.stay, IDLE_STAY))

    def takes(self, resource: str) -> int:
        """The bytes that it has of a resource, or would need if it were started."""
        need = self.rules.needs.get(resource)
        return max(self.known.get(resource, 0) if need is None else need, self.used.get(resource, 0))

    def goes(self, now: float, closing: bool) -> bool:
        """Whether its run comes to an end anyhow, whoever else wants its place."""
        if self.state is State.STOPPING or self.must_stop:
            return True
        until = self.until
        return until is not None and (closing or until <= now)

    @property
    def is_kept(self) -> bool:
        """Whether its run goes on for a while although it has to end: for answers, or for those who wait for it."""
        return self.state is not State.STOPPING and bool(self.in_flight or self.state is State.STARTING)

    def goes_for_another(self, now: float) -> bool:
        """Whether it can be stopped at once where another is to have its place."""
        if self.state is State.STARTING:
            return not self.waiting
        is_free = self.state is State.DRAINING or self.state is State.READY and now >= self.free_at
        return is_free and (not self.in_flight or self.rules.swap_now)
