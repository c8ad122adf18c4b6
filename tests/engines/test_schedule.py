"""The schedule alone: no process, and a clock that is turned by hand."""

import math
import time

import pytest

from mooltiproxy.engines.schedule import Reason, Refuse, Rules, State, Ticket
from tests.engines.simulation import Simulation

ONE = Rules(group="gpu", unload_after=900)


def test_the_first_request_starts_the_engine_and_those_behind_it_share_the_start() -> None:
    sim = Simulation(a=ONE)
    tickets = [sim.ask("a") for _ in range(3)]
    assert (sim.starting, sim.admitted) == (["a"], [])
    sim.started("a")
    assert sim.admitted == tickets


def test_an_engine_that_is_ready_admits_at_once() -> None:
    sim = Simulation(a=ONE)
    first = sim.started_for("a")
    second = sim.ask("a")
    assert sim.admitted == [first, second]


def test_a_failed_start_refuses_all_who_wait_and_is_not_tried_again_at_once() -> None:
    sim = Simulation(a=ONE)
    tickets = [sim.ask("a") for _ in range(50)]
    sim.failed("a")
    assert [refused.ticket for refused in sim.refused] == tickets
    late = sim.ask("a")
    assert sim.refused[-1] == Refuse(late, Reason.FAILED, 2.0)
    assert sim.starting == []


def test_a_failed_start_is_tried_again_after_a_pause_that_grows() -> None:
    sim = Simulation(a=ONE)
    for pause in (2.0, 4.0, 8.0):
        sim.ask("a")
        sim.failed("a")
        assert sim.refused[-1].retry_after == pause
        sim.wait(pause)
    sim.ask("a")
    sim.started("a")
    assert sim.state("a") is State.READY


def test_an_engine_that_has_failed_is_tried_at_once_when_its_settings_have_changed() -> None:
    sim = Simulation(a=ONE)
    sim.ask("a")
    sim.failed("a")
    sim.unload("a", outdated=True)
    sim.ask("a")
    assert sim.starting == ["a"]


def test_an_idle_engine_stops_and_the_clock_runs_from_the_end_of_the_last_answer() -> None:
    sim = Simulation(a=Rules(unload_after=10))
    ticket = sim.started_for("a")
    sim.wait(100)
    assert sim.state("a") is State.READY
    sim.leave(ticket)
    sim.wait(9.9)
    assert sim.stopping == []
    sim.wait(0.2)
    assert sim.stopping == ["a"]


def test_keep_alive_goes_before_unload_after_until_the_engine_stops() -> None:
    sim = Simulation(a=Rules(unload_after=10))
    sim.leave(sim.started_for("a"))
    sim.leave(sim.ask("a", keep_alive=2))
    sim.leave(sim.ask("a"))
    sim.wait(2)
    assert sim.stopping == ["a"]
    sim.ended("a")
    sim.leave(sim.started_for("a"))
    sim.wait(9)
    assert sim.stopping == []


def test_keep_alive_0_stops_when_the_last_answer_ends() -> None:
    sim = Simulation(a=ONE)
    first = sim.started_for("a")
    second = sim.ask("a", keep_alive=0)
    sim.leave(second)
    assert sim.stopping == []
    sim.leave(first)
    assert sim.stopping == ["a"]


def test_a_negative_keep_alive_is_for_ever() -> None:
    sim = Simulation(a=Rules(unload_after=10))
    sim.leave(sim.started_for("a"))
    sim.leave(sim.ask("a", keep_alive=math.inf))
    sim.wait(10_000)
    assert sim.state("a") is State.READY


def test_a_busy_engine_is_never_stopped_for_another() -> None:
    sim = Simulation(a=ONE, b=ONE)
    ticket = sim.started_for("a")
    sim.ask("b")
    sim.wait(60)
    assert (sim.state("a"), sim.stopping, sim.starting) == (State.DRAINING, [], [])
    sim.leave(ticket)
    assert sim.stopping == ["a"]
    sim.ended("a")
    assert sim.starting == ["b"]


def test_requests_for_the_old_engine_wait_behind_the_switch() -> None:
    sim = Simulation(a=ONE, b=ONE)
    first = sim.started_for("a")
    sim.wait(10)
    sim.ask("b")
    again = sim.ask("a")
    sim.leave(first)
    sim.ended("a")
    sim.started("b")
    assert again not in sim.admitted
    sim.leave(sim.admitted[-1])
    sim.wait(10)
    sim.ended("b")
    sim.started("a")
    assert sim.admitted == [again]


def test_an_engine_stays_as_long_as_its_start_took() -> None:
    sim = Simulation(a=ONE, b=ONE)
    ticket = sim.started_for("a", start=5)
    sim.ask("b")
    sim.wait(4.9)
    more = sim.ask("a")
    assert more in sim.admitted
    sim.wait(0.2)
    assert sim.state("a") is State.DRAINING
    sim.leave(more)
    sim.leave(ticket)
    assert sim.stopping == ["a"]


def test_an_idle_engine_leaves_its_place_sooner() -> None:
    sim = Simulation(a=ONE, b=ONE)
    sim.leave(sim.started_for("a", start=60))
    sim.ask("b")
    sim.wait(1)
    assert sim.stopping == ["a"]


def test_two_models_called_in_turn_by_many_do_not_swap_for_each_request() -> None:
    sim = Simulation(a=ONE, b=ONE)
    sim.leave(sim.started_for("a", start=5))
    swaps = 0
    for _ in range(100):  # two clients, each with its model, each asking again as soon as it is answered
        for name in ("a", "b"):
            if not sim.schedule.engines[name].waiting:
                sim.ask(name)
        sim.wait(0.5)
        for ticket in list(sim.admitted):
            sim.leave(ticket)
        for name in list(sim.stopping):
            sim.ended(name)
        if sim.starting:
            sim.wait(5)
            swaps += 1
            sim.started(sim.starting[0])
    assert 5 < swaps < 20


