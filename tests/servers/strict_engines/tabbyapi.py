"""TabbyAPI: `endpoints/core/router.py`, `common/model.py` and `common/auth.py` of
https://github.com/theroyallab/tabbyAPI."""

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson

from tests.servers.scripted import STREAM_HEAD, Received, answer, chunk
from tests.servers.strict_engines import Refused, StrictEngine, chat

KEY, ADMIN_KEY = "tabby-api-key", "tabby-admin-key"
NONE_LOADED = "No models are currently loaded."
FIELDS: dict[str, type] = {
    "max_seq_len": int,
    "cache_size": int,
    "cache_mode": str,
    "draft_model": dict,
    "vision": bool,
}


class StrictTabby(StrictEngine):
    """`loaded` is the folder's real name; `folders` are the real names by what stands in the models' folder."""

    def __init__(self, *models: str, links: dict[str, str] | None = None) -> None:
        super().__init__()
        self.folders = {**{name: name for name in models}, **(links or {})}
        self.loaded: str | None = None
        self.fails_with = ""
        self.unloads = 0
        self.ended = asyncio.Event()
        self._loading: asyncio.Task[bytes] | None = None
        self._lock = asyncio.Lock()

    async def answer(self, line: str, received: Received) -> bytes:
        if line == "GET /health":
            raise Refused("503 Service Unavailable", {"status": "unhealthy", "issues": ["an old one"]})
        if line == "POST /v1/model/load":
            _check_admin(received)
            body = self._checked(orjson.loads(received.body or b"{}"))
            self._loading = asyncio.ensure_future(self._load(body))  # goes on without its client
            return await asyncio.shield(self._loading)
        if line == "POST /v1/model/unload":
            _check_admin(received)
            self._check_loaded()
            self.loaded, self.unloads = None, self.unloads + 1
            return answer(b"null")
        _check_key(received)
        if line == "GET /v1/model":
            return answer(orjson.dumps({"id": self._check_loaded(), "object": "model", "owned_by": "tabbyAPI"}))
        if line == "POST /v1/chat/completions":
            return chat(self._check_loaded())
        raise Refused("404 Not Found", {"detail": "Not Found"})

    def _checked(self, body: Any) -> Any:
        if not isinstance(body.get("model_name"), str):
            missing = {"type": "missing", "loc": ["body", "model_name"], "msg": "Field required"}
            raise Refused("422 Unprocessable Entity", {"detail": [missing]})
        for name, value in body.items():
            if not isinstance(value, FIELDS.get(name, object)):
                wrong = {
                    "type": "type",
                    "loc": ["body", name],
                    "msg": f"Input should be a valid {FIELDS[name].__name__}",
                }
                raise Refused("422 Unprocessable Entity", {"detail": [wrong]})
        if body["model_name"] not in self.folders:
            text = "Could not find the model path for load. Check model name or config.yml?"
            raise Refused("400 Bad Request", {"detail": text})
        return body

    async def _load(self, body: Any) -> bytes:
        async with self._lock:
            if self.loaded == body["model_name"]:
                return _stream(_part("model", 1))
            self.loaded = None
            await self.load_takes()
            try:
                parts = [*_told("vision", body.get("vision")), *_told("draft", body.get("draft_model"))]
                if self.fails_with:
                    return _stream(b"".join(parts) + _event({"error": {"message": self.fails_with, "trace": None}}))
                self.loaded = self.folders[body["model_name"]]
                return _stream(b"".join([*parts, _part("model", 2)]))
            finally:
                self.ended.set()

    def _check_loaded(self) -> str:
        if self.loaded is None:
            raise Refused("503 Service Unavailable", {"detail": NONE_LOADED})
        return self.loaded


def _told(kind: str, wanted: Any) -> Iterator[bytes]:
    if wanted:
        yield _part(kind, 1)


def _part(kind: str, modules: int) -> bytes:
    states = [(module, "processing") for module in range(1, modules + 1)] + [(modules, "finished")]
    return b"".join(
        _event({"model_type": kind, "module": module, "modules": modules, "status": state}) for module, state in states
    )


def _event(event: Any) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\r\n\r\n"


def _stream(data: bytes) -> bytes:
    return STREAM_HEAD + chunk(data) + b"0\r\n\r\n"


def _check_key(received: Received) -> None:
    key = received.value("x-api-key") or (received.value("authorization") or "").removeprefix("Bearer ")
    if key not in (KEY, ADMIN_KEY):
        raise Refused("401 Unauthorized", {"detail": "Invalid API key" if key else "Please provide an API key"})


def _check_admin(received: Received) -> None:
    key = received.value("x-admin-key") or (received.value("authorization") or "").removeprefix("Bearer ")
    if key != ADMIN_KEY:
        raise Refused("401 Unauthorized", {"detail": "Invalid admin key" if key else "Please provide an admin key"})
