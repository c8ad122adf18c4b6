"""vLLM with `--enable-sleep-mode` and `VLLM_SERVER_DEV_MODE=1`: docs/features/sleep_mode.md and the router of these
endpoints in https://github.com/vllm-project/vllm."""

import orjson

from tests.servers.scripted import Received, answer
from tests.servers.strict_engines import Refused, StrictEngine, chat

PARTS = frozenset({"weights", "kv_cache"})


class StrictVLLM(StrictEngine):
    """`awake` are the parts that are; without `has_endpoints` it was started as usual. `lags` is for how many questions
    a change is not to be seen after it was asked for."""

    def __init__(self, *, awake: bool = False, has_endpoints: bool = True, lags: int = 0) -> None:
        super().__init__()
        self.awake = PARTS if awake else frozenset[str]()
        self.has_endpoints = has_endpoints
        self.lags = lags
        self._later: tuple[int, frozenset[str]] | None = None

    @property
    def is_sleeping(self) -> bool:
        return self.awake != PARTS

    async def answer(self, line: str, received: Received) -> bytes:
        if line == "GET /health":
            return answer(b"")
        if line == "POST /v1/chat/completions":
            if self.is_sleeping:
                raise Refused("503 Service Unavailable", {"error": {"message": "The model is sleeping", "code": 503}})
            return chat(orjson.loads(received.body)["model"])
        if self.has_endpoints and line == "GET /is_sleeping":
            self._pass()
            return answer(orjson.dumps({"is_sleeping": self.is_sleeping}))
        if self.has_endpoints and line == "POST /wake_up":
            await self.load_takes()
            self._change(PARTS)
            return answer(b"")
        if self.has_endpoints and line == "POST /sleep?level=1":
            self._change(frozenset())
            return answer(b"")
        raise Refused("404 Not Found", {"detail": "Not Found"})

    def _change(self, awake: frozenset[str]) -> None:
        self._later = (self.lags, awake)
        self._pass()

    def _pass(self) -> None:
        if self._later is not None:
            left, awake = self._later
            self._later = (left - 1, awake) if left else None
            self.awake = self.awake if left else awake
