"""How long it takes to find out whose key a request has, by the number of keys: python bench/keys.py. One process, no
I/O.

`right` is the last key of all, `wrong` is none of them. The ratio is to the time with one key: 1 is no slower.
"""

import sys
import time
from itertools import repeat
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mooltiproxy.config.load import from_data
from mooltiproxy.keyring import Keyring
from mooltiproxy.keys import hash_of

COUNTS = (1, 1000, 100_000)
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


def microseconds(ring: Keyring, key: bytes) -> float:
    """For one look-up: the best round, since others share the machine."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in repeat(None, LOOKUPS):
            ring.find(key)
        best = min(best, time.perf_counter() - begin)
    return best / LOOKUPS * MICRO


def main() -> None:
    """Print a line for each number of keys."""
    first: dict[str, float] = {}
    for count in COUNTS:
        ring = keyring(count)
        for what, key in (("right", name_of(count - 1).encode()), ("wrong", name_of(count).encode())):
            taken = microseconds(ring, key)
            ratio = taken / first.setdefault(what, taken)
            print(f"{count:>7} keys  {what}  {taken:.2f} us  {ratio:.2f}")


if __name__ == "__main__":
    main()
