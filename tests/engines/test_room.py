"""Who runs beside whom: budgets, what is pinned, what is preloaded, and who leaves for whom."""

import math

import pytest

from mooltiproxy.engines.schedule import Reason, Rules, State
from tests.engines.simulation import Simulation

BUDGET = {"ram": 10}


def needs(ram: int, **more: int) -> Rules:
    return Rules(needs={"ram": ram, **more})


def test_engines_run_beside_each_other_as_long_as_the_budget_lasts() -> None:
    sim = Simulation(BUDGET, a=needs(4), b=needs(6), c=needs(1))
    for name in "abc":
        sim.ask(name)
    assert sim.starting == ["a", "b"]


def test_every_resource_that_the_budget_names_must_last_and_no_other() -> None:
    sim = Simulation({"ram": 10, "gpu": 4}, a=needs(1, gpu=3, disk=9), b=needs(1, disk=9), c=needs(1, gpu=2))
    for name in "abc":
        sim.ask(name)
    assert sim.starting == ["a", "b"]


def test_a_group_excludes_whatever_the_budget_says() -> None:
    sim = Simulation(BUDGET, a=Rules("gpu", needs={"ram": 1}), b=Rules("gpu", needs={"ram": 1}))
    sim.ask("a")
    sim.ask("b")
    assert sim.starting == ["a"]


def test_the_idle_engine_that_was_used_least_recently_leaves_first() -> None:
    sim = Simulation(BUDGET, a=needs(3), b=needs(3), c=needs(3), d=needs(4))
    sim.idle("a", "b", "c")
    sim.leave(sim.ask("a"))
    sim.wait(1)
    sim.ask("d")
    assert sim.stopping == ["b"]
    sim.ended("b")
    assert sim.starting == ["d"]


def test_no_small_engine_leaves_if_a_large_one_has_to_anyway() -> None:
    sim = Simulation(BUDGET, small=needs(2), large=needs(7), new=needs(8))
    sim.idle("small", "large")
    sim.ask("new")
    assert sim.stopping == ["large"]


def test_of_those_that_another_makes_needless_the_one_that_was_used_first_leaves() -> None:
    sim = Simulation(BUDGET, a=needs(2), b=needs(2), c=needs(4), new=needs(7))
    sim.idle("a", "b", "c")
    sim.ask("new")
    assert sim.stopping == ["a", "c"]


def test_an_idle_engine_leaves_before_a_busy_one() -> None:
    sim = Simulation(BUDGET, busy=needs(5), idle=needs(5), new=needs(4))
    sim.started_for("busy")
    sim.idle("idle")
    sim.ask("new")
    assert sim.stopping == ["idle"]
    assert sim.state("busy") is State.READY


def test_a_busy_engine_that_has_to_leave_drains_first() -> None:
    sim = Simulation(BUDGET, a=needs(8), b=needs(8))
    ticket = sim.started_for("a")
    sim.wait(10)
    sim.ask("b")
    assert (sim.state("a"), sim.stopping) == (State.DRAINING, [])
    sim.leave(ticket)
    assert sim.stopping == ["a"]
    sim.ended("a")
    assert sim.starting == ["b"]


def test_a_draining_engine_goes_on_when_an_idle_one_leaves_in_its_place() -> None:
    sim = Simulation(BUDGET, a=needs(5), b=needs(5), c=needs(5))
    first, second = sim.started_for("a"), sim.started_for("b")
    sim.wait(10)
    sim.ask("c")
    assert sim.state("a") is State.DRAINING
    waiting = sim.ask("a")
    sim.leave(second)
    assert (sim.state("a"), sim.stopping) == (State.READY, ["b"])
    assert {first, waiting} <= set(sim.admitted)


def test_an_engine_that_is_to_leave_but_is_asked_in_time_stays_if_another_can_leave() -> None:
    sim = Simulation(BUDGET, a=needs(5), b=needs(5), c=needs(5))
    sim.started_for("a")
    sim.wait(10)
    sim.leave(sim.started_for("b"))
    sim.ask("c")
    assert sim.state("a") is State.READY
    sim.ask("b")
    assert (sim.state("a"), sim.state("b")) == (State.DRAINING, State.READY)


