"""Whatever happens to the schedule, in any order: what always holds, and that everybody is served in the end."""

import math
import os
import random
from collections import Counter

import pytest

from mooltiproxy.engines.schedule import Admit, Decision, Reason, Refuse, Rules, State, Stop, Ticket
from tests.engines.simulation import Simulation

STEPS = int(os.environ.get("SCHEDULE_STEPS", "500"))
SEEDS = int(os.environ.get("SCHEDULE_SEEDS", "10"))
NAMES = "abcdefgh"
BUDGET = {"ram": 16, "gpu": 8}
UP = (State.READY, State.DRAINING)


class World(Simulation):
    """Anything happens here, and after every event it is checked what must always hold."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.asked: list[Ticket] = []
        self.answers: Counter[Ticket] = Counter()
        self.left: set[Ticket] = set()
        self.live: dict[str, set[Ticket]] = {name: set() for name in NAMES}
        self.last: Counter[str] = Counter()
        self.unloaded: set[str] = set()
        super().__init__(BUDGET, **{name: self.rules() for name in NAMES})

    def rules(self) -> Rules:
        choose, chance = self.random.choice, self.random.random
        return Rules(
            group=choose(["", "", "x", "y"]),
            unload_after=choose([0.0, 5.0, 50.0, math.inf]),
            max_waiting=choose([3, 20]),
            max_wait=choose([20.0, math.inf, math.inf]),
            needs={name: self.random.randint(0, size) for name, size in BUDGET.items() if chance() < 0.7},
            pin=chance() < 0.08,
            preload=chance() < 0.2,
            swap_now=chance() < 0.2,
            cancel_start=chance() < 0.3,
        )

    # What must always hold.

    def take(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Admit(ticket):
                    self.check_answer(ticket)
                    self.check_order(ticket)
                    self.live[ticket.engine].add(ticket)
                case Refuse(ticket):
                    self.check_answer(ticket)
                case Stop(name):
                    self.check_stop(name)
                    self.live[name].clear()
        super().take(decisions)
        self.check()

    def check_answer(self, ticket: Ticket) -> None:
        self.answers[ticket] += 1
        assert self.answers[ticket] == 1
        assert ticket not in self.left

    def check_order(self, ticket: Ticket) -> None:
        if ticket.number:  # it has waited
            assert ticket.number > self.last[ticket.engine]
            self.last[ticket.engine] = ticket.number

    def check_stop(self, name: str) -> None:
        assert name not in self.stopping
        engine = self.engine(name)
        if name in self.unloaded or engine.removed:
            return
        assert not engine.waiting or name not in self.starting
        assert not self.live[name] or engine.rules.swap_now
        assert not engine.rules.pin or name in self.starting and engine.rules.cancel_start

    def check(self) -> None:
        rest = self.schedule.tick(self.now)  # all that follows has been decided, but that a draining engine may go on
        assert all(isinstance(decision, Admit) for decision in rest)
        if rest:
            self.take(rest)
        alarm = self.schedule.alarm
        assert alarm is None or alarm > self.now
        for name, engine in self.schedule.engines.items():
            assert engine.in_flight >= len(self.live[name])
            numbers = [ticket.number for ticket in engine.waiting]
            assert numbers == sorted(numbers)
            assert not engine.waiting or engine.state is not State.READY
            assert engine.is_running == (name in self.starting or name in self.stopping or engine.state in UP)

    # What happens.

    def step(self) -> None:
        events = [self.asks] * 6 + [self.answered] * 5 + [self.goes_on] * 5 + [self.passes] * 4
        events += [self.gives_up, self.fails, self.crashes, self.unloads, self.reloads, self.measures, self.is_found]
        self.random.choice(events)()

    def asks(self) -> None:
        if names := list(self.schedule.engines):
            name = self.random.choice(names)
            self.asked.append(self.ask(name, self.random.choice([None, None, 0.0, 3.0, math.inf])))

    def answered(self) -> None:
        if self.admitted:
            self.over(self.random.choice(self.admitted))

    def gives_up(self) -> None:
        if waiting := [ticket for ticket in self.asked if ticket.waits]:
            self.over(self.random.choice(waiting))

    def over(self, ticket: Ticket) -> None:
        self.left.add(ticket)
        self.live[ticket.engine].discard(ticket)
        self.leave(ticket)
        self.leave(ticket)

    def goes_on(self) -> None:
        if chosen := [*self.starting, *self.stopping]:
            name = self.random.choice(chosen)
            if name in self.starting:
                self.started(name)
            else:
                self.ends(name)

    def ends(self, name: str) -> None:
        self.unloaded.discard(name)
        self.live[name].clear()
        self.ended(name)

    def fails(self) -> None:
        if self.starting:
            name = self.random.choice(self.starting)
            self.unloaded.discard(name)
            self.failed(name)

    def crashes(self) -> None:
        if up := [name for name, engine in self.schedule.engines.items() if engine.state in UP]:
            self.random.choice([self.ends, self.lost])(self.random.choice(up))

    def unloads(self) -> None:
        if running := sorted(self.running()):
            name = self.random.choice(running)
            self.unloaded.add(name)
            self.unload(name)

    def reloads(self) -> None:
        name = self.random.choice(NAMES)
        if name in self.schedule.engines and self.random.random() < 0.3:
            self.remove(name)
            return
        self.configure(name, self.rules())
        if name in self.running() and self.random.random() < 0.7:
            self.unloaded.add(name)
            self.unload(name, outdated=True)

    def measures(self) -> None:
        if running := sorted(self.running()):
            self.measured(self.random.choice(running), ram=self.random.randint(0, 10), gpu=self.random.randint(0, 5))

    def is_found(self) -> None:
        if self.random.random() < 0.2 and self.schedule.engines:
            self.found(self.random.choice(list(self.schedule.engines)))

    def passes(self) -> None:
        self.wait(self.random.choice([0.1, 1.0, 5.0, 40.0]))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            alarm = self.schedule.alarm
            due = end if alarm is None else min(alarm, end)
            self.now = (self.now + due) / 2
            self.check()  # nothing happens before the alarm
            self.now = due
            self.take(self.schedule.tick(self.now))

    def settle_down(self) -> None:
        """From here on all goes well, and nobody asks any more."""
        for _ in range(10 * len(NAMES)):
            for ticket in list(self.admitted):
                self.over(ticket)
            for name in list(self.starting):
                if name in self.starting:
                    self.started(name)
            for name in list(self.stopping):
                self.ends(name)
            self.wait(12.0)
            if not any(ticket.waits for ticket in self.asked) and not self.admitted:
                return


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_the_rules_hold_and_everybody_is_answered(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.settle_down()
    for ticket in world.asked:
        assert not ticket.waits
        assert not ticket.admitted
        assert world.answers[ticket] or ticket in world.left
    assert not any(engine.in_flight for engine in world.schedule.engines.values())
    assert world.reasons()[Reason.FULL] < len(world.asked) / 2
