"""Which engine runs when: events in, decisions out. Pure: no process, no I/O and no clock of its own.

Times are seconds of one clock of the caller's, which gives the present one with every event. What a method returns is
to be done by the caller, in that order; what comes of it is told by another event.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import count

from mooltiproxy.engines.room import Room
from mooltiproxy.engines.states import (
    MAX_STAY,
    RUNNING,
    Admit,
    Decision,
    Engine,
    Reason,
    Refuse,
    Rules,
    Start,
    State,
    Stop,
    Ticket,
)

__all__ = [
    "RUNNING",
    "Admit",
    "Decision",
    "Engine",
    "Reason",
    "Refuse",
    "Rules",
    "Schedule",
    "Start",
    "State",
    "Stop",
    "Ticket",
]

STABLE = 30.0
"""Seconds after which an engine that ends by itself does not count as one that ends again and again."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
"""Seconds until an engine that failed is started again: the first time, and the most that doubling makes of it."""


class Schedule:
    """The engines by name. `alarm` is when `tick` is due, None for never."""

    def __init__(self) -> None:
        self.engines: dict[str, Engine] = {}
        self.alarm: float | None = None
        self._numbers = count(1)
        self._waiting = 0
        self._budget: dict[str, int] = {}
        self._is_overfull = False
        self._closing = False

    # What the configuration says.

    def configure(self, name: str, rules: Rules, now: float) -> list[Decision]:
        """A new engine, or new rules for one that is there."""
        engine = self.engines.get(name)
        is_new = engine is None or engine.removed or not engine.rules.preload
        if engine is None:
            engine = self.engines[name] = Engine(name, rules, since=now)
        engine.rules, engine.removed = rules, False
        for ticket in engine.waiting:  # in the order of their deadlines, also where newcomers may wait less
            ticket.deadline = min(ticket.deadline, now + rules.max_wait)
        stays = engine.is_running and not engine.must_stop
        engine.is_due = rules.preload and (engine.is_due or is_new and not stays)
        is_idle = not engine.is_due and not engine.waiting and not engine.is_running
        return [] if is_idle else self._settle(now)

    def set_budget(self, budget: Mapping[str, int], now: float) -> list[Decision]:
        """What the engines may take together, in bytes by resource; what it does not name is without bound."""
        self._budget = dict(budget)
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
        engine = ticket.place = self.engines[ticket.engine]
        if engine.state is State.READY:
            admitted = self._admit(engine, ticket)
            return [admitted, *self._settle(now)] if self._waiting or self._is_overfull else [admitted]
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
        engine = ticket.place
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
        if self._waiting or self._closing or self._is_overfull or until is None or until <= now:
            return self._settle(now)
        self.alarm = until if self.alarm is None else min(self.alarm, until)  # no look at the others: the common case
        return []

    def unload(self, name: str, now: float, *, outdated: bool = False) -> list[Decision]:
        """Stop an engine as soon as its requests are answered, those that wait for its start included; those that come
        later start it again. Where what runs is `outdated`, a start is broken off, and those who wait for it wait for
        the next; a preloaded engine starts again, one that has failed may do so at once, and what has been measured is
        forgotten."""
        engine = self.engines[name]
        engine.must_stop = engine.is_running
        engine.is_outdated = outdated and engine.is_running
        engine.is_due = outdated and engine.rules.preload and (engine.is_running or engine.is_due)
        if outdated:
            engine.known = {}
        if outdated and engine.state is State.FAILED:
            engine.failures, engine.retry_at = 0, now
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
        return self._ready(engine, min(now - engine.since, MAX_STAY), now)

    def found(self, name: str, now: float) -> list[Decision]:
        """An engine that was not started turned out to be running, and to take requests."""
        engine = self.engines[name]
        return [] if engine.is_running else self._ready(engine, 0.0, now)

    def failed(self, name: str, now: float) -> list[Decision]:
        """A start has failed: all that waited for it are told, and it is not tried again for a while."""
        engine = self.engines[name]
        if engine.state is not State.STARTING:
            return self.ended(name, now)
        engine.is_due = engine.rules.preload and (engine.is_due or not engine.must_stop)
        return self._fail(engine, now)

    def lost(self, name: str, now: float) -> list[Decision]:
        """A running engine has come to its end by itself; `ended` follows when nothing is left of it. Until then
        requests wait."""
        engine = self.engines[name]
        engine.is_due = engine.is_due or engine.state is State.READY and engine.rules.preload
        engine.is_lost = True
        self._enter(engine, State.STOPPING, now)
        return self._settle(now)

    def ended(self, name: str, now: float) -> list[Decision]:
        """Nothing is left of an engine that was stopped, or lost."""
        engine = self.engines[name]
        if not engine.is_lost:
            engine.failures = 0
        elif engine.failures and engine.since - engine.ready_at < STABLE:
            return self._fail(engine, now)
        else:
            engine.failures = 1
        self._enter(engine, State.STOPPED, now)
        return self._settle(now)

    def measured(self, name: str, used: Mapping[str, int], now: float) -> list[Decision]:
        """What a running engine uses now, in bytes by resource."""
        engine = self.engines[name]
        if engine.state not in (State.STARTING, State.READY, State.DRAINING) or engine.used == used:
            return []
        engine.used = dict(used)
        if engine.state is not State.STARTING and not engine.is_outdated:
            engine.known = engine.used
        return self._settle(now) if self._budget else []

    def tick(self, now: float) -> list[Decision]:
        """Time has passed."""
        return self._settle(now)

    # How it is decided.

    def _ready(self, engine: Engine, stay: float, now: float) -> list[Decision]:
        engine.ready_at = engine.idle_since = now
        engine.stay, engine.is_due = stay, engine.is_due and engine.must_stop
        self._enter(engine, State.READY, now)
        return [*self._admit_all(engine), *self._settle(now)]

    def _fail(self, engine: Engine, now: float) -> list[Decision]:
        engine.failures += 1
        pause = min(FIRST_PAUSE * 2 ** min(engine.failures - 1, 10), LONGEST_PAUSE)
        engine.retry_at = now + pause
        self._enter(engine, State.FAILED, now)
        return [*self._refuse_all(engine, Reason.FAILED, pause), *self._settle(now)]

    def _enter(self, engine: Engine, state: State, now: float) -> None:
        engine.state, engine.since = state, now
        if not engine.is_running:
            engine.keep, engine.used = None, {}
            engine.must_stop = engine.is_outdated = engine.is_lost = False
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
        engines = [one for one in self.engines.values() if one.waiting or one.is_due or one.is_running]
        decisions: list[Decision] = []
        for engine in engines:
            decisions += self._refuse_late(engine, now)
            if engine.state is State.STARTING and self._is_needless(engine):
                decisions.append(self._stop(engine, now))
        room = Room(self._budget, [one for one in engines if one.is_running], now, self._closing)
        asked = [one for one in engines if one.waiting and one.state not in (State.STARTING, State.READY)]
        for engine in sorted(asked, key=lambda one: one.waiting[0].number):
            decisions += self._seat(engine, room, now)
        for engine in engines:
            if self._is_due(engine, now) and room.take_spare(engine):
                decisions.append(self._start(engine, now))
        if room.is_pinned_anew:
            decisions += self._refuse_hopeless(asked, room)
        for engine in engines:
            decisions += self._release(engine, engine in room.leaving, now)
        self._is_overfull = room.is_overfull
        self.alarm = min((time for engine in engines for time in self._times(engine, room, now)), default=None)
        return decisions

    def _refuse_late(self, engine: Engine, now: float) -> Iterator[Refuse]:
        while engine.waiting and engine.waiting[0].deadline <= now:
            ticket = engine.waiting.popleft()
            self._unqueue(ticket)
            yield Refuse(ticket, Reason.LATE)

    def _is_needless(self, engine: Engine) -> bool:
        """Whether a start is to be broken off, whoever else wants its place."""
        if engine.waiting:
            return engine.is_outdated
        is_cancelled = engine.rules.cancel_start and not engine.rules.preload
        return engine.must_stop or self._closing or is_cancelled

    def _seat(self, engine: Engine, room: Room, now: float) -> Iterator[Decision]:
        """What becomes of an engine that is asked for and takes no requests, after those asked for before it."""
        if engine.state is State.DRAINING and engine not in room.leaving:
            yield from self._go_on(engine, now)
            return
        reason = room.refusal(engine)
        if reason is None:
            if room.promise(engine) and not engine.is_running and room.take(engine):
                yield self._start(engine, now)
        elif not engine.is_running:
            yield from self._refuse_all(engine, reason)

    def _refuse_hopeless(self, engines: Iterable[Engine], room: Room) -> Iterator[Refuse]:
        for engine in engines:
            reason = room.refusal(engine)
            if reason is not None and not engine.is_running:
                yield from self._refuse_all(engine, reason)

    def _is_due(self, engine: Engine, now: float) -> bool:
        """Whether it is to be started although nobody asks for it."""
        if not engine.is_due or engine.is_running or engine.waiting or engine.removed or self._closing:
            return False
        return engine.state is not State.FAILED or engine.retry_at <= now

    def _release(self, engine: Engine, leaves: bool, now: float) -> Iterator[Decision]:
        """What becomes of the place that an engine has."""
        if engine.state is State.DRAINING and not leaves:
            yield from self._go_on(engine, now)  # those who wanted the place have left, or found another
        goes = engine.goes(now, self._closing)
        if engine.state is State.READY and (goes or leaves and now >= engine.free_at):
            self._enter(engine, State.DRAINING, now)
        is_done = engine.state is State.DRAINING and not engine.in_flight
        if is_done or leaves and not engine.must_stop and engine.goes_for_another(now):
            yield self._stop(engine, now)

    def _go_on(self, engine: Engine, now: float) -> Iterator[Admit]:
        self._enter(engine, State.READY, now)
        yield from self._admit_all(engine)

    def _start(self, engine: Engine, now: float) -> Start:
        engine.is_due = False
        self._enter(engine, State.STARTING, now)
        return Start(engine.name)

    def _stop(self, engine: Engine, now: float) -> Stop:
        self._enter(engine, State.STOPPING, now)
        return Stop(engine.name)

    def _times(self, engine: Engine, room: Room, now: float) -> Iterator[float]:
        """When something changes by itself."""
        if engine.waiting:
            yield engine.waiting[0].deadline
        until = engine.until
        if until is not None and until != math.inf:
            yield until
        if engine.state is State.READY and engine in room.leaving:
            yield engine.free_at
        if engine.is_due and engine.state is State.FAILED and engine.retry_at > now:
            yield engine.retry_at
