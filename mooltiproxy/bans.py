"""Wrong keys, probes and bans, by address: what `ip_rules` asks for each request, and who tells it. In memory, bounded;
a store that is shared hears of everything and tells what others have seen.

An address has a score: a wrong key is one try, a path that is unknown, asked without a right key, a part of one. Half
of the score is forgotten in `forget` seconds. At `max_tries` the address is banned, each time twice as long as before.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from socket import AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

from mooltiproxy.config.model import Cerbere
from mooltiproxy.store.addresses import FOR_GOOD, KEPT, Known, Note, Record, What, changed, decayed

MAX_ADDRESSES = 20_000
"""Addresses that are remembered in each of the two tables; the one that was quiet longest is forgotten first."""
PROBE = 0.25
"""What an unknown path counts, in wrong keys. The same path again counts nothing: health checks ask so."""
MOST_PATHS = 8
"""Unknown paths of an address that are remembered."""
LONGEST = 30 * 86400.0
"""Seconds to which bans grow, where `cerbere.ban` is not longer itself."""
ENOUGH = 0.5
"""What may be missing of `max_tries`: something has always been forgotten since the first."""


class Ban(NamedTuple):
    """An address, or a network of IPv6, that is banned for so many seconds more, and how many times it has been."""

    address: str
    seconds: float
    times: int

    @property
    def is_for_good(self) -> bool:
        """Whether it ends only when it is lifted."""
        return self.seconds > FOR_GOOD / 2


class Bans:
    """Counts by address; `clock` gives seconds that never step. `tell` are those who pass on what others must know."""

    def __init__(self, rules: Cerbere, clock: Callable[[], float] = time.monotonic) -> None:
        self.configure(rules)
        self.tell: list[Callable[[Note], None]] = []
        self._clock = clock
        self._suspects: OrderedDict[str, Known] = OrderedDict()
        self._banned: OrderedDict[str, Known] = OrderedDict()
        self._paths: OrderedDict[str, set[int]] = OrderedDict()

    def configure(self, rules: Cerbere) -> None:
        """New rules; what was counted so far stays."""
        self._max_tries = rules.max_tries
        self._ban = rules.ban
        self._half_life = rules.forget or FOR_GOOD
        self._prefix = rules.ipv6_prefix

    def is_banned(self, address: str) -> bool:
        """Whether this address is banned now."""
        if not self._banned:
            return False
        name = self._name(address)
        known = self._banned.get(name)
        if known is None:
            return False
        if self._clock() < known.until:
            return True
        self._suspect(name, known)
        return False

    def wrong_key(self, address: str) -> bool:
        """Count a wrong key; True where it was one too many and the address is banned from now on."""
        return self._strike(self._name(address), 1.0)

    def probe(self, address: str, path: str) -> bool:
        """Count a path that is unknown here; True as for a wrong key."""
        name, seen = self._name(address), hash(path)
        paths = self._paths.setdefault(name, set())
        if seen in paths:
            return False
        if len(paths) >= MOST_PATHS:
            paths.pop()
        paths.add(seen)
        if len(self._paths) > MAX_ADDRESSES:
            self._paths.popitem(last=False)
        return self._strike(name, PROBE)

    def right_key(self, address: str) -> None:
        """A right key makes up for the wrong ones before it."""
        if not self._suspects:
            return
        name = self._name(address)
        known = self._suspects.get(name)
        if known is not None and known.score:
            self._change(Note(name, What.FORGIVE))

    def add(self, address: str, seconds: float) -> None:
        """Ban an address; 0: until it is lifted."""
        self._change(Note(self._name(address), What.BAN, 1, seconds or FOR_GOOD))

    def lift(self, address: str) -> bool:
        """Forget all about an address, or a network as `listed` names it; whether it was banned."""
        name = address if address in self._banned else self._name(address)
        known = self._banned.get(name)
        was_banned = known is not None and known.left(self._clock()) > 0
        self._change(Note(name, What.LIFT))
        return was_banned

    def listed(self) -> list[Ban]:
        """All that are banned now."""
        now = self._clock()
        bans = [Ban(name, known.left(now), known.times) for name, known in self._banned.items()]
        return [ban for ban in bans if ban.seconds > 0]

    # What others have seen.

    def hear(self, note: Note) -> Record:
        """Another process tells; what is known of the address now."""
        name, now = note.address, self._clock()
        known = changed(self._known(name), note, now)
        if self._is_too_much(known, now):
            known = changed(known, self._ban_of(name, known, now), now)
        self._keep(name, known)
        return self._record(name, known)

    def records(self) -> list[Record]:
        """All that is known, for another process."""
        return [self._record(name, known) for table in (self._suspects, self._banned) for name, known in table.items()]

    def _record(self, name: str, known: Known) -> Record:
        now = self._clock()
        return Record(name, known.score, now - known.at, known.left(now), known.length, known.times)

    def learn(self, records: Sequence[Record]) -> None:
        """A store tells what is known of these addresses. One that has struck too often at several places together is
        banned."""
        now = self._clock()
        for record in records:
            name = record.address
            until = now + record.left if record.left else 0.0
            known = Known(record.score, now - record.age, until, record.length, record.times)
            self._keep(name, known)
            if not record.left and self._is_too_much(known, now):
                self._change(self._ban_of(name, known, now))

    def all_bans(self) -> list[Note]:
        """All bans, for a store that has lost them."""
        return [Note(ban.address, What.BAN, ban.times, ban.seconds) for ban in self.listed()]

    def __repr__(self) -> str:
        return f"<Bans {len(self._banned)} banned, {len(self._suspects)} suspected>"

    def _name(self, address: str) -> str:
        """What an address is counted as: itself, or its network where it is of IPv6."""
        if ":" not in address:
            return address
        try:
            number = int.from_bytes(inet_pton(AF_INET6, address.partition("%")[0].partition("/")[0]))
        except OSError:
            return address
        host_bits = 128 - self._prefix
        return f"{inet_ntop(AF_INET6, (number >> host_bits << host_bits).to_bytes(16))}/{self._prefix}"

    def _known(self, name: str) -> Known:
        return self._banned.get(name) or self._suspects.get(name) or Known(at=self._clock())

    def _strike(self, name: str, points: float) -> bool:
        known = self._change(Note(name, What.STRIKE, points, self._half_life))
        now = self._clock()
        if not self._is_too_much(known, now):
            return False
        self._change(self._ban_of(name, known, now))
        return True

    def _is_too_much(self, known: Known, now: float) -> bool:
        return decayed(known, now, self._half_life) > self._max_tries - ENOUGH

    def _ban_of(self, name: str, known: Known, now: float) -> Note:
        """The ban that is due: longer each time, as long as the one before is remembered."""
        is_remembered = known.times and now - known.until < max(KEPT, known.length)
        times = known.times if is_remembered else 0
        longest = max(LONGEST, self._ban)
        seconds = min(self._ban * 2.0 ** min(times, 40), longest) if self._ban else FOR_GOOD
        return Note(name, What.BAN, times + 1, seconds)

    def _change(self, note: Note) -> Known:
        """Keep a change, and tell the others."""
        known = changed(self._known(note.address), note, self._clock())
        self._keep(note.address, known)
        for tell in self.tell:
            tell(note)
        return known

    def _keep(self, name: str, known: Known) -> None:
        now = self._clock()
        if known.left(now) > 0:
            self._suspects.pop(name, None)
            _remember(self._banned, name, known)
        elif known.score or (known.times and not known.is_stale(now)):
            self._suspect(name, known)
        else:
            self._banned.pop(name, None)
            self._suspects.pop(name, None)

    def _suspect(self, name: str, known: Known) -> None:
        self._banned.pop(name, None)
        _remember(self._suspects, name, known)


def _remember(table: OrderedDict[str, Known], name: str, known: Known) -> None:
    table[name] = known
    table.move_to_end(name)
    if len(table) > MAX_ADDRESSES:
        table.popitem(last=False)
