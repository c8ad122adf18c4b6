"""A client that changes the vendor in the middle of a conversation, behind a proxy that speaks its API all the time."""

from typing import Any

import orjson

from mooltiproxy.mapping.signatures import GEMINI_CALL, mark
from tests.servers.proxy import proxy
from tests.servers.scripted import answer, answering, upstream

OWN = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
FOREIGN = {"type": "thinking", "thinking": "", "signature": mark(GEMINI_CALL, "Y2FsbA==")}
SAID = {"type": "text", "text": "Hi"}


def body(*thoughts: Any) -> bytes:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [*thoughts, SAID]}]
    return b" " + orjson.dumps({"model": "m", "max_tokens": 5, "messages": [*turns, turns[0]]})


async def heard(sent: bytes, **target: Any) -> tuple[int, str | None, bytes]:
    """The status, what was told to be lost, and what the target got."""
    async with upstream(answering(answer(b"{}"))) as up:
        one = {"url": up.url, "speaks": "anthropic", "key": "k", **target}
        async with proxy({"targets": {"default": "one", "one": one}}) as running:
            fields = {"Content-Type": "application/json"}
            async with running.client.post("/v1/messages", data=sent, headers=fields) as response:
                told = response.headers.get("x-mooltiproxy-dropped")
                return response.status, told, up.requests[-1].body if up.requests else b""


async def test_what_another_vendor_signed_is_left_out_and_named() -> None:
    _, told, got = await heard(body(OWN, FOREIGN))
    assert told == "messages.signature"
    assert orjson.loads(got) == orjson.loads(body(OWN))


async def test_all_else_passes_byte_by_byte() -> None:
    _, told, got = await heard(body(OWN))
    assert (told, got) == (None, body(OWN))


async def test_the_loss_can_be_refused() -> None:
    status, _, got = await heard(body(FOREIGN), losses={"reasoning": "reject"})
    assert (status, got) == (400, b"")