def test_who_waited_longest_is_served_next() -> None:
    sim = Simulation(a=ONE, b=ONE, c=ONE)
    ticket = sim.started_for("a")
    sim.ask("c")
    sim.ask("b")
    sim.wait(10)
    sim.leave(ticket)
    sim.ended("a")
    assert sim.starting == ["c"]


def test_an_engine_goes_on_when_those_who_wanted_its_place_have_left() -> None:
    sim = Simulation(a=ONE, b=ONE)
    sim.started_for("a")
    sim.wait(10)
    other = sim.ask("b")
    waiting = sim.ask("a")
    assert waiting not in sim.admitted
    sim.leave(other)
    assert waiting in sim.admitted


def test_a_start_that_nobody_waits_for_goes_on_unless_its_place_is_wanted() -> None:
    sim = Simulation(a=ONE, b=ONE)
    sim.leave(sim.ask("a"))
    assert (sim.starting, sim.stopping) == (["a"], [])
    sim.ask("b")
    assert sim.stopping == ["a"]
    sim.ended("a")
    assert sim.starting == ["b"]


def test_a_full_queue_refuses() -> None:
    sim = Simulation(a=Rules(max_waiting=2))
    sim.ask("a")
    sim.ask("a")
    third = sim.ask("a")
    assert sim.refused == [Refuse(third, Reason.FULL)]


def test_nobody_waits_longer_than_max_wait() -> None:
    sim = Simulation(a=Rules(max_wait=30))
    ticket = sim.ask("a")
    sim.wait(30)
    assert sim.refused == [Refuse(ticket, Reason.LATE)]


def test_a_shorter_max_wait_holds_for_those_who_wait_already() -> None:
    sim = Simulation(a=Rules(max_wait=600))
    sim.ask("a")
    sim.configure("a", Rules(max_wait=5))
    sim.ask("a")
    sim.wait(5)
    assert sim.reasons() == {Reason.LATE: 2}


def test_an_engine_that_crashes_is_started_by_the_next_request_but_not_again_and_again() -> None:
    sim = Simulation(a=ONE)
    first = sim.started_for("a")
    sim.ended("a")
    sim.leave(first)
    assert sim.state("a") is State.STOPPED
    second = sim.started_for("a")
    sim.ended("a")
    sim.leave(second)
    assert sim.state("a") is State.FAILED
    sim.ask("a")
    assert sim.refused[-1].reason is Reason.FAILED


def test_who_comes_when_an_engine_is_lost_waits_until_nothing_is_left_of_it() -> None:
    sim = Simulation(a=ONE)
    sim.leave(sim.started_for("a"))
    sim.lost("a")
    ticket = sim.ask("a")
    assert (sim.state("a"), ticket.admitted, sim.starting) == (State.STOPPING, False, [])
    sim.ended("a")
    assert sim.starting == ["a"]


def test_unload_waits_for_answers_and_what_comes_meanwhile_starts_it_again() -> None:
    sim = Simulation(a=ONE)
    first = sim.started_for("a")
    sim.unload("a")
    again = sim.ask("a")
    assert (sim.stopping, again in sim.admitted) == ([], False)
    sim.leave(first)
    sim.ended("a")
    sim.started("a")
    assert again in sim.admitted


def test_unload_lets_those_be_answered_who_wait_for_the_start() -> None:
    sim = Simulation(a=ONE)
    ticket = sim.ask("a")
    sim.unload("a")
    sim.started("a")
    assert ticket in sim.admitted
    sim.leave(ticket)
    assert sim.stopping == ["a"]


def test_a_start_of_what_is_no_longer_wanted_is_broken_off_and_who_waits_gets_the_next() -> None:
    sim = Simulation(a=ONE)
    ticket = sim.ask("a")
    sim.unload("a", outdated=True)
    assert sim.stopping == ["a"]
    sim.ended("a")
    sim.started("a")
    assert ticket in sim.admitted


def test_an_engine_that_is_removed_answers_what_it_has_and_is_forgotten() -> None:
    sim = Simulation(a=ONE, b=ONE)
    ticket = sim.started_for("a")
    sim.remove("a")
    late = sim.ask("a")
    assert sim.refused == [Refuse(late, Reason.REMOVED)]
    sim.leave(ticket)
    sim.ended("a")
    assert set(sim.schedule.engines) == {"b"}


def test_closing_stops_the_idle_at_once_and_the_busy_when_they_are_done() -> None:
    sim = Simulation(a=Rules(), b=Rules())
    sim.leave(sim.started_for("a"))
    busy = sim.started_for("b")
    sim.take(sim.schedule.close(sim.now))
    assert sim.stopping == ["a"]
    sim.leave(busy)
    assert sim.stopping == ["a", "b"]


@pytest.mark.parametrize("models", [1_000])
def test_a_request_to_a_warm_engine_does_not_look_at_the_others(models: int) -> None:
    sim = Simulation(None, **{f"m{at}": Rules() for at in range(models)})
    sim.leave(sim.started_for("m0"))
    began = time.process_time()
    for _ in range(1_000):
        ticket = Ticket("m0")
        sim.schedule.ask(ticket, sim.now)
        sim.schedule.leave(ticket, sim.now)
    assert time.process_time() - began < 0.1  # looking at each of them would take seconds
