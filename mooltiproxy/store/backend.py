"""What a shared store is asked at once, and what it answers: the contract of the file's and the server's side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple, Protocol

from mooltiproxy.errors import MooltiError
from mooltiproxy.store.addresses import Note, Record
from mooltiproxy.store.records import Usage
from mooltiproxy.store.windows import Verdict, Wants, Window


class StoreDown(MooltiError):
    """The store cannot be asked now; the message says why, and holds no password."""


class Seen(NamedTuple):
    """Up to where somebody has read what a store knows of addresses: the store's own name, and a number."""

    epoch: str = ""
    number: int = 0


class Changes(NamedTuple):
    """What a store has learned of addresses since. Where `seen.epoch` is another than before, it is another store."""

    seen: Seen
    records: Sequence[Record]
    has_more: bool


class Answer(NamedTuple):
    """A verdict for each of `Batch.takes`, and the changes where they were asked for."""

    verdicts: Sequence[Verdict]
    changes: Changes | None = None


@dataclass(slots=True)
class Batch:
    """Everything that one turn of the event loop wants. It is carried out as a whole, or not at all: `adds` first, so
    that `takes` may have what is given back.

    `used` and `notes` come again where it is not known what became of them, with the same number as `parcel`: what was
    written then is not written twice. Numbers rise; what has the number 0 never comes again.
    """

    adds: list[tuple[Window, float]] = field(default_factory=list)
    takes: list[Wants] = field(default_factory=list)
    used: list[Usage] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    parcel: int = 0
    since: Seen | None = None


class Backend(Protocol):
    """A file or a server. Every method raises StoreDown; none blocks the event loop."""

    name: str
    """What messages call it, without a password."""

    async def open(self) -> None:
        """Begin, or begin again after StoreDown."""

    async def exchange(self, batch: Batch) -> Answer:
        """Carry out a batch. One that is cancelled should leave nothing behind, as far as that can be had."""

    async def usage(self, first: date, last: date) -> list[Usage]:
        """What was used on these days, both included, in any order."""

    async def close(self) -> None:
        """Let go of it; never raises."""
