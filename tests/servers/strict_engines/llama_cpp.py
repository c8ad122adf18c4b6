"""llama.cpp's server in router mode: `tools/server/README.md` and `tools/server/server-models.cpp` of
https://github.com/ggml-org/llama.cpp."""

import asyncio
from typing import Any

import orjson

from tests.servers.scripted import Received, answer
from tests.servers.strict_engines import Refused, StrictEngine, chat

KEY = "llama-key"
RUNNING = ("loading", "loaded", "sleeping")


class StrictRouter(StrictEngine):
    """`states` are what `status.value` is, by name; a model of `codes` ends while it loads. Unloading is done at once,
    or when `may_unload` is set."""

    def __init__(self, *models: str, aliases: dict[str, str] | None = None) -> None:
        super().__init__()
        self.states = dict.fromkeys(models, "unloaded")
        self.aliases = aliases or {}
        self.codes: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.may_unload = asyncio.Event()
        self.may_unload.set()
        self.is_router = True
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(self, line: str, received: Received) -> bytes:
        if line == "GET /models":
            return answer(orjson.dumps({"data": [self._shown(name) for name in self.states], "object": "list"}))
        if received.value("authorization") != f"Bearer {KEY}":
            raise _refused("401 Unauthorized", "Invalid API Key", "authentication_error")
        if line == "POST /v1/chat/completions":
            return chat(self._running(orjson.loads(received.body)["model"]))
        if self.is_router and line == "POST /models/load":
            self._load(self._known(received, "404 Not Found"))
            return answer(b'{"success":true}')
        if self.is_router and line == "POST /models/unload":
            self._unload(self._known(received, "400 Bad Request"))
            return answer(b'{"success":true}')
        raise _refused("404 Not Found", "File Not Found", "not_found_error")

    def crash(self, name: str, code: int) -> None:
        """The server of a model ends by itself."""
        self.states[name], self.failed[name] = "unloaded", code

    def _known(self, received: Received, status: str) -> str:
        name = orjson.loads(received.body).get("model", "")
        name = self.aliases.get(name, name)
        if name not in self.states:
            raise _refused(status, "model is not found", "not_found_error")
        return str(name)

    def _running(self, name: str) -> str:
        name = self.aliases.get(name, name)
        if self.states.get(name) not in ("loaded", "sleeping"):
            raise _refused("400 Bad Request", "model is not loaded", "invalid_request_error")
        self.states[name] = "loaded"
        return name

    def _load(self, name: str) -> None:
        if self.states[name] in RUNNING:
            raise _refused("400 Bad Request", "model is already running", "invalid_request_error")
        self.states[name] = "loading"
        self.failed.pop(name, None)
        self._later(self._loaded(name))

    def _unload(self, name: str) -> None:
        if self.states[name] not in RUNNING:
            raise _refused("400 Bad Request", "model is not running", "invalid_request_error")
        self._later(self._unloaded(name))

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _loaded(self, name: str) -> None:
        await self.load_takes()
        if self.states[name] == "loading":
            if name in self.codes:
                self.crash(name, self.codes[name])
            else:
                self.states[name] = "loaded"

    async def _unloaded(self, name: str) -> None:
        await self.may_unload.wait()
        self.states[name] = "unloaded"

    def _shown(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = {"value": self.states[name], "args": ["llama-server"]}
        if name in self.failed:
            status |= {"exit_code": self.failed[name], "failed": True}
        aliases = [alias for alias, known in self.aliases.items() if known == name]
        shown = {"id": name, "aliases": aliases, "tags": [], "object": "model", "owned_by": "llamacpp", "created": 1}
        return {**shown, "status": status} if self.is_router else shown


def _refused(status: str, message: str, kind: str) -> Refused:
    return Refused(status, {"error": {"code": int(status[:3]), "message": message, "type": kind}})
