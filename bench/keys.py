"""How long it takes to find out whose key a request has, by the number of keys, and whether its address is banned, by
the number of bans: python bench/keys.py. One process, no I/O.

`right` is the last key of all, `wrong` is none of them, and likewise `banned` and `free`. The ratio is to the time with
one key or ban: 1 is no slower.
"""

import sys
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mooltiproxy.bans import Bans
from mooltiproxy.config.load import from_data
from mooltiproxy.config.model import Cerbere
from mooltiproxy.keyring import Keyring
from mooltiproxy.keys import hash_of

KEYS, BANS = (1, 1000, 100_000), (1, 1000, 20_000)
LOOKUPS = 200_000
ROUNDS = 5
MICRO = 1e6


def keyring(count: int) -> Keyring:
    """One with so many keys of clients."""
    keys = {f"client-{number}": {"hash": hash_of(name_of(number))} for number in range(count)}
    targets = {"default": "one", "one": {"url": "http://127.0.0.1:1", "speaks": "openai"}}
    return Keyring(from_data({"targets": targets, "keys": keys}, Path(), {"MOOLTIPROXY_KEY": "master"}))


def name_of(number: int) -> str:
    """A key, as long as those that the proxy makes."""
    return f"mooltiproxy-{number:043}"


def banned(count: int) -> Bans:
    """Bans of so many addresses."""
    bans = Bans(Cerbere())
    for number in range(count):
        bans.add(address(number), 0)
    return bans


def address(number: int) -> str:
    """One of its own."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def microseconds(look_up: Callable[[Any], object], what: bytes | str) -> float:
    """For one look-up: the best round, since others share the machine."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in repeat(None, LOOKUPS):
            look_up(what)
        best = min(best, time.perf_counter() - begin)
    return best / LOOKUPS * MICRO


def report(what: str, count: int, taken: float, first: dict[str, float]) -> None:
    """Print a line."""
    print(f"{count:>7}  {what:<7} {taken:.2f} us  {taken / first.setdefault(what, taken):.2f}")


def main() -> None:
    """Print two lines for each number of keys, and of bans."""
    first: dict[str, float] = {}
    for count in KEYS:
        ring = keyring(count)
        for what, key in (("right", name_of(count - 1)), ("wrong", name_of(count))):
            report(what, count, microseconds(ring.find, key.encode()), first)
    for count in BANS:
        bans = banned(count)
        for what, number in (("banned", count - 1), ("free", count)):
            report(what, count, microseconds(bans.is_banned, address(number)), first)


if __name__ == "__main__":
    main()
