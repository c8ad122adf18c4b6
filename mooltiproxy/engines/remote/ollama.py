"""Models of an Ollama server: loaded by a request without a prompt, kept by `keep_alive`.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md (load and unload a model, list running models), and
`server/routes.go` and `server/sched.go` there for what the document leaves out: a request without `keep_alive` may put
the server's own (5 minutes) in place of ours, other runner options than those loaded load the model anew, models
without the capability for completion load by `/api/embed` only, and a load ends with the connection that asked for it.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from mooltiproxy.config.model import Timeouts
from mooltiproxy.engines.driver import CannotStart
from mooltiproxy.engines.remote.common import LONG, Remote, entries, log
from mooltiproxy.errors import UpstreamError
from mooltiproxy.upstream import headers
from mooltiproxy.upstream.fetch import Whole

LEASE = 300
"""Seconds for which a model is asked to be kept: should the proxy be killed, it leaves by itself."""
SOON = 60.0
"""Seconds before a model expires from which on it is asked for again."""
NO_COMPLETION = "does not support generate"


class Ollama(Remote):
    """One model of an Ollama server, while the proxy wants it loaded."""

    title = "Ollama"
    _context: int | None = None
    """The context length that our own load has led to."""

    async def memory(self) -> Mapping[str, int]:
        """What `/api/ps` says of the model: `size` is all of it, `size_vram` what of that is GPU memory."""
        try:
            found = await self._listed()
        except UpstreamError:
            return {}
        whole, gpu = (found.get(name) if found else None for name in ("size", "size_vram"))
        if not isinstance(whole, int) or not isinstance(gpu, int):
            return {}
        return {"ram": max(whole - gpu, 0), "gpu": gpu}

    async def _load(self) -> None:
        whole = await self._keep(LONG)
        if whole.status != 200:
            raise self._refusal(whole)
        found = whole.json()
        if not isinstance(found, dict) or found.get("done_reason") != "load" and "embeddings" not in found:
            raise CannotStart(f"{self.title} did not say that it has loaded it, but: {self._words(whole)}")
        with suppress(UpstreamError):
            self._context = (await self._listed() or {}).get("context_length")

    async def _is_up(self) -> bool:
        """Never: what is listed may be loading still, and has whatever `keep_alive` others have asked for."""
        await self._listed()
        return False

    async def _unload(self) -> None:
        whole = await self._ask("POST", "/api/generate", {"model": self._model, "keep_alive": 0, "stream": False})
        if _has_no_completion(whole) and await self._has_model():
            whole = await self._ask("POST", "/api/embed", {"model": self._model, "keep_alive": 0, "input": []})
        if whole.status != 404:  # a model that has been deleted is gone
            self._object(whole, "the request to unload")

    async def _has_model(self) -> bool:
        return await self._listed() is not None

    async def _tend(self) -> str:
        whole = await self._ask("GET", "/api/ps")
        found = self._found_in(whole)
        if found is None:
            return f"{self.title} has it no longer loaded"
        if 0 < _seconds_left(found, whole) < SOON:  # what has expired is in use, or on its way out
            log.debug("%s: %s would unload it soon, so it is asked for again", self._model, self.title)
            await self._keep(replace(LONG, total=self._run.ready_timeout), found.get("context_length"))
        return ""

    async def _keep(self, clocks: Timeouts, context: int | None = None) -> Whole:
        """Have the model loaded and kept. With another `context` than our load's, a client has had it loaded anew with
        options of its own, which must not change back."""
        asked: dict[str, Any] = {"model": self._model, **self._run.load, "keep_alive": LEASE}
        if context is not None and self._context not in (None, context):
            asked["options"] = {**asked.get("options", {}), "num_ctx": context}
        whole = await self._ask("POST", "/api/generate", {**asked, "stream": False}, clocks=clocks)
        if _has_no_completion(whole):
            whole = await self._ask("POST", "/api/embed", {**asked, "input": []}, clocks=clocks)
        return whole

    async def _listed(self) -> dict[str, Any] | None:
        """What the server says of the loaded model, None where it is not loaded."""
        return self._found_in(await self._ask("GET", "/api/ps"))

    def _found_in(self, whole: Whole) -> dict[str, Any] | None:
        wanted = full_name(self._model)
        for one in entries(self._object(whole, "GET /api/ps"), "models"):
            if wanted in (full_name(str(one.get("model"))), full_name(str(one.get("name")))):
                return one
        return None


def full_name(name: str) -> str:
    """A model's name as the server understands it: the registry and the tag may be left out, case is nothing."""
    name = name.strip().casefold().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _has_no_completion(whole: Whole) -> bool:
    return whole.status == 400 and NO_COMPLETION in whole.data.decode("utf-8", "replace")


def _seconds_left(found: Mapping[str, Any], whole: Whole) -> float:
    """Until the model expires, by the server's own clock where it tells the time; `math.inf` if it does not say."""
    try:
        expires = datetime.fromisoformat(str(found.get("expires_at")))
        date = headers.value_of(whole.fields, b"date")
        now = parsedate_to_datetime(date.decode("latin-1")) if date else datetime.now(UTC)
        return (expires - now).total_seconds()
    except (ValueError, TypeError):
        return math.inf
