"""Wrong keys and bans, by address: the state that `ip_rules` asks and `bearer_auth` writes. In memory, bounded."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T", int, float)

MAX_ADDRESSES = 20_000
"""Addresses that are remembered in each of the two tables; the one that was quiet longest is forgotten first."""

Standing = tuple[int, float | None]
"""Wrong keys of an address, and the seconds for which it is banned yet: 0 for good, None where it is not."""


class Bans:
    """Counts wrong keys by address and bans an address after `max_tries` of them, for `ban` seconds (0: for good)."""

    def __init__(self, max_tries: int, ban: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_tries = max_tries
        self._ban = ban
        self._clock = clock
        self._tries: OrderedDict[str, int] = OrderedDict()
        self._banned: OrderedDict[str, float] = OrderedDict()

    def configure(self, max_tries: int, ban: float) -> None:
        """New rules; what was counted so far stays."""
        self._max_tries = max_tries
        self._ban = ban

    def is_banned(self, address: str) -> bool:
        """Whether this address is banned now."""
        until = self._banned.get(address)
        if until is None:
            return False
        if until and self._clock() >= until:
            del self._banned[address]
            return False
        return True

    def wrong_key(self, address: str) -> bool:
        """Count a wrong key; True where it was one too many and the address is banned from now on."""
        tries = self._tries.pop(address, 0) + 1
        if tries < self._max_tries:
            _remember(self._tries, address, tries)
            return False
        _remember(self._banned, address, self._clock() + self._ban if self._ban else 0.0)
        return True

    def right_key(self, address: str) -> None:
        """A right key makes up for the wrong ones before it."""
        self._tries.pop(address, None)

    def standing(self, address: str) -> Standing:
        """How it stands with an address, for another process."""
        left = None
        if self.is_banned(address):
            until = self._banned[address]
            left = until - self._clock() if until else 0.0
        return self._tries.get(address, 0), left

    def put(self, address: str, standing: Standing) -> None:
        """Take over how it stands with an address elsewhere."""
        tries, left = standing
        self._tries.pop(address, None)
        self._banned.pop(address, None)
        if tries:
            _remember(self._tries, address, tries)
        if left is not None:
            _remember(self._banned, address, left and self._clock() + left)

    def known(self) -> list[str]:
        """The addresses that there is something to say of."""
        return [*self._tries, *self._banned]

    def __repr__(self) -> str:
        return f"<Bans {len(self._banned)} banned, {len(self._tries)} suspected>"


def _remember(table: OrderedDict[str, T], address: str, value: T) -> None:
    table[address] = value
    if len(table) > MAX_ADDRESSES:
        table.popitem(last=False)
