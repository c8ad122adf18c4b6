"""How long the scheduler takes to decide, by the number of engines: python bench/schedule.py. One process, no I/O.

`warm` is a request to an engine that is ready and its end. `swap` is all that is decided when another engine gets the
place: its request, the stop of the one that has it, and the start. `crowd` is the same where every engine but the one
that runs is waited for, and all want the same budget.
"""

import sys
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mooltiproxy.engines.schedule import Rules, Schedule, Ticket

ENGINES = (10, 100, 1000)
SECONDS = 0.5
ROUNDS = 3
MICRO = 1e6
PAUSE = 100.0
"""Seconds of the schedule's clock after which an engine's place is free."""


class Clocked:
    """A schedule of so many engines, of which the first is ready and idle, and its clock. Half of them share a group,
    the others are kept apart by the budget."""

    def __init__(self, engines: int) -> None:
        self.schedule = Schedule()
        self.now = 0.0
        self.schedule.set_budget({"ram": 10, "gpu": 10}, self.now)
        self.names = [f"engine{number}" for number in range(engines)]
        for number, name in enumerate(self.names):
            group = "group" if number % 2 else ""
            self.schedule.configure(name, Rules(group=group, needs={"ram": 6, "gpu": 6}, max_wait=1e12), self.now)
        self.ready = self.names[0]
        self.schedule.leave(self.start(), self.now)

    def start(self) -> Ticket:
        """Ask for the engine that is next and start it; the request."""
        ticket = Ticket(self.ready)
        self.schedule.ask(ticket, self.now)
        self.schedule.started(self.ready, self.now)
        return ticket

    def wait(self) -> None:
        """Let so much time pass that places are free."""
        self.now += PAUSE
        self.schedule.tick(self.now)


def warm(clocked: Clocked) -> Callable[[], None]:
    """A request to the engine that is ready, and its end."""
    schedule, name = clocked.schedule, clocked.ready

    def once() -> None:
        ticket = Ticket(name)
        schedule.ask(ticket, clocked.now)
        schedule.leave(ticket, clocked.now)

    return once


def swap(clocked: Clocked) -> Callable[[], None]:
    """A request to the next engine, the end of the one that runs, the start, and the end of the request."""
    schedule, names = clocked.schedule, cycle(clocked.names[1:] + clocked.names[:1])

    def once() -> None:
        clocked.now += PAUSE
        before, clocked.ready = clocked.ready, next(names)
        ticket = Ticket(clocked.ready)
        schedule.ask(ticket, clocked.now)
        schedule.ended(before, clocked.now)
        schedule.started(clocked.ready, clocked.now)
        schedule.leave(ticket, clocked.now)

    return once


def crowd(clocked: Clocked) -> Callable[[], None]:
    """The same while all others wait: the end of the one that runs, the start of the next, its answer, and a request
    to the one before."""
    schedule, names = clocked.schedule, cycle(clocked.names[1:] + clocked.names[:1])
    tickets = {name: Ticket(name) for name in clocked.names[1:]}
    for ticket in tickets.values():
        schedule.ask(ticket, clocked.now)
    clocked.wait()

    def once() -> None:
        clocked.now += PAUSE
        before, clocked.ready = clocked.ready, next(names)
        schedule.ended(before, clocked.now)
        schedule.started(clocked.ready, clocked.now)
        tickets[before] = Ticket(before)
        schedule.ask(tickets[before], clocked.now)
        schedule.leave(tickets.pop(clocked.ready), clocked.now)
        clocked.wait()

    return once


MEASURES = (warm, swap, crowd)


def microseconds(once: Callable[[], None], seconds: float) -> float:
    """The mean of a call's time, in this process."""
    done, began = 0, time.process_time()
    while (spent := time.process_time() - began) < seconds or not done:
        once()
        done += 1
    return spent / done * MICRO


def main() -> None:
    """Print a line for each measure and number of engines: the best of the rounds."""
    print(f"{'measure':<10}{'engines':>10}{'us':>12}{'us/engine':>12}")
    for measure in MEASURES:
        for engines in ENGINES:
            took = min(microseconds(measure(Clocked(engines)), SECONDS) for _ in range(ROUNDS))
            print(f"{measure.__name__:<10}{engines:>10,}{took:>12,.1f}{took / engines:>12.3f}")


if __name__ == "__main__":
    main()
