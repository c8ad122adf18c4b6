"""What the rest of the proxy may ask of a store, whichever it is."""

from datetime import date
from typing import Protocol

from mooltiproxy.store.records import Usage, Used
from mooltiproxy.store.windows import Verdict, Wants


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
