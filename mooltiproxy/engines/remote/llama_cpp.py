"""Models of llama.cpp's server in router mode, which starts a server of its own for each.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md (using multiple models), and
`tools/server/server-models.cpp` there for the states and the errors: loading is begun by the request and ends later; a
server that has ended is `unloaded`, with `failed` and its `exit_code` where that was no success.
"""

from typing import Any

from mooltiproxy.engines.driver import CannotStart
from mooltiproxy.engines.remote.common import LONG, Remote, entries
from mooltiproxy.errors import EndpointMissing

LOADED = ("loaded", "sleeping")
"""A sleeping model has freed its memory by itself, and comes back with its next request."""
GONE = ("unloaded", "downloaded")
ALREADY = "already running"


class LlamaCpp(Remote):
    """One model of a llama.cpp router, while the proxy wants it loaded."""

    title = "llama.cpp's router"

    async def _load(self) -> None:
        asked = {"model": self._model, **self._run.load}
        whole = await self._lasting(self._ask("POST", "/models/load", asked, clocks=LONG))
        if whole.status != 200 and not (whole.status == 400 and ALREADY in self._words(whole)):
            raise self._refusal(whole)
        await self._until(self._has_come)

    async def _unload(self) -> None:
        if await self._is_gone():
            return
        whole = await self._ask("POST", "/models/unload", {"model": self._model}, clocks=LONG)
        if whole.status not in (400, 404):  # it has ended in this very moment
            self._object(whole, "POST /models/unload")

    async def _has_model(self) -> bool:
        return (await self._status())["value"] in LOADED

    async def _is_gone(self) -> bool:
        return (await self._status())["value"] in GONE

    async def _tend(self) -> str:
        status = await self._status()
        if status["value"] in LOADED:
            return ""
        code = f" (its exit code is {status['exit_code']})" if "exit_code" in status else ""
        return f"{self.title} has it no longer loaded{code}"

    async def _has_come(self) -> bool:
        """Whether a load that has begun has succeeded; raises CannotStart where it has failed."""
        status = await self._status()
        if status["value"] in GONE:
            why = f"its server ended with exit code {status.get('exit_code')}" if status.get("failed") else "it did not"
            raise CannotStart(f"{self.title} could not load it: {why}, see the router's log")
        return status["value"] in LOADED

    async def _status(self) -> dict[str, Any]:
        """The state that the router lists; a model that it does not know is unloaded. Aliases are names, too."""
        for one in entries(await self._told("/models"), "data"):
            aliases = one.get("aliases")
            if self._model in (one.get("id"), *(aliases if isinstance(aliases, list) else ())):
                status = one.get("status")
                if not isinstance(status, dict) or "value" not in status:
                    raise EndpointMissing("it is no router: llama-server is one when it is started without a model")
                return status
        return {"value": "unloaded"}
