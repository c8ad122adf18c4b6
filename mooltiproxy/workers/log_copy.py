"""A worker's copy of an engine's log, which the supervisor keeps up to date while somebody wants it."""

from collections import deque
from collections.abc import Sequence

from mooltiproxy.engines.logs import LINES, Log


class LogCopy(Log):
    """Lines that are masked and cut already. `wanted` counts those who are about to look."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = 0

    @property
    def is_closed(self) -> bool:
        """Whether nothing can follow any more."""
        return self._closed

    def renew(self, begin: int, lines: Sequence[str]) -> None:
        """From line `begin` on hold these instead; who follows has them already."""
        kept = [*self._lines][:begin]
        self._lines = deque([*kept, *lines], maxlen=max(len(kept) + len(lines), LINES))

    def more(self, lines: Sequence[str]) -> bool:
        """Take what has been said since; whether anybody wants to know what comes next."""
        for line in lines:
            self._append(line)
        return bool(self._followers or self.wanted)
