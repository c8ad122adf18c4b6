"""What is counted while the proxy runs: plain counters here, put into Prometheus' words by `endpoints/metrics.py`."""

from collections import Counter

from mooltiproxy.mapping.losses import class_of


class Metrics:
    """Counts since the process started; outlives reloads.

    `faults` are counted by target, by whether the answer was `repaired` or `refused`, and by what was wrong; `dropped`
    by target and class of `losses:`; `starts` of model servers by name and whether they got `ready`, `failed`, or
    `crashed` later. Nothing of a request is a label: what clients write must not grow the memory.
    """

    def __init__(self) -> None:
        self.faults: Counter[tuple[str, str, str]] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.starts: Counter[tuple[str, str]] = Counter()

    def copied(self) -> "Metrics":
        """The counts of this moment, for another thread."""
        copy = Metrics()
        copy.faults, copy.dropped, copy.starts = self.faults.copy(), self.dropped.copy(), self.starts.copy()
        return copy

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
