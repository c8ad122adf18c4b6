"""What the drivers of all engines with an API do alike: the way from `start` to `stop`, the questions, and the watch.

Such a server answers to others as well, is restarted without our knowledge, and may be gone at any moment. So nothing
of it is believed for long: what has been asked for counts once the server lists it, and while a model is in use the
server is asked every few seconds whether it still has it.
"""

import asyncio
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, ClassVar, TypeVar

import orjson

from mooltiproxy.config.model import Run, Timeouts
from mooltiproxy.engines.driver import CannotStart
from mooltiproxy.errors import EndpointMissing, UpstreamBroken, UpstreamError, UpstreamRefused, UpstreamUnreachable
from mooltiproxy.upstream.fetch import Whole, call
from mooltiproxy.upstream.request import Plan
from mooltiproxy.upstream.session import Origin, PooledSession

log = logging.getLogger("mooltiproxy.engines")

POLL = 0.25
"""Seconds between two questions whether what was asked for is done."""
WATCH = 10.0
"""Seconds between two questions whether a model is still loaded."""
MISSED = 3
"""Questions without a usable answer, one after the other, after which a server counts as gone."""
LEAST_GRACE = 1.0
"""Seconds that unloading gets at least: less would not even ask for it."""
QUICK = Timeouts(connect=3.0, first_byte=5.0, idle=5.0, total=10.0)
"""For questions."""
LONG = Timeouts(connect=3.0, first_byte=None, idle=None, total=None)
"""For what loads or unloads a model: limited by `ready_timeout`, or the grace, alone."""
HOPELESS = (UpstreamUnreachable, UpstreamRefused, EndpointMissing)
"""Where asking again does not help."""
MAX_BODY = 8 * 1024 * 1024
WORDS = 500
"""Characters of a server's words that a message quotes."""

T = TypeVar("T")


