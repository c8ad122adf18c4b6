"""A server's log: bounded in every way, kept across runs, followed without ever making the server wait."""

import asyncio
import re

import pytest

from mooltiproxy.engines.logs import LINE, UNFINISHED, WAITING, Follower, Log

STARTED = re.compile(r"--- started at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S* ---")


async def lines_of(follower: Follower) -> list[str]:
    """Those that come until the end."""
    return [line async for lines in follower for line in lines]


def test_only_the_last_lines_are_kept() -> None:
    log = Log(3)
    log.add(b"".join(b"%d\n" % number for number in range(10)))
    assert log.history(99) == log.tail(99) == ["7", "8", "9"]
    assert log.history(2) == ["8", "9"]
    assert log.history(0) == log.tail(0) == []


def test_a_line_is_put_together_from_pieces_and_shown_before_its_end() -> None:
    log = Log()
    log.add("caf\u00e9".encode()[:4])
    log.add("caf\u00e9".encode()[4:] + b" is")
    assert log.tail(5) == ["caf\u00e9 is"]
    log.add(b" open\r\nnow")
    assert log.tail(5) == ["caf\u00e9 is open", "now"]


@pytest.mark.parametrize("end", [b"", b"\nlast"])
def test_a_line_is_cut_however_it_arrives(end: bytes) -> None:
    log = Log()
    for _ in range(30):
        log.add(b"x" * (UNFINISHED // 10))
    log.add(end)
    assert log.tail(2)[0] == "x" * (LINE - 1) + "\u2026"


def test_of_a_progress_bar_the_last_state_counts_however_long_it_was() -> None:
    log = Log()
    for percent in range(101):
        log.add(b"loading %3d %%" % percent + b" " * 500 + b"\r")
    assert log.tail(1)[0].startswith("loading 100 %")
    log.add(b"\ndone\n")
    bar, done = log.tail(5)
    assert (bar.startswith("loading 100 %"), done) == (True, "done")


def test_nothing_in_it_can_steer_a_terminal() -> None:
    log = Log()
    log.add(b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07 \x9b2J\tend \xff\n")
    assert log.tail(1) == ["red \ufffd]0;title\ufffd \ufffd2J\tend \ufffd"]


def test_secrets_are_masked_where_a_line_is_cut_and_within_each_other() -> None:
    log = Log(secrets=("secret-word", "secret-word-2", ""))
    log.add(b"x" * (LINE - 4) + b"secret-word-2\nsecret-word-2, secret-word")
    assert "secr" not in log.tail(2)[0]
    assert log.tail(1) == ["***, ***"]


def test_secrets_of_several_lines_are_masked_line_by_line() -> None:
    log = Log(secrets=("-----BEGIN-----\nMIIB0000\nAB\n",))
    log.add(b"key is -----BEGIN-----\nMIIB0000\nAB and more\n")
    assert log.tail(5) == ["key is ***", "***", "AB and more"]


async def test_new_secrets_are_masked_in_old_lines_and_followers_see_none() -> None:
    log = Log()
    follower = log.follow()
    log.add(b"the-new-key\n")
    log.configure(2, ("the-new-key",))
    assert log.history(9) == ["***"]
    log.add(b"a the-new-key\nb the-new-key\nc the-new-key\n")
    log.close()
    assert await lines_of(follower) == ["the-new-key", "a ***", "b ***", "c ***"]
    assert log.history(9) == ["b ***", "c ***"]


def test_lines_of_earlier_runs_are_kept_but_last_words_are_of_this_run() -> None:
    log = Log()
    log.begin()
    log.add(b"first\nwithout an end")
    log.begin()
    assert log.tail(9) == []
    log.add(b"second\nthird")
    assert log.tail(9) == ["second", "third"]
    assert log.tail(1) == ["third"]
    begun, first, cut, begun_again, *rest = log.history(9)
    assert STARTED.fullmatch(begun) and STARTED.fullmatch(begun_again)
    assert (first, cut, rest) == ("first", "without an end", ["second", "third"])


async def test_a_follower_gets_what_comes_from_then_on_across_runs() -> None:
    log = Log()
    log.add(b"before\n")
    follower = log.follow()
    taking = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    log.add(b"one\ntw")
    assert await taking == ["one"]
    log.begin()
    log.add(b"three\n")
    two, begun, three = await anext(follower)
    assert (two, bool(STARTED.fullmatch(begun)), three) == ("tw", True, "three")


async def test_a_follower_that_is_too_slow_loses_the_oldest_lines_and_is_told_how_many() -> None:
    log = Log(5)
    slow, other = log.follow(), log.follow()
    for number in range(WAITING + 7):
        log.add(b"%d\n" % number)
        if number == WAITING // 2:
            await anext(other)
    lost, first, *_, last = await anext(slow)
    assert lost == "--- 7 lines were lost here: they came faster than they were read ---"
    assert (first, last) == ("7", str(WAITING + 6))
    assert (await anext(other))[0] == str(WAITING // 2 + 1)
    log.add(b"next\n" * (WAITING + 3))
    assert (await anext(slow))[:2] == ["--- 3 lines were lost here: they came faster than they were read ---", "next"]
    assert log.history(9) == ["next"] * 5


async def test_followers_end_with_the_log_and_nobody_follows_afterwards() -> None:
    log = Log()
    follower = log.follow()
    waiting = asyncio.ensure_future(lines_of(follower))
    await asyncio.sleep(0)
    log.close()
    assert await waiting == []
    assert await lines_of(log.follow()) == []


async def test_a_follower_that_has_left_costs_nothing() -> None:
    log = Log()
    follower = log.follow()
    follower.end()
    log.add(b"line\n")
    assert await lines_of(follower) == []
