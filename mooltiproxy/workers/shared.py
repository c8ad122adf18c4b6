"""Bans and counts as a worker has them: its own, and what it tells and hears of those of the others."""

from mooltiproxy.bans import Bans
from mooltiproxy.config.model import Cerbere
from mooltiproxy.metrics import Metrics
from mooltiproxy.workers.link import Link

NOT_YET = Cerbere(max_tries=1_000_000)
"""The rules until the configuration is known."""


class SharedBans(Bans):
    """A copy of the supervisor's: whether an address is banned is looked up here. Wrong keys count here at once, so
    that nobody can guess faster than the others are told."""

    def __init__(self, link: Link) -> None:
        super().__init__(NOT_YET)
        self.tell.append(lambda note: link.tell("note", *note))


class SharedMetrics(Metrics):
    """The counts of one worker."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    async def whole(self) -> Metrics:
        """The counts of all workers and the supervisor."""
        found = Metrics()
        found.add(await self._link.ask("metrics"))
        return found
