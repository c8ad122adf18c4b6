"""What the rest of the proxy may ask of a store, whichever it is."""

from collections.abc import Sequence
from datetime import date
from typing import Protocol

from mooltiproxy.store.addresses import Note, Record
from mooltiproxy.store.records import Usage, Used
from mooltiproxy.store.windows import Verdict, Wants


class Watcher(Protocol):
    """Who wants to know what others have learned of addresses."""

    def learn(self, records: Sequence[Record]) -> None:
        """These are known now, whoever told them."""

    def all_bans(self) -> list[Note]:
        """All bans that are known, for a store that knows nothing."""


class Store(Protocol):
    """Counts of limits and of what was used.

    A limit is asked in two steps, so that a store that knows the answer costs no task switch:

        verdict = store.take_now(wants) or await store.take(wants)
    """

    def take_now(self, wants: Wants) -> Verdict | None:
        """Take all of it or nothing, at once; None where that takes waiting: nothing was taken then, `take` is to be
        awaited."""

    async def take(self, wants: Wants) -> Verdict:
        """The same; waits a quarter of a second at most. A shared store that is down is stood in for by this process's
        own memory, or, with `store_failure: closed`, raises StoreUnavailable (a ProxyError, 503)."""

    def add(self, amounts: Wants) -> None:
        """Count without asking: what was used beyond what was taken, or, below zero, what is given back. Never waits
        and never raises."""

    def count(self, used: Used) -> None:
        """Add to today's usage. Never waits and never raises."""

    async def usage(self, first: date, last: date, key: str | None = None) -> list[Usage]:
        """What was used on these days, both included (UTC), by one key or by all, in order of day, key and model;
        raises StoreUnavailable."""

    def note(self, note: Note) -> None:
        """Tell those who share the store of an address. Never waits and never raises."""

    def watch(self, watcher: Watcher) -> None:
        """Have somebody learn what others tell."""

    async def start(self) -> None:
        """Begin; a store that is down is tried again and again. Returns within two seconds."""

    async def close(self) -> None:
        """Write what is not written yet, and let go of the store; it can be started no more."""

    @property
    def is_up(self) -> bool | None:
        """Whether it can be asked now; None for one that cannot be down."""
