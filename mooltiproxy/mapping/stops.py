"""Cutting text at stop strings, whole or as it comes: for targets that miss stops, return them, or take too few."""

from collections.abc import Iterable


class StopCutter:
    """Lets text through up to the first stop string that becomes complete.

    The result does not depend on how the text is cut into pieces: of several stops the one that ends first counts, of
    two that end together the longer.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(dict.fromkeys(stop for stop in stops if stop))
        self.firsts = frozenset(stop[0] for stop in self._stops)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.found: str | None = None

    def feed(self, text: str) -> str:
        """The part of the text so far that can no longer belong to a stop; nothing once a stop was found."""
        if self.found is not None:
            return ""
        if not self._stops:
            return text
        if self._held:
            text = self._held + text
            self._held = ""
        if not self._may_begin(text):
            return text
        cut = self._first(text)
        if cut is not None:
            start, self.found = cut
            return text[:start]
        keep = self._tail(text)
        if not keep:
            return text
        self._held = text[-keep:]
        return text[:-keep]

    @property
    def idle(self) -> bool:
        """Whether no part of a stop has been seen: text without any of the `firsts` would go through as it is."""
        return not self._held and self.found is None

    def flush(self) -> str:
        """The text that was held back, when no more comes."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> tuple[int, str] | None:
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if not found:
            return None
        _, start, stop = min(found)
        return start, stop

    def _may_begin(self, text: str) -> bool:
        """Whether a stop can begin anywhere in the text: most pieces of a stream hold none of the first characters."""
        for first in self.firsts:
            if first in text:
                return True
        return False

    def _tail(self, text: str) -> int:
        """The length of the longest end of the text with which a stop begins."""
        end = text[1 - self._longest :] if self._longest > 1 else ""
        if not self._may_begin(end):
            return 0
        for at in range(len(end)):
            if end[at] in self.firsts and any(stop.startswith(end[at:]) for stop in self._stops):
                return len(end) - at
        return 0


def cut_at_stop(text: str, stops: Iterable[str]) -> tuple[str, str | None]:
    """The text before its first stop string, and that stop; the whole text and None if there is none."""
    cutter = StopCutter(stops)
    before = cutter.feed(text)
    return (before, cutter.found) if cutter.found is not None else (before + cutter.flush(), None)
