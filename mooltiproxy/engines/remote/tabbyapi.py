"""Models of a TabbyAPI server, which has room for one at a time.

Source: https://github.com/theroyallab/tabbyAPI/wiki (API usage), and `endpoints/core/router.py` and `common/model.py`
there for what it leaves out: the model is there only when the stream of its load has ended, since the last `finished`
comes before that; a load goes on when the client leaves, and cannot be unloaded before it has ended; unloading cancels
all jobs at once. `/health` is no sign: it is 200 without a model, and 503 for ever after one failed generation.
"""

from typing import Any

from mooltiproxy.engines.driver import CannotStart
from mooltiproxy.engines.remote.common import LONG, Remote
from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.framing import SSEDecoder, parse_event
from mooltiproxy.upstream.fetch import Whole


class TabbyAPI(Remote):
    """One model of a TabbyAPI server, while the proxy wants it loaded."""

    title = "TabbyAPI"
    _found = ""
    """What the server called the model when we had loaded it: its folder may be a link to another name."""

    async def start(self) -> None:
        """Raises CannotStart without an admin key, for which alone TabbyAPI loads models."""
        if not self._run.admin_key:
            raise CannotStart("TabbyAPI loads models for its admin key only: name its variable in `run.admin_envkey`")
        await super().start()

    async def _load(self) -> None:
        await self._lasting(self._load_it())

    async def _load_it(self) -> None:
        asked = {"model_name": self._model, **self._run.load}
        whole = await self._ask("POST", "/v1/model/load", asked, fields=self._admin_fields, clocks=LONG)
        if whole.status == 401:
            raise CannotStart(f"{self.title} does not accept the admin key (`run.admin_envkey`): {self._words(whole)}")
        if whole.status != 200:
            raise self._refusal(whole)
        self._follow(whole)
        self._found = await self._current() or ""
        if not self._found:
            raise CannotStart(f"{self.title} said that it has loaded it, but has no model")

    def _follow(self, whole: Whole) -> None:
        """Read the stream of a load: of its parts (`vision`, `draft`, `model`) the model comes last."""
        decoder = SSEDecoder()
        is_loaded = False
        for data in [*decoder.feed(bytes(whole.data)), *decoder.end()]:
            event = parse_event(data)
            if isinstance(event, dict) and "error" in event:
                raise CannotStart(f"{self.title} could not load it: {self._clean(_words_of(event['error']))}")
            if isinstance(event, dict) and event.get("status") == "finished" and event.get("model_type") == "model":
                is_loaded = True
        if not is_loaded:
            raise CannotStart(f"{self.title} stopped to tell of the load before it was finished")

    async def _unload(self) -> None:
        if not await self._has_model():
            return
        whole = await self._ask("POST", "/v1/model/unload", fields=self._admin_fields, clocks=LONG)
        if whole.status >= 400 and whole.status != 503:  # nothing is loaded
            self._object(whole, "POST /v1/model/unload")

    async def _has_model(self) -> bool:
        return await self._current() == self._name

    async def _tend(self) -> str:
        current = await self._current()
        if current == self._name:
            return ""
        return f"{self.title} has {f'loaded {current} instead' if current else 'it no longer loaded'}"

    async def _current(self) -> str | None:
        """The name of the loaded model, None where there is none, or one is being loaded."""
        whole = await self._ask("GET", "/v1/model", fields=self._key_fields or {"x-api-key": self._run.admin_key or ""})
        if whole.status == 503 and isinstance(whole.json(), dict):
            return None
        name = self._object(whole, "GET /v1/model").get("id")
        if not isinstance(name, str):
            raise UpstreamBroken("it does not say which model is loaded")
        return name

    @property
    def _name(self) -> str:
        """What the server calls the model: the name of its folder, which may lie in another."""
        return self._found or self._model.rstrip("/").rpartition("/")[2]

    @property
    def _admin_fields(self) -> dict[str, str]:
        return {**self._key_fields, "x-admin-key": self._run.admin_key or ""}

    def _secrets(self) -> list[str]:
        return [*super()._secrets(), *([self._run.admin_key] if self._run.admin_key else [])]


def _words_of(error: Any) -> str:
    return str(error.get("message")) if isinstance(error, dict) else str(error)
