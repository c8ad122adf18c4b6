"""The gates before targets with `run:`, as the forwarder wants them (see `upstream/gate.py`)."""

from collections.abc import Mapping

from mooltiproxy.config.model import Config
from mooltiproxy.config.servers import wanted
from mooltiproxy.engines.access import Access
from mooltiproxy.engines.schedule import Ticket
from mooltiproxy.errors import NotFound
from mooltiproxy.upstream.session import Origin


def gates(config: Config, engines: Access) -> dict[str, "Gate"]:
    """The gates by the target's name."""
    names: dict[str, dict[str, str]] = {name: {} for name, target in config.targets.items() if target.run is not None}
    alone: dict[str, str] = {}
    for server in wanted(config):
        if server.values:
            names[server.target.name] |= dict.fromkeys(server.models, server.name)
        else:
            alone[server.target.name] = server.name
    return {target: Gate(engines, alone.get(target), own) for target, own in names.items()}


class Gate:
    """Lets the requests to one target through while its engine runs, and has it started: `name`, or that of the model
    that is asked for, by `models`."""

    def __init__(self, engines: Access, name: str | None, models: Mapping[str, str]) -> None:
        self._engines = engines
        self._name = name
        self._models = models

    def ready(self, model: str | None) -> Origin | None:
        """Where the engine is to be found; None where it takes no requests now."""
        name = self._name or self._models.get(model or "")
        return self._engines.ready(name) if name else None

    def unload(self, model: str | None) -> None:
        """Stop the engine once its requests are answered; raises NotFound."""
        self._engines.let_go(self._named(model))

    def ask(self, model: str | None, keep_alive: float | None, who: str) -> "Pass":
        """A request comes; `keep_alive` are the idle seconds that it wants the engine kept, None if it does not say.
        Requests come in their order, whoever asks. Raises NotRunning, NotFound for a model that has no server."""
        ticket = Ticket(self._named(model), keep_alive)
        self._engines.ask(ticket)
        return Pass(self._engines, ticket)

    def _named(self, model: str | None) -> str:
        name = self._name or self._models.get(model or "")
        if name is None:
            message = "this target has a server for each of its models: name one of `models:` in the proxy's file"
            raise NotFound(message, param="model", code="model_not_found")
        return name


class Pass:
    """One request's way through a gate."""

    def __init__(self, engines: Access, ticket: Ticket) -> None:
        self._engines = engines
        self._ticket = ticket

    @property
    def origin(self) -> Origin | None:
        """Where to send the request, None while it has to wait."""
        return self._engines.origin(self._ticket)

    async def wait(self) -> Origin:
        """Where to send the request, as soon as the engine is ready; raises NotRunning."""
        return await self._engines.wait(self._ticket)

    def leave(self) -> None:
        """The request is over, whichever way."""
        self._engines.leave(self._ticket)
