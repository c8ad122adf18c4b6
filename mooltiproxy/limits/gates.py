"""The gates before targets with `concurrent:` (see `upstream/gate.py`), in front of that of a server on demand."""

from collections.abc import Mapping

from mooltiproxy.config.model import Config
from mooltiproxy.limits.queue import Queue, Ticket
from mooltiproxy.upstream.gate import Gate, Pass
from mooltiproxy.upstream.session import Origin


class Queues:
    """The queues of all targets, which outlive reloads."""

    def __init__(self) -> None:
        self._queues: dict[str, Queue] = {}

    def configure(self, config: Config) -> None:
        """Have new rules count for who waits and who comes."""
        for name, target in config.targets.items():
            if target.concurrent is not None:
                self.of(name, config).configure(target.concurrent)

    def of(self, name: str, config: Config) -> Queue:
        """The queue of a target that has one."""
        rules = config.targets[name].concurrent
        assert rules is not None
        return self._queues.setdefault(name, Queue(name, rules))

    def gates(self, config: Config, gates: Mapping[str, Gate]) -> dict[str, Gate]:
        """These, and those of the targets that have a queue, behind which they are."""
        queued = [name for name, target in config.targets.items() if target.concurrent is not None]
        origins = {name: Origin.of_target(config.targets[name]) for name in queued}
        own: dict[str, Gate] = {name: _Gate(self.of(name, config), origins[name], gates.get(name)) for name in queued}
        return {**gates, **own}

    def waiting(self) -> dict[str, int]:
        """How many requests wait, by target."""
        return {name: queue.waiting for name, queue in self._queues.items()}


class _Gate:
    """Lets requests through in turns; then through the `inner` gate, where there is one."""

    def __init__(self, queue: Queue, origin: Origin, inner: Gate | None) -> None:
        self._queue = queue
        self._origin = origin
        self._inner = inner

    def ready(self, model: str | None) -> Origin | None:
        return self._inner.ready(model) if self._inner is not None else self._origin

    def unload(self, model: str | None) -> None:
        if self._inner is not None:
            self._inner.unload(model)

    def ask(self, model: str | None, keep_alive: float | None, who: str) -> Pass:
        if self._inner is None:
            return _Pass(self._queue, self._queue.ask(who), self._origin)
        ticket = self._queue.ask(who)
        try:
            return _InnerPass(self._queue, ticket, self._inner.ask(model, keep_alive, who))
        except BaseException:
            self._queue.leave(ticket)
            raise


class _Pass:
    def __init__(self, queue: Queue, ticket: Ticket, origin: Origin) -> None:
        self._queue = queue
        self._ticket = ticket
        self._origin = origin

    @property
    def origin(self) -> Origin | None:
        return self._origin if self._ticket.is_in else None

    async def wait(self) -> Origin:
        if not self._ticket.is_in:
            await self._queue.wait(self._ticket)
        return self._origin

    def leave(self) -> None:
        self._queue.leave(self._ticket)


class _InnerPass:
    """A place at a server on demand: it is asked for at once, so that the server starts while a request waits."""

    def __init__(self, queue: Queue, ticket: Ticket, inner: Pass) -> None:
        self._queue = queue
        self._ticket = ticket
        self._inner = inner

    @property
    def origin(self) -> Origin | None:
        return self._inner.origin if self._ticket.is_in else None

    async def wait(self) -> Origin:
        if not self._ticket.is_in:
            await self._queue.wait(self._ticket)
        return self._inner.origin or await self._inner.wait()

    def leave(self) -> None:
        self._inner.leave()
        self._queue.leave(self._ticket)