def test_nobody_leaves_for_an_engine_whose_group_is_about_to_serve_another() -> None:
    sim = Simulation(BUDGET, idle=needs(5), a=Rules("gpu", needs={"ram": 2}), b=Rules("gpu", needs={"ram": 8}))
    sim.idle("idle")
    sim.ask("a")
    sim.ask("b")
    assert (sim.starting, sim.stopping) == (["a"], [])


def test_an_engine_keeps_its_place_if_the_other_of_its_group_lacks_room_anyway() -> None:
    sim = Simulation(BUDGET, a=needs(9), b=needs(9), c=Rules("gpu", needs={"ram": 1}), d=Rules("gpu", needs={"ram": 5}))
    sim.started_for("a")
    sim.idle("c")
    sim.wait(10)
    for name in "bd":
        sim.ask(name)
    assert (sim.state("a"), sim.state("c"), sim.stopping) == (State.DRAINING, State.READY, [])


def test_an_engine_keeps_its_part_of_the_budget_as_long_as_its_start_took() -> None:
    sim = Simulation(BUDGET, a=needs(8), b=needs(8))
    sim.started_for("a", start=5)
    sim.ask("b")
    sim.wait(4.9)
    assert sim.state("a") is State.READY
    sim.wait(0.2)
    assert sim.state("a") is State.DRAINING


def test_who_waits_longest_is_not_overtaken_by_those_who_would_take_its_room() -> None:
    sim = Simulation(BUDGET, a=needs(5), large=needs(9), small=needs(3), tiny=needs(1))
    ticket = sim.started_for("a")
    sim.wait(10)
    sim.ask("large")
    sim.ask("small")  # would fit beside `a` now, but not beside `large`
    sim.ask("tiny")
    assert sim.starting == ["tiny"]
    sim.leave(ticket)
    sim.ended("a")
    assert sim.starting == ["tiny", "large"]


def test_room_that_one_gets_soon_is_not_given_away_until_another_has_drained() -> None:
    sim = Simulation(BUDGET, busy=needs(6), idle=needs(2), a=needs(3), b=needs(4), c=needs(2), d=needs(1))
    sim.started_for("busy")
    sim.idle("idle")
    sim.wait(10)
    for name in "abcd":
        sim.ask(name)
    assert (sim.stopping, sim.state("busy")) == (["idle"], State.DRAINING)
    assert sim.starting == ["d"]  # `c` would have `a` wait for the end of `busy`
    sim.ended("idle")
    assert sim.starting == ["d", "a"]


def test_requests_for_an_engine_that_comes_and_goes_do_not_keep_another_waiting() -> None:
    sim = Simulation(BUDGET, a=needs(4), b=needs(4), large=needs(9))
    sim.started_for("a")
    sim.started_for("b")
    sim.wait(10)
    large = sim.ask("large")
    for _ in range(5):  # their clients go on asking
        for ticket in list(sim.admitted):
            sim.leave(ticket)
        for name in list(sim.stopping):
            sim.ended(name)
        sim.ask("a")
        sim.ask("b")
        sim.wait(1)
    assert sim.starting == ["large"]
    sim.started("large")
    assert large in sim.admitted


def test_engines_that_do_not_compete_do_not_wait_for_each_other() -> None:
    sim = Simulation({"ram": 10, "gpu": 10}, a=needs(0, gpu=9), b=needs(0, gpu=9), c=needs(9), d=Rules())
    sim.started_for("a")
    for name in "bcd":
        sim.ask(name)
    assert sim.starting == ["c", "d"]


def test_two_that_need_room_make_two_leave_at_the_same_time() -> None:
    sim = Simulation(BUDGET, a=needs(5), b=needs(5), c=needs(5), d=needs(5))
    sim.idle("a", "b")
    sim.ask("c")
    sim.ask("d")
    assert sim.stopping == ["a", "b"]


