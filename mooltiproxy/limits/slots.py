"""Requests that are answered now, by name: exact, in this process."""

from collections.abc import Sequence

from mooltiproxy.limits.rules import Place


class Slots:
    """Counts from admission to the last byte; outlives reloads."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def take(self, places: Sequence[Place]) -> Place | None:
        """Take one of each, or none at all and give back the first that is full."""
        for place in places:
            if self._taken.get(place.name, 0) >= place.most:
                return place
        for place in places:
            self._taken[place.name] = self._taken.get(place.name, 0) + 1
        return None

    def leave(self, places: Sequence[Place]) -> None:
        """Give back what was taken."""
        for place in places:
            left = self._taken[place.name] - 1
            if left:
                self._taken[place.name] = left
            else:
                del self._taken[place.name]

    def __len__(self) -> int:
        """How many names have requests."""
        return len(self._taken)