class Remote(ABC):
    """One run of a model at a server with an API: from its loading to its unloading."""

    title: ClassVar[str]
    """What messages call the server."""
    pid = 0

    def __init__(self, session: PooledSession, plan: Plan, run: Run, model: str) -> None:
        self.origin: Origin | None = None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._session = session
        self._run = run
        self._model = model
        self._server = plan.origin
        self._key_fields = _fields(plan.key_field)
        self._watching: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[Any] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._may_be_loaded = False

    async def is_loaded(self) -> bool | None:
        """Whether the model is loaded already; None where that cannot be told now."""
        try:
            found = await self._has_model()
        except UpstreamError:
            return None
        self._may_be_loaded = found
        return found

    async def start(self) -> None:
        """Say where requests will go; raises CannotStart. The rest is done by `ready`, which may take its time."""
        self.origin = self._server

    async def ready(self) -> None:
        """Load the model, and return when it takes requests; raises CannotStart."""
        limit = self._run.ready_timeout
        try:
            async with asyncio.timeout(limit):
                if not await self._is_up():
                    self._may_be_loaded = True
                    await self._load()
        except TimeoutError:
            raise CannotStart(f"{self.title} did not load the model within {limit:g} s (ready_timeout)") from None
        except UpstreamError as error:
            raise CannotStart(f"{self.title} at {self._server.authority}: {error}") from error
        self._may_be_loaded = True
        self._watching = asyncio.ensure_future(self._watch())

    async def stop(self, grace: float) -> None:
        """Unload the model, and return when it is gone, or cannot be asked for, or after `grace` seconds: those of the
        call that has least, where there are several."""
        if self._watching is not None:
            self._watching.cancel()
        if not self._may_be_loaded:
            return
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._end())
        limit = None if math.isinf(grace) else max(grace, LEAST_GRACE)
        if not (await asyncio.wait([self._stopping], timeout=limit))[0]:
            self._stopping.cancel()
            log.warning("%s: %s has not unloaded it within %g s", self._model, self.title, grace)
        if self._asking is not None:
            self._asking.cancel()

    async def memory(self) -> Mapping[str, int]:
        """Bytes that the model takes, by resource, where the server tells."""
        return {}

    # What each server has its own way of. All of them raise UpstreamError.

    @abstractmethod
    async def _load(self) -> None:
        """Load the model, which is not loaded, and return when it is; raises CannotStart, too."""

    @abstractmethod
    async def _unload(self) -> None:
        """Ask for the model to be unloaded, if it is there."""

    @abstractmethod
    async def _has_model(self) -> bool:
        """Whether the model takes requests."""

    async def _is_up(self) -> bool:
        """Whether nothing has to be done to start; the server's first chance to say that it is there at all."""
        return await self._has_model()

    async def _is_gone(self) -> bool:
        """Whether nothing is left of the model."""
        return not await self._has_model()

    async def _tend(self) -> str:
        """See after the loaded model; why it is none any more, "" where it is."""
        return "" if await self._has_model() else f"{self.title} has it no longer loaded"

    # How they do it.

    async def _until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Return once something is so; raises UpstreamError where the server no longer answers."""
        missed = 0
        while True:
            try:
                if await is_so():
                    return
                missed = 0
            except UpstreamError:
                missed += 1
                if missed == MISSED:
                    raise
            await asyncio.sleep(POLL)

    async def _lasting(self, asking: Coroutine[Any, Any, T]) -> T:
        """What comes of a request that the server carries out even where we leave: so `stop` waits for it."""
        self._asking = task = asyncio.ensure_future(asking)
        return await asyncio.shield(task)

    async def _end(self) -> None:
        """Unload the model, however long that takes."""
        try:
            await self._until_gone()
        except UpstreamError as error:
            log.warning("%s: %s cannot be told to unload it: %s", self._model, self.title, error)
        except Exception:
            log.exception("%s: unexpected error while %s was to unload it", self._model, self.title)

    async def _until_gone(self) -> None:
        """Unload, and ask again where the server had troubles; raises UpstreamError where that cannot help."""
        if self._asking is not None:
            await asyncio.wait([self._asking])
            if not self._asking.cancelled():
                self._asking.exception()  # `ready` has raised it, or was cancelled
        while True:
            try:
                await self._unload()
                await self._until(self._is_gone)
                return
            except HOPELESS:
                raise
            except UpstreamError as error:
                log.info("%s: %s did not unload it: %s", self._model, self.title, error)
            await asyncio.sleep(POLL)

    async def _watch(self) -> None:
        """Look after the model until it is gone by itself."""
        missed = 0
        while not self.ended.done():
            await asyncio.sleep(WATCH)
            try:
                gone = await self._tend()
                missed = 0
            except UpstreamError as error:
                missed += 1
                gone = f"the server does not answer: {error}" if missed == MISSED else ""
            if gone and not self.ended.done():
                self.ended.set_result(gone)

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        fields: Mapping[str, str] | None = None,
        clocks: Timeouts = QUICK,
    ) -> Whole:
        """The answer to a request, whatever its status; raises UpstreamError."""
        root = self._server.base.removesuffix("/v1")  # these endpoints are beside it
        return await call(
            self._session,
            self._server,
            method,
            root + path,
            clocks,
            MAX_BODY,
            body=None if body is None else _json(body),
            fields=self._key_fields if fields is None else fields,
        )

    async def _told(self, path: str) -> dict[str, Any]:
        """The JSON object at a path; raises UpstreamError where there is none."""
        return self._object(await self._ask("GET", path), f"GET {path}")

    def _object(self, whole: Whole, asked: str) -> dict[str, Any]:
        """The JSON object of an answer; raises UpstreamError where it is an error, or something else."""
        if whole.status in (401, 403):
            raise UpstreamRefused(f"it does not accept the key for {asked}: {self._words(whole)}")
        if whole.status != 200:
            raise UpstreamBroken(f"it answered {asked} with {whole.status}: {self._words(whole)}")
        found = whole.json()
        if not isinstance(found, dict):
            raise UpstreamBroken(f"it answered {asked} with what is no JSON object")
        return found

    def _refusal(self, whole: Whole) -> CannotStart:
        """What becomes of an answer that refuses to load."""
        return CannotStart(f"{self.title} refused to load it ({whole.status}): {self._words(whole)}")

    def _words(self, whole: Whole) -> str:
        """What an error answer says, as far as it is fit to be told."""
        return self._clean(_message(whole.json()) or whole.data[: WORDS * 4].decode("utf-8", "replace"))

    def _clean(self, text: str) -> str:
        """A server's words without control characters and keys, and no longer than need be."""
        for secret in self._secrets():
            text = text.replace(secret, "***")
        shown = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return shown[:WORDS] or "no further words"

    def _secrets(self) -> list[str]:
        """The keys that go to the server."""
        return [secret for value in self._key_fields.values() if (secret := value.rpartition(" ")[2])]


def entries(found: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a list of an answer; raises UpstreamBroken where there is no such list."""
    listed = found.get(name)
    if not isinstance(listed, list):
        raise UpstreamBroken(f"its answer has no list `{name}`")
    return [one for one in listed if isinstance(one, dict)]


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as error:
        raise CannotStart(f"what `run.load` says cannot be sent as JSON: {error}") from error


def _fields(key_field: bytes) -> dict[str, str]:
    name, separator, value = key_field.decode().strip().partition(": ")
    return {name: value} if separator else {}


def _message(found: Any) -> str:
    """The words in an error's JSON: `error`, `error.message` or FastAPI's `detail`, which may be a list."""
    if isinstance(found, str):
        return found
    if isinstance(found, list):
        return "; ".join(filter(None, map(_message, found)))
    if not isinstance(found, dict):
        return ""
    if isinstance(found.get("msg"), str):
        path = found.get("loc")
        place = ".".join(map(str, path)) if isinstance(path, list) else ""
        return f"{place}: {found['msg']}" if place else str(found["msg"])
    return next((words for name in ("error", "detail", "message") if (words := _message(found.get(name)))), "")