def test_an_engine_without_declared_need_counts_with_what_was_last_measured() -> None:
    sim = Simulation(BUDGET, a=Rules(), b=needs(4))
    sim.idle("a")
    sim.measured("a", ram=7)
    sim.unload("a")
    sim.ended("a")
    sim.started_for("b")
    sim.ask("a")
    assert sim.starting == []
    assert sim.engine("a").takes("ram") == 7


def test_what_is_measured_of_a_start_is_not_remembered() -> None:
    sim = Simulation(BUDGET, a=Rules())
    sim.ask("a")
    sim.measured("a", ram=7)
    sim.failed("a")
    assert sim.engine("a").takes("ram") == 0


def test_what_was_measured_is_forgotten_when_the_settings_change() -> None:
    sim = Simulation(BUDGET, a=Rules())
    ticket = sim.started_for("a")
    sim.measured("a", ram=7)
    sim.unload("a", outdated=True)
    sim.measured("a", ram=8)
    sim.leave(ticket)
    sim.ended("a")
    assert sim.engine("a").takes("ram") == 0


def test_an_engine_that_uses_more_than_it_declares_counts_with_that_while_it_runs() -> None:
    sim = Simulation(BUDGET, a=needs(4), b=needs(5))
    sim.started_for("a")
    sim.measured("a", ram=6)
    sim.ask("b")
    assert sim.starting == []
    assert sim.engine("a").takes("ram") == 6


def test_idle_engines_leave_when_more_is_used_than_there_is_but_not_the_last() -> None:
    sim = Simulation(BUDGET, a=Rules(), b=Rules(), c=Rules())
    sim.idle("a", "b", "c")
    sim.measured("a", ram=4)
    sim.measured("b", ram=4)
    sim.measured("c", ram=4)
    assert sim.stopping == ["a"]
    sim.ended("a")
    sim.measured("c", ram=14)
    assert sim.stopping == ["b"]
    sim.ended("b")
    assert sim.state("c") is State.READY


def test_a_busy_engine_beyond_the_budget_leaves_when_it_is_idle() -> None:
    sim = Simulation(BUDGET, a=needs(5), b=needs(5))
    first = sim.started_for("a")
    sim.started_for("b")
    sim.set_budget({"ram": 8})
    sim.wait(10)
    assert sim.stopping == []
    sim.leave(first)
    sim.wait(1)
    assert sim.stopping == ["a"]


def test_what_can_never_start_is_refused_at_once() -> None:
    sim = Simulation(BUDGET, a=Rules(needs={"ram": 4}, pin=True), b=needs(7), c=needs(11))
    sim.ask("c")
    assert sim.reasons() == {Reason.TOO_LARGE: 1}
    waiting = sim.ask("b")
    assert sim.starting == ["b"]
    sim.leave(waiting)
    sim.failed("b")
    sim.wait(10)
    sim.started_for("a")
    sim.ask("b")
    assert sim.reasons() == {Reason.TOO_LARGE: 2}


def test_who_waits_is_told_when_a_smaller_budget_leaves_no_room() -> None:
    sim = Simulation(BUDGET, a=needs(9), b=needs(9))
    sim.started_for("a")
    sim.ask("b")
    sim.set_budget({"ram": 8})
    assert sim.reasons() == {Reason.TOO_LARGE: 1}


def test_a_pinned_engine_stops_neither_for_another_nor_for_idleness() -> None:
    sim = Simulation(BUDGET, a=Rules(needs={"ram": 4}, pin=True, unload_after=5), b=needs(4), c=needs(4))
    sim.leave(sim.started_for("a"))
    sim.leave(sim.ask("a", keep_alive=0))
    assert sim.engine("a").until == math.inf
    sim.wait(100)
    sim.idle("b")
    sim.ask("c")
    assert sim.stopping == ["b"]


