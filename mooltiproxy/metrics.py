"""What is counted while the proxy runs: plain counters here, put into Prometheus' words by `endpoints/metrics.py`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mooltiproxy.mapping.losses import class_of

Written = Mapping[str, Sequence[Sequence[Any]]]


class Metrics:
    """Counts since the process started; outlives reloads.

    `faults` are counted by target, by whether the answer was `repaired` or `refused`, and by what was wrong; `dropped`
    by target and class of `losses:`; `starts` of model servers by name and whether they got `ready`, `failed`, or
    `crashed` later; models that a server with an API let go of are `lost`. Requests that were refused for a limit are
    `limited`, those over a soft one `over_soft`, by whose limit it is (`key`, `ip`, `model`) and of what it counts.
    Nothing of a request is a label: what clients write must not grow the memory.
    """

    def __init__(self) -> None:
        self.faults: Counter[tuple[str, str, str]] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.starts: Counter[tuple[str, str]] = Counter()
        self.limited: Counter[tuple[str, str]] = Counter()
        self.over_soft: Counter[tuple[str, str]] = Counter()

    async def whole(self) -> "Metrics":
        """The counts of this moment of the whole proxy, for another thread."""
        copy = Metrics()
        copy.add(self.written())
        return copy

    def written(self) -> Written:
        """The counts as plain data: of each kind its name, and for each of its labels these and the count."""
        return {kind: [[*labels, count] for labels, count in counts.items()] for kind, counts in self._kinds()}

    def _kinds(self) -> list[tuple[str, Counter[Any]]]:
        return [(kind, counts) for kind, counts in vars(self).items() if isinstance(counts, Counter)]

    def add(self, written: Written) -> None:
        """Count what has been counted elsewhere as well."""
        for kind, rows in written.items():
            counts: Counter[tuple[str, ...]] = getattr(self, kind)
            for *labels, count in rows:
                counts[tuple(labels)] += count

    def refused(self, target: str, fault: str) -> None:
        """A target's answer ended as an error of ours."""
        self.faults[target, "refused", fault] += 1

    def repaired(self, target: str, faults: frozenset[str]) -> None:
        """A target's answer broke the rules of its API in these ways, and the client got a good one."""
        for fault in faults:
            self.faults[target, "repaired", fault] += 1

    def lost(self, target: str, ledger: tuple[str, ...]) -> None:
        """A request was sent without these."""
        for entry in ledger:
            self.dropped[target, class_of(entry)] += 1

    def started(self, server: str, outcome: str) -> None:
        """A model server was started, or what was started has ended by itself."""
        self.starts[server, outcome] += 1
