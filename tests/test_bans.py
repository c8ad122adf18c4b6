"""Scores and bans of addresses: how they grow, how they are forgotten, who is meant."""

from dataclasses import replace

import pytest

from mooltiproxy.bans import LONGEST, MAX_ADDRESSES, Bans
from mooltiproxy.config.model import Cerbere
from mooltiproxy.store.addresses import FOR_GOOD, KEPT, Note, Record, What
from tests.clock import Clock

RULES = Cerbere(max_tries=3, ban=60, forget=3600)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bans(clock: Clock) -> Bans:
    return Bans(RULES, clock)


def banned_by(bans: Bans, address: str = "192.0.2.1") -> int:
    """How many wrong keys it takes."""
    return next(tries for tries in range(1, 100) if bans.wrong_key(address))


def test_as_many_wrong_keys_as_max_tries_ban_an_address(bans: Bans) -> None:
    assert banned_by(bans) == 3
    assert bans.is_banned("192.0.2.1")
    assert not bans.is_banned("192.0.2.2")


def test_wrong_keys_are_forgotten_by_halves(bans: Bans, clock: Clock) -> None:
    bans.wrong_key("192.0.2.1")
    bans.wrong_key("192.0.2.1")
    clock.time += 3600
    assert banned_by(bans) == 2


def test_who_mistypes_now_and_then_is_never_banned(bans: Bans, clock: Clock) -> None:
    for _ in range(1000):
        clock.time += 3600
        assert not bans.wrong_key("192.0.2.1")


def test_with_forget_0_nothing_is_forgotten(clock: Clock) -> None:
    bans = Bans(replace(RULES, forget=0), clock)
    bans.wrong_key("192.0.2.1")
    clock.time += 1e9
    assert banned_by(bans) == 2


def test_each_ban_is_twice_as_long_as_the_one_before_up_to_a_bound(bans: Bans, clock: Clock) -> None:
    lengths = []
    for _ in range(30):
        banned_by(bans)
        (ban,) = bans.listed()
        lengths.append(ban.seconds)
        clock.time += ban.seconds
        assert not bans.is_banned("192.0.2.1")
    assert lengths[:4] == [60, 120, 240, 480]
    assert max(lengths) == LONGEST


def test_a_ban_that_was_long_ago_counts_no_more(bans: Bans, clock: Clock) -> None:
    banned_by(bans)
    clock.time += 60 + KEPT
    banned_by(bans)
    assert bans.listed() == [("192.0.2.1", 60, 1)]


def test_a_ban_of_0_seconds_is_for_good(clock: Clock) -> None:
    bans = Bans(replace(RULES, ban=0), clock)
    banned_by(bans)
    clock.time += 1e9
    assert bans.is_banned("192.0.2.1") and bans.listed()[0].is_for_good


def test_a_right_key_makes_up_for_the_wrong_ones(bans: Bans) -> None:
    for _ in range(10):
        bans.wrong_key("192.0.2.1")
        bans.wrong_key("192.0.2.1")
        bans.right_key("192.0.2.1")
    assert banned_by(bans) == 3


def test_a_right_key_after_a_ban_does_not_make_the_next_one_shorter(bans: Bans, clock: Clock) -> None:
    banned_by(bans)
    clock.time += 60
    bans.right_key("192.0.2.1")
    banned_by(bans)
    assert bans.listed()[0].seconds == 120


def test_addresses_of_one_network_of_ipv6_count_together(bans: Bans) -> None:
    bans.wrong_key("2001:db8:1:2::1")
    bans.wrong_key("2001:db8:1:2:ffff::2")
    assert bans.wrong_key("2001:db8:1:2:3:4:5:6")
    assert bans.is_banned("2001:db8:1:2:9::9")
    assert not bans.is_banned("2001:db8:1:3::1")
    assert bans.listed()[0].address == "2001:db8:1:2::/64"


def test_the_network_of_ipv6_may_be_another(clock: Clock) -> None:
    bans = Bans(replace(RULES, ipv6_prefix=48), clock)
    bans.add("2001:db8:1:2::1", 60)
    assert bans.is_banned("2001:db8:1:ffff::1") and not bans.is_banned("2001:db8:2::1")


def test_unknown_paths_count_a_quarter_each_and_the_same_one_once(bans: Bans) -> None:
    for _ in range(100):
        assert not bans.probe("192.0.2.1", "/healthz")
    assert next(number for number in range(100) if bans.probe("192.0.2.1", f"/{number}.php")) == 9


def test_a_ban_can_be_added_and_lifted(bans: Bans, clock: Clock) -> None:
    bans.add("2001:db8::1", 0)
    bans.add("192.0.2.1", 60)
    assert [ban.address for ban in bans.listed()] == ["2001:db8::/64", "192.0.2.1"]
    assert bans.lift("2001:db8::/64") and bans.lift("192.0.2.1") and not bans.lift("192.0.2.1")
    assert bans.listed() == []
    assert banned_by(bans) == 3 and bans.listed()[0].times == 1


def test_a_ban_outlives_a_reload_with_other_rules(bans: Bans) -> None:
    banned_by(bans)
    bans.configure(replace(RULES, max_tries=100, ban=1))
    assert bans.is_banned("192.0.2.1")


def test_what_changes_is_told(bans: Bans) -> None:
    told: list[Note] = []
    bans.tell.append(told.append)
    banned_by(bans)
    bans.right_key("192.0.2.1")
    bans.lift("192.0.2.1")
    assert [note.what for note in told] == [What.STRIKE] * 3 + [What.BAN, What.LIFT]


def test_what_a_store_tells_counts_as_seconds_of_our_own_clock(bans: Bans, clock: Clock) -> None:
    bans.learn([Record("192.0.2.1", 0, 0, 30, 60, 1), Record("192.0.2.2", 2, 0, 0, 0, 0)])
    assert bans.is_banned("192.0.2.1")
    assert bans.wrong_key("192.0.2.2")
    clock.time += 30
    assert not bans.is_banned("192.0.2.1")


def test_who_has_struck_too_often_at_several_places_together_is_banned(bans: Bans) -> None:
    told: list[Note] = []
    bans.tell.append(told.append)
    bans.learn([Record("192.0.2.1", 3, 0, 0, 0, 0)])
    assert bans.is_banned("192.0.2.1")
    assert told == [Note("192.0.2.1", What.BAN, 1, 60)]


def test_the_tables_are_bounded(bans: Bans) -> None:
    for number in range(MAX_ADDRESSES + 10):
        bans.probe(f"a{number}", f"/{number}")
        bans.add(f"b{number}", FOR_GOOD)
    assert repr(bans) == f"<Bans {MAX_ADDRESSES} banned, {MAX_ADDRESSES} suspected>"
