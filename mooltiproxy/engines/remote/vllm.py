"""A vLLM server, whose one model is put to sleep and woken.

Source: https://github.com/vllm-project/vllm/blob/main/docs/features/sleep_mode.md, and the router of these endpoints
for what it leaves out: an answer may come before the change is done, and a server that was woken in part is asleep.
At level 1 the weights wait in main memory; at level 2, which another client may have asked for, they would have to be
loaded again, and no endpoint tells. `/health` is 200 in any case.
"""

from mooltiproxy.engines.remote.common import LONG, Remote
from mooltiproxy.errors import EndpointMissing, UpstreamBroken
from mooltiproxy.upstream.fetch import Whole


class VLLM(Remote):
    """The model of a vLLM server, while the proxy wants it awake."""

    title = "vLLM"

    async def _load(self) -> None:
        self._change(await self._lasting(self._ask("POST", "/wake_up", clocks=LONG)), "POST /wake_up")
        await self._until(self._has_model)

    async def _unload(self) -> None:
        if not await self._is_gone():
            self._change(await self._ask("POST", "/sleep?level=1", clocks=LONG), "POST /sleep")

    async def _has_model(self) -> bool:
        whole = await self._ask("GET", "/is_sleeping")
        self._needs_endpoint(whole)
        is_sleeping = self._object(whole, "GET /is_sleeping").get("is_sleeping")
        if not isinstance(is_sleeping, bool):
            raise UpstreamBroken("it does not say whether it sleeps")
        return not is_sleeping

    async def _tend(self) -> str:
        return "" if await self._has_model() else f"{self.title} was put to sleep by somebody else"

    def _change(self, whole: Whole, asked: str) -> None:
        """Older versions answer without a body."""
        self._needs_endpoint(whole)
        if whole.status != 200:
            raise UpstreamBroken(f"it answered {asked} with {whole.status}: {self._words(whole)}")

    def _needs_endpoint(self, whole: Whole) -> None:
        if whole.status == 404:
            raise EndpointMissing(
                "it has no endpoints to sleep and wake: start it with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"
            )
