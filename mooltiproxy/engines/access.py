"""What the rest of the proxy does with engines: of the owner in its own process, or of that in another one."""

from collections.abc import Sequence
from typing import Protocol

from mooltiproxy.config.model import Config
from mooltiproxy.engines.logs import Log
from mooltiproxy.engines.owner import Shown
from mooltiproxy.engines.states import Ticket
from mooltiproxy.upstream.session import Origin


class Access(Protocol):
    """All engines of the proxy. What gates do is done between two awaits; what is only shown may take a while."""

    def configure(self, config: Config) -> None:
        """Take up a configuration."""

    def retire(self) -> None:
        """From now on stop each engine as soon as nobody needs it, and show nobody what comes."""

    async def close(self, within: float) -> None:
        """Stop all engines; those that have not ended `within` seconds are killed."""

    async def unload(self, names: Sequence[str] | None = None) -> list[str]:
        """Stop engines, all where no names are given, once they are idle; the names of those that ran. Returns when
        they have ended."""

    async def states(self) -> list[Shown]:
        """What there is to tell of each engine."""

    async def log_of(self, name: str) -> Log:
        """What this engine, one of `states`, has said in all its runs, and says from now on."""

    def ask(self, ticket: Ticket) -> None:
        """A request comes. Raises NotRunning."""

    def origin(self, ticket: Ticket) -> Origin | None:
        """Where an admitted request is to be sent; None while it waits."""

    async def wait(self, ticket: Ticket) -> Origin:
        """Where to send the request, once the engine is ready; raises NotRunning."""

    def leave(self, ticket: Ticket) -> None:
        """The request is over, whichever way."""

    def ready(self, name: str) -> Origin | None:
        """Where an engine is to be found; None where it takes no requests now."""

    def let_go(self, name: str) -> None:
        """Stop an engine once its requests are answered."""
