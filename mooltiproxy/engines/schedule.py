"""Which engine runs when: events in, decisions out. Pure: no process, no I/O and no clock of its own.

Times are seconds of one clock of the caller's, which gives the present one with every event. What a method returns is
to be done by the caller, in that order; what comes of it is told by another event.
"""

import math
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count

MAX_STAY = 10.0
"""Seconds that an engine keeps its group's place after a start, at the most; no longer than the start has taken."""
IDLE_STAY = 1.0
"""Seconds without a request after which it does not insist on that."""
STABLE = 30.0
"""Seconds after which an engine that ends by itself does not count as one that ends again and again."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
"""Seconds until an engine that failed is started again: the first time, and the most that doubling makes of it."""


class State(StrEnum):
    """What an engine does. There is a process from `starting` to `stopping`."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    FAILED = "failed"


RUNNING = frozenset({State.STARTING, State.READY, State.DRAINING, State.STOPPING})


class Reason(StrEnum):
    """Why a request is refused."""

    FULL = "full"
    LATE = "late"
    FAILED = "failed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Rules:
    """How one engine is to be treated. Of the engines of a `group` one runs at a time. `unload_after` is idle seconds,
    `math.inf` for never; `max_wait` those that a request waits at the most."""

    group: str = ""
    unload_after: float = math.inf
    max_waiting: int = 512
    max_wait: float = 600.0


@dataclass(eq=False, slots=True)
class Ticket:
    """One request to an engine. `keep_alive` are the idle seconds that it wants the engine to be kept, None where it
    does not say. The rest is the schedule's."""

    engine: str
    keep_alive: float | None = None
    number: int = field(default=0, init=False)
    deadline: float = field(default=math.inf, init=False)
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
    """Stop the engine; then `ended`."""

    engine: str


Decision = Admit | Refuse | Start | Stop


@dataclass(slots=True)
class Engine:
    """What the schedule knows of an engine; to be read only.

    `since` is when its state began, `idle_since` when its last answer ended. `keep` is what the last request that said
    so wanted, until the engine stops. `is_outdated` tells that what runs is no longer what is wanted.
    """

    name: str
    rules: Rules
    state: State = State.STOPPED
    since: float = 0.0
    in_flight: int = 0
    idle_since: float = 0.0
    keep: float | None = None
    waiting: deque[Ticket] = field(default_factory=deque)
    stay: float = 0.0
    failures: int = 0
    retry_at: float = 0.0
    must_stop: bool = False
    is_outdated: bool = False
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
        return self.idle_since + (self.rules.unload_after if self.keep is None else self.keep)

    @property
    def free_at(self) -> float:
        """From when on a ready engine gives its place to another of its group."""
        stayed = self.since + self.stay
        return stayed if self.in_flight else min(stayed, self.idle_since + min(self.stay, IDLE_STAY))


