"""Bans and counts as a worker has them: its own, and what it tells and hears of those of the others."""

from mooltiproxy.bans import Bans
from mooltiproxy.metrics import Metrics
from mooltiproxy.workers.link import Link

NO_LIMIT = 1_000_000


class SharedBans(Bans):
    """A copy of the supervisor's: whether an address is banned is looked up here. Wrong keys count here at once, so
    that nobody can guess faster than the others are told."""

    def __init__(self, link: Link) -> None:
        super().__init__(NO_LIMIT, 0.0)  # until the configuration is known
        self._link = link

    def wrong_key(self, address: str) -> bool:
        """Count a wrong key, here and there."""
        self._link.tell("wrong key", address)
        return super().wrong_key(address)

    def right_key(self, address: str) -> None:
        """Forgive an address that something is known of."""
        if address in self._tries:
            self._link.tell("right key", address)
        super().right_key(address)


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
