"""A schedule with a clock that is turned by hand, whose starts and stops end when the test says so."""

from collections import Counter
from collections.abc import Mapping

from mooltiproxy.engines.schedule import Admit, Decision, Engine, Refuse, Rules, Schedule, Start, State, Stop, Ticket


class Simulation:
    """Notes what is decided. No start is ever decided beyond the budget or beside another of the group."""

    def __init__(self, budget: Mapping[str, int] | None = None, **rules: Rules) -> None:
        self.now = 100.0
        self.schedule = Schedule()
        self.budget: Mapping[str, int] = {}
        self.admitted: list[Ticket] = []
        self.refused: list[Refuse] = []
        self.starting: list[str] = []
        self.stopping: list[str] = []
        self.set_budget(budget or {})
        for name, one in rules.items():
            self.configure(name, one)

    def take(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Admit(ticket):
                    self.admitted.append(ticket)
                case Refuse():
                    self.refused.append(decision)
                case Start(name):
                    self.check_start(self.engine(name))
                    self.starting.append(name)
                case Stop(name):
                    self.stopping.append(name)
                    if name in self.starting:
                        self.starting.remove(name)

    def check_start(self, engine: Engine) -> None:
        running = [one for one in self.schedule.engines.values() if one.is_running]
        rivals = [one for one in running if one.rules.group == engine.rules.group != "" and one is not engine]
        assert not rivals
        for name, size in self.budget.items():
            if engine.takes(name):
                assert sum(one.takes(name) for one in running) <= size

    def engine(self, name: str) -> Engine:
        return self.schedule.engines[name]

    def state(self, name: str) -> State:
        return self.engine(name).state

    def running(self) -> set[str]:
        return {name for name, engine in self.schedule.engines.items() if engine.is_running}

    def reasons(self) -> Counter[str]:
        return Counter(refused.reason for refused in self.refused)

    # What happens.

    def set_budget(self, budget: Mapping[str, int]) -> None:
        self.budget = budget
        self.take(self.schedule.set_budget(budget, self.now))

    def configure(self, name: str, rules: Rules) -> None:
        self.take(self.schedule.configure(name, rules, self.now))

    def remove(self, name: str) -> None:
        self.take(self.schedule.remove(name, self.now))

    def unload(self, name: str, *, outdated: bool = False) -> None:
        self.take(self.schedule.unload(name, self.now, outdated=outdated))

    def measured(self, name: str, **used: int) -> None:
        self.take(self.schedule.measured(name, used, self.now))

    def found(self, name: str) -> None:
        self.take(self.schedule.found(name, self.now))

    def ask(self, name: str, keep_alive: float | None = None) -> Ticket:
        ticket = Ticket(name, keep_alive)
        self.take(self.schedule.ask(ticket, self.now))
        return ticket

    def leave(self, ticket: Ticket) -> None:
        if ticket in self.admitted:
            self.admitted.remove(ticket)
        self.take(self.schedule.leave(ticket, self.now))

    def started(self, name: str) -> None:
        self.starting.remove(name)
        self.take(self.schedule.started(name, self.now))

    def failed(self, name: str) -> None:
        self.starting.remove(name)
        self.take(self.schedule.failed(name, self.now))

    def lost(self, name: str) -> None:
        self.stopping.append(name)
        self.take(self.schedule.lost(name, self.now))

    def ended(self, name: str) -> None:
        """It has been stopped, or ends by itself."""
        if name not in self.stopping:
            self.lost(name)
        self.stopping.remove(name)
        self.take(self.schedule.ended(name, self.now))

    def wait(self, seconds: float) -> None:
        """Let time pass, with every alarm on the way."""
        end = self.now + seconds
        while (alarm := self.schedule.alarm) is not None and alarm <= end:
            self.now = max(self.now, alarm)
            self.take(self.schedule.tick(self.now))
        self.now = end

    def started_for(self, name: str, start: float = 2.0) -> Ticket:
        """Ask an engine and start it; the request."""
        ticket = self.ask(name)
        self.wait(start)
        self.started(name)
        return ticket

    def idle(self, *names: str) -> None:
        """Start engines, answer a request of each, and let their stay pass."""
        for name in names:
            self.leave(self.started_for(name))
            self.wait(1.0)
