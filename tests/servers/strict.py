"""The strict servers of the grid with sockets: each is what the grid's module says that its vendor is."""

from functools import partial
from types import ModuleType, SimpleNamespace

import orjson

from tests.grid import strict_anthropic, strict_gemini, strict_ollama, strict_openai
from tests.grid.conversation import HI_THERE, TOLD, TOOL, Asked, Call, Feature, Told
from tests.grid.shapes import Refused
from tests.servers.scripted import Peer, Received, Script, answer, chunk

FAILS = "Fail at once"
BREAKS = "Break off"
"""What a user says to get a 429, or a stream that ends in an error."""

Server = ModuleType | SimpleNamespace
LOCAL = SimpleNamespace(**{**vars(strict_openai), "hear": partial(strict_openai.hear, local=True)})
SERVERS: dict[str, Server] = {
    "openai": LOCAL,
    "anthropic": strict_anthropic,
    "gemini": strict_gemini,
    "ollama": strict_ollama,
}


def told_for(asked: Asked) -> Told:
    """What the model says: calls where it has tools and no results yet, a thought where it shall think."""
    if asked.results:
        return TOLD[Feature.RESULTS]
    thought = TOLD[Feature.REASONING].thought if asked.thinks else ""
    if asked.tools:
        calls = TOLD[Feature.PARALLEL].calls if TOOL in asked.tools else (Call("Paris", name=next(iter(asked.tools))),)
        return Told(thought=thought, calls=calls, finish="tool_calls")
    if asked.schema is not None:
        return TOLD[Feature.SCHEMA]
    return TOLD[Feature.REASONING] if asked.thinks else HI_THERE


def strict(server: Server, heard: list[Asked]) -> Script:
    """The script of such a server, for `scripted.upstream`; what it has understood is added to `heard`."""

    async def script(peer: Peer, received: Received) -> None:
        path = received.line.split()[1]
        try:
            asked: Asked = server.hear(orjson.loads(received.body or b"null"), path)
        except Refused as refused:
            await peer.send(_refusal(str(refused)))
            return
        heard.append(asked)
        await _tell(peer, server, asked, path)

    return script


def _refusal(why: str) -> bytes:
    body = orjson.dumps({"error": {"message": why, "type": "invalid_request_error"}})
    return answer(body, status="404 Not Found" if why.startswith("404 ") else "400 Bad Request")


async def _tell(peer: Peer, server: Server, asked: Asked, path: str) -> None:
    word = asked.said[-1][1] if asked.said else asked.prompt
    if word == FAILS:
        await peer.send(answer(server.error(), status="429 Too Many Requests"))
    elif not asked.streams:
        body, fields = server.answer(told_for(asked), path)
        await peer.send(answer(body, *(f"{name}: {value}" for name, value in fields.items())))
    else:
        events = server.broken(path) if word == BREAKS else server.stream(told_for(asked), path)
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {server.MEDIA_TYPE}\r\ntransfer-encoding: chunked\r\n\r\n"
        await peer.send(head.encode())
        for event in events:
            await peer.send(chunk(event))
        await peer.send(b"0\r\n\r\n")