def test_others_of_the_group_of_a_pinned_engine_are_refused_while_it_runs() -> None:
    sim = Simulation(a=Rules("gpu", pin=True), b=Rules("gpu"))
    sim.idle("a")
    sim.ask("b")
    assert sim.reasons() == {Reason.PINNED: 1}
    sim.unload("a")
    sim.ask("b")
    sim.ended("a")
    assert sim.starting == ["b"]


@pytest.mark.parametrize("way", ["unload", "remove", "close"])
def test_a_pinned_engine_is_stopped_by_those_who_own_it(way: str) -> None:
    sim = Simulation(a=Rules(pin=True))
    sim.idle("a")
    sim.take(sim.schedule.close(sim.now)) if way == "close" else getattr(sim, way)("a")
    assert sim.stopping == ["a"]


def test_a_preloaded_engine_starts_without_a_request_and_not_again_after_it_was_stopped() -> None:
    sim = Simulation(a=Rules(preload=True, unload_after=10))
    assert sim.starting == ["a"]
    sim.started("a")
    sim.wait(10)
    assert sim.stopping == ["a"]
    sim.ended("a")
    sim.wait(100)
    assert (sim.starting, sim.schedule.alarm) == ([], None)


def test_a_reload_that_turns_preload_on_starts_the_engine() -> None:
    sim = Simulation(a=Rules())
    sim.configure("a", Rules(preload=True))
    assert sim.starting == ["a"]


def test_a_reload_that_changes_nothing_starts_no_preloaded_engine() -> None:
    sim = Simulation(a=Rules(preload=True))
    sim.started("a")
    sim.unload("a")
    sim.configure("a", Rules(preload=True))
    sim.ended("a")
    sim.configure("a", Rules(preload=True))
    assert sim.starting == []


def test_a_reload_that_turns_preload_on_does_not_start_again_what_runs() -> None:
    sim = Simulation(a=Rules(unload_after=5))
    sim.idle("a")
    sim.configure("a", Rules(preload=True, unload_after=5))
    sim.wait(5)
    assert sim.stopping == ["a"]
    sim.ended("a")
    assert sim.starting == []


def test_a_reload_that_turns_preload_on_starts_again_what_is_being_unloaded() -> None:
    sim = Simulation(a=Rules())
    ticket = sim.ask("a")
    sim.unload("a")
    sim.configure("a", Rules(preload=True))
    sim.started("a")
    sim.leave(ticket)
    sim.ended("a")
    assert sim.starting == ["a"]


def test_a_preload_that_is_unloaded_while_it_starts_is_not_started_again() -> None:
    sim = Simulation(a=Rules(preload=True), b=Rules(preload=True))
    sim.unload("a")
    sim.ended("a")
    sim.ask("b")
    sim.unload("b")
    sim.failed("b")
    sim.wait(100)
    assert sim.starting == []


def test_closing_breaks_off_starts_that_nobody_waits_for_and_begins_none() -> None:
    sim = Simulation(a=Rules(preload=True), b=Rules(preload=True), c=Rules())
    sim.failed("a")
    sim.ask("c")
    sim.take(sim.schedule.close(sim.now))
    assert (sim.stopping, sim.starting) == (["b"], ["c"])
    sim.wait(100)
    assert sim.starting == ["c"]


def test_a_preloaded_engine_with_new_settings_starts_again() -> None:
    sim = Simulation(a=Rules(preload=True))
    sim.started("a")
    sim.unload("a", outdated=True)
    sim.ended("a")
    assert sim.starting == ["a"]


def test_a_preloaded_engine_that_fails_or_crashes_is_started_again_after_a_pause() -> None:
    sim = Simulation(a=Rules(preload=True))
    sim.failed("a")
    assert sim.starting == []
    sim.wait(2)
    sim.started("a")
    sim.ended("a")
    assert sim.starting == []
    sim.wait(4)
    assert sim.starting == ["a"]


