"""Ollama: `server/routes.go` and `server/sched.go` of https://github.com/ollama/ollama."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from tests.servers.scripted import Received, answer
from tests.servers.strict_engines import Refused, StrictEngine

DEFAULT = 300.0
"""OLLAMA_KEEP_ALIVE."""
FOR_EVER = timedelta(days=292 * 365)
_DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|ms|s|m|h))+")
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class StrictOllama(StrictEngine):
    """`loaded` are the expiry and the context length by name. A model of `in_use` is not unloaded before `idle`."""

    def __init__(self, *models: str, embedding: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.models = {_tagged(name) for name in (*models, *embedding)}
        self.embedding = {_tagged(name) for name in embedding}
        self.loaded: dict[str, tuple[datetime, int]] = {}
        self.in_use: set[str] = set()
        self.reloads = 0
        self._expired: set[str] = set()

    def idle(self) -> None:
        """The answers to others have ended."""
        self.in_use.clear()
        for name in self._expired:
            self.loaded.pop(name, None)

    def expires_in(self, name: str, seconds: float) -> None:
        """As after a request that had another `keep_alive`, or none."""
        self.loaded[name] = (datetime.now(UTC) + timedelta(seconds=seconds), self.loaded[name][1])

    async def answer(self, line: str, received: Received) -> bytes:
        if line == "GET /api/ps":
            return answer(orjson.dumps({"models": [self._shown(name) for name in self.loaded]}), f"date: {_date()}")
        if line not in ("POST /api/generate", "POST /api/embed", "POST /api/chat"):
            raise Refused("404 Not Found", "404 page not found")
        if not received.body:
            raise Refused("400 Bad Request", {"error": "missing request body"})
        body = orjson.loads(received.body)
        name, keep = _tagged(str(body.get("model") or "")), _keep_alive(body)
        if name not in self.models:
            raise Refused("404 Not Found", {"error": f"model '{body.get('model')}' not found"})
        if line == "POST /api/generate":
            return await self._generate(name, keep, body)
        if line == "POST /api/chat":
            return await self._chat(name, keep, body)
        if body.get("input") not in (None, "", []):
            raise Refused("501 Not Implemented", {"error": "this one has no vectors"})
        await self._load(name, keep, body)
        return answer(orjson.dumps({"model": body["model"], "embeddings": []}))

    async def _generate(self, name: str, keep: float | None, body: Any) -> bytes:
        if body.get("prompt"):
            raise Refused("501 Not Implemented", {"error": "this one has chats only"})
        told = {"model": body["model"], "created_at": "2026-08-01T10:00:00.5Z", "response": "", "done": True}
        if keep == 0:
            self._expire(name)
            return answer(orjson.dumps({**told, "done_reason": "unload"}))
        if name in self.embedding:
            raise Refused("400 Bad Request", {"error": f'"{body["model"]}" does not support generate'})
        await self._load(name, keep, body)
        return answer(orjson.dumps({**told, "done_reason": "load"}))

    async def _chat(self, name: str, keep: float | None, body: Any) -> bytes:
        await self._load(name, keep, body)
        message = {"role": "assistant", "content": f"I am {body['model']}"}
        told = {"model": body["model"], "created_at": "2026-08-01T10:00:00.5Z", "message": message, "done": True}
        return answer(orjson.dumps({**told, "done_reason": "stop", "eval_count": 3, "prompt_eval_count": 1}))

    async def _load(self, name: str, keep: float | None, body: Any) -> None:
        context = (body.get("options") or {}).get("num_ctx", 4096)
        if name in self.loaded and self.loaded[name][1] != context:
            self.reloads += 1
            del self.loaded[name]
        if name not in self.loaded:
            await self.load_takes()
        seconds = DEFAULT if keep is None else keep
        expires = datetime.now(UTC) + (FOR_EVER if seconds < 0 else timedelta(seconds=seconds))
        self.loaded[name] = (expires, context)
        self._expired.discard(name)

    def _expire(self, name: str) -> None:
        if name in self.in_use:
            self._expired.add(name)
        else:
            self.loaded.pop(name, None)

    def _shown(self, name: str) -> dict[str, Any]:
        expires, context = self.loaded[name]
        when = expires.strftime("%Y-%m-%dT%H:%M:%S.%f123Z")
        sizes = {"size": 3_000_000, "size_vram": 2_000_000, "context_length": context}
        return {"name": name, "model": name, "digest": "0" * 64, "expires_at": when, **sizes}


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _date() -> str:
    return datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


def _keep_alive(body: Any) -> float | None:
    """Seconds, as `Duration.UnmarshalJSON` in `api/types.go` reads them."""
    said = body.get("keep_alive")
    if said is None or isinstance(said, (int, float)) and not isinstance(said, bool):
        return said
    if not isinstance(said, str) or not _DURATION.fullmatch(said):
        raise Refused("400 Bad Request", {"error": f"time: invalid duration {said!r}"})
    seconds = sum(float(number) * _UNITS[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)([a-z]+)", said))
    return -seconds if said.startswith("-") else seconds