class Schedule:
    """The engines by name. `alarm` is when `tick` is due, None for never."""

    def __init__(self) -> None:
        self.engines: dict[str, Engine] = {}
        self.alarm: float | None = None
        self._numbers = count(1)
        self._waiting = 0
        self._closing = False

    # What the configuration says.

    def configure(self, name: str, rules: Rules, now: float) -> list[Decision]:
        """A new engine, or new rules for one that is there."""
        engine = self.engines.get(name)
        if engine is None:
            self.engines[name] = Engine(name, rules, since=now)
            return []
        engine.rules, engine.removed = rules, False
        return self._settle(now)

    def remove(self, name: str, now: float) -> list[Decision]:
        """Stop an engine as soon as its requests are answered, and forget it."""
        engine = self.engines[name]
        engine.removed = engine.must_stop = True
        refused = list(self._refuse_all(engine, Reason.REMOVED))
        if not engine.is_running:
            del self.engines[name]
        return [*refused, *self._settle(now)]

    # What clients do.

    def ask(self, ticket: Ticket, now: float) -> list[Decision]:
        """A request comes: it is admitted, has to wait, or is refused."""
        engine = self.engines[ticket.engine]
        if engine.state is State.READY:
            return [self._admit(engine, ticket)]
        if engine.removed:
            return [Refuse(ticket, Reason.REMOVED)]
        if engine.state is State.FAILED and now < engine.retry_at:
            return [Refuse(ticket, Reason.FAILED, engine.retry_at - now)]
        if len(engine.waiting) >= engine.rules.max_waiting:
            return [Refuse(ticket, Reason.FULL)]
        ticket.number = next(self._numbers)
        ticket.deadline = now + engine.rules.max_wait
        ticket.waits = True
        engine.waiting.append(ticket)
        self._waiting += 1
        return self._settle(now)

    def leave(self, ticket: Ticket, now: float) -> list[Decision]:
        """A request is over: its answer has ended, or its client has left. Does nothing the second time."""
        engine = self.engines.get(ticket.engine)
        if ticket.waits and engine is not None:
            engine.waiting.remove(ticket)
            self._unqueue(ticket)
            return self._settle(now)
        if not ticket.admitted or engine is None:
            return []
        ticket.admitted = False
        engine.in_flight -= 1
        if engine.in_flight:
            return []
        engine.idle_since = now
        until = engine.until
        if self._waiting or self._closing or until is None or until <= now:
            return self._settle(now)
        self.alarm = until if self.alarm is None else min(self.alarm, until)  # no look at the others: the common case
        return []

    def unload(self, name: str, now: float, *, outdated: bool = False) -> list[Decision]:
        """Stop an engine as soon as its requests are answered, those that wait for its start included; those that come
        later start it again. A start that is `outdated` is broken off, and those who wait for it wait for the next."""
        engine = self.engines[name]
        engine.must_stop = engine.is_running
        engine.is_outdated = outdated and engine.is_running
        return self._settle(now)

    def close(self, now: float) -> list[Decision]:
        """From now on an engine stops when nobody needs it any more."""
        self._closing = True
        return self._settle(now)

    # What becomes of decisions, and what happens by itself.

    def started(self, name: str, now: float) -> list[Decision]:
        """A start has succeeded."""
        engine = self.engines[name]
        if engine.state is not State.STARTING:  # it was stopped meanwhile, `ended` follows
            return []
        engine.stay = min(now - engine.since, MAX_STAY)
        engine.idle_since = now
        self._enter(engine, State.READY, now)
        return [*self._admit_all(engine), *self._settle(now)]

    def failed(self, name: str, now: float) -> list[Decision]:
        """A start has failed: all that waited for it are told, and it is not tried again for a while."""
        engine = self.engines[name]
        if engine.state is not State.STARTING:
            return self.ended(name, now)
        return self._fail(engine, now)

    def ended(self, name: str, now: float) -> list[Decision]:
        """The process has ended, because it was stopped or by itself."""
        engine = self.engines[name]
        if engine.state is State.STOPPING:
            engine.failures = 0
        elif now - engine.since < STABLE and engine.failures:
            return self._fail(engine, now)
        else:
            engine.failures = 1
        self._enter(engine, State.STOPPED, now)
        return self._settle(now)

    def tick(self, now: float) -> list[Decision]:
        """Time has passed."""
        return self._settle(now)

    # How it is decided.

    def _fail(self, engine: Engine, now: float) -> list[Decision]:
        engine.failures += 1
        pause = min(FIRST_PAUSE * 2 ** min(engine.failures - 1, 10), LONGEST_PAUSE)
        engine.retry_at = now + pause
        self._enter(engine, State.FAILED, now)
        return [*self._refuse_all(engine, Reason.FAILED, pause), *self._settle(now)]

    def _enter(self, engine: Engine, state: State, now: float) -> None:
        engine.state, engine.since = state, now
        if not engine.is_running:
            engine.keep, engine.must_stop, engine.is_outdated = None, False, False
            if engine.removed:
                del self.engines[engine.name]

    def _admit(self, engine: Engine, ticket: Ticket) -> Admit:
        engine.in_flight += 1
        ticket.admitted = True
        if ticket.keep_alive is not None:
            engine.keep = ticket.keep_alive
        return Admit(ticket)

    def _admit_all(self, engine: Engine) -> Iterator[Admit]:
        while engine.waiting:
            ticket = engine.waiting.popleft()
            self._unqueue(ticket)
            yield self._admit(engine, ticket)

    def _refuse_all(self, engine: Engine, reason: Reason, retry_after: float = 0.0) -> Iterator[Refuse]:
        while engine.waiting:
            ticket = engine.waiting.popleft()
            self._unqueue(ticket)
            yield Refuse(ticket, reason, retry_after)

    def _unqueue(self, ticket: Ticket) -> None:
        ticket.waits = False
        self._waiting -= 1

    def _settle(self, now: float) -> list[Decision]:
        """All that follows from how things are now; looks at every engine."""
        groups: defaultdict[str, list[Engine]] = defaultdict(list)
        decisions: list[Decision] = []
        for engine in self.engines.values():
            groups[engine.rules.group or f"/{engine.name}"].append(engine)  # no group's name begins with a slash
            decisions += self._refuse_late(engine, now)
        for members in groups.values():
            decisions += self._arbitrated(members, now)
        self.alarm = min((time for members in groups.values() for time in self._times(members)), default=None)
        return decisions

    def _refuse_late(self, engine: Engine, now: float) -> Iterator[Refuse]:
        while engine.waiting and engine.waiting[0].deadline <= now:
            ticket = engine.waiting.popleft()
            self._unqueue(ticket)
            yield Refuse(ticket, Reason.LATE)

    def _arbitrated(self, members: list[Engine], now: float) -> Iterator[Decision]:
        """What becomes of the place of one group: who has to leave it, and who gets it next."""
        following = _following(members)
        for holder in members:
            if holder.is_running:
                yield from self._held(holder, following, now)
        if following is not None and not any(member.is_running for member in members):
            self._enter(following, State.STARTING, now)
            yield Start(following.name)

    def _held(self, holder: Engine, following: Engine | None, now: float) -> Iterator[Decision]:
        """What becomes of an engine that has the place; `following` is who wants it."""
        is_needless = not holder.waiting and (holder.must_stop or following is not None)
        if holder.state is State.STARTING and (is_needless or holder.is_outdated):
            yield self._stop(holder, now)
        if holder.state is State.READY and self._should_leave(holder, following, now):
            self._enter(holder, State.DRAINING, now)
        elif holder.state is State.DRAINING and following is None and not holder.must_stop:
            self._enter(holder, State.READY, now)  # those who wanted the place have left
            yield from self._admit_all(holder)
        if holder.state is State.DRAINING and not holder.in_flight:
            yield self._stop(holder, now)

    def _should_leave(self, holder: Engine, following: Engine | None, now: float) -> bool:
        if holder.must_stop or following is not None and now >= holder.free_at:
            return True
        until = holder.until
        return until is not None and (self._closing or until <= now)

    def _stop(self, engine: Engine, now: float) -> Stop:
        self._enter(engine, State.STOPPING, now)
        return Stop(engine.name)

    def _times(self, members: list[Engine]) -> Iterator[float]:
        """When something changes by itself."""
        following = _following(members)
        for engine in members:
            if engine.waiting:
                yield engine.waiting[0].deadline
            until = engine.until
            if until is not None and until != math.inf:
                yield until
            if engine.state is State.READY and following is not None:
                yield engine.free_at


def _following(members: list[Engine]) -> Engine | None:
    """Who has waited longest among those who have no process."""
    asked = (member for member in members if member.waiting and not member.is_running)
    return min(asked, key=lambda member: member.waiting[0].number, default=None)