def test_preloads_go_behind_requests_in_the_order_of_the_file_and_push_nobody_out() -> None:
    sim = Simulation(BUDGET, busy=needs(9))
    ticket = sim.started_for("busy")
    sim.leave(ticket)
    sim.wait(10)
    for name, size in {"first": 4, "second": 4, "third": 4, "tiny": 1}.items():
        sim.configure(name, Rules(needs={"ram": size}, preload=True))
    sim.configure("asked", needs(5))
    assert (sim.starting, sim.stopping) == (["tiny"], [])
    sim.ask("asked")
    sim.ended("busy")
    assert sim.starting == ["tiny", "asked", "first"]


def test_a_preload_that_is_pushed_out_while_it_starts_is_not_started_again() -> None:
    sim = Simulation(a=Rules("gpu", preload=True), b=Rules("gpu"))
    sim.ask("b")
    assert sim.stopping == ["a"]
    sim.ended("a")
    sim.failed("b")
    assert sim.starting == []


def test_a_preload_does_not_take_what_a_request_is_about_to_get() -> None:
    sim = Simulation(BUDGET, old=needs(9), a=needs(6), b=needs(7))
    sim.idle("old")
    sim.configure("preloaded", Rules(needs={"ram": 4}, preload=True))
    sim.ask("a")
    sim.ask("b")
    sim.ended("old")
    assert sim.starting == ["a"]


def test_an_engine_that_swaps_at_once_is_stopped_in_the_middle_of_an_answer_but_not_too_soon() -> None:
    sim = Simulation(a=Rules("gpu", swap_now=True), b=Rules("gpu"))
    ticket = sim.started_for("a", start=5)
    sim.ask("b")
    assert sim.state("a") is State.READY
    sim.wait(5)
    assert (sim.stopping, sim.engine("a").in_flight) == (["a"], 1)
    sim.leave(ticket)
    sim.ended("a")
    assert sim.starting == ["b"]


def test_an_engine_that_swaps_at_once_answers_what_it_has_when_it_is_unloaded() -> None:
    sim = Simulation(a=Rules("gpu", swap_now=True))
    ticket = sim.started_for("a", start=5)
    sim.unload("a")
    assert sim.stopping == []
    sim.leave(ticket)
    assert sim.stopping == ["a"]


def test_a_start_that_nobody_waits_for_is_broken_off_where_that_is_wanted() -> None:
    sim = Simulation(a=Rules(cancel_start=True), b=Rules(cancel_start=True, preload=True))
    first, second = sim.ask("a"), sim.ask("a")
    sim.leave(first)
    assert sim.stopping == []
    sim.leave(second)
    assert (sim.stopping, sim.starting) == (["a"], ["b"])


def test_an_engine_that_is_found_takes_requests_without_a_start() -> None:
    sim = Simulation(a=Rules("gpu", unload_after=5), b=Rules("gpu"), c=Rules("gpu"))
    sim.found("a")
    ticket = sim.ask("a")
    assert (sim.admitted, sim.starting) == ([ticket], [])
    sim.leave(ticket)
    sim.wait(5)
    assert sim.stopping == ["a"]


def test_several_of_a_group_that_are_found_all_leave_for_another() -> None:
    sim = Simulation(a=Rules("gpu"), b=Rules("gpu"), c=Rules("gpu"))
    sim.found("a")
    sim.found("b")
    assert sim.stopping == []
    sim.ask("c")
    assert sim.stopping == ["a", "b"]
    sim.ended("a")
    assert sim.starting == []
    sim.ended("b")
    assert sim.starting == ["c"]


def test_who_waits_for_an_engine_that_is_found_is_admitted() -> None:
    sim = Simulation(BUDGET, a=needs(9), b=needs(9))
    sim.started_for("a")
    ticket = sim.ask("b")
    sim.found("b")
    assert ticket in sim.admitted


def test_a_request_that_outlives_its_engine_does_not_count_for_the_next_of_that_name() -> None:
    sim = Simulation(a=Rules())
    ticket = sim.started_for("a")
    sim.remove("a")
    sim.ended("a")
    sim.configure("a", Rules())
    sim.leave(ticket)
    assert sim.engine("a").in_flight == 0
