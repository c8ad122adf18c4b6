"""A mock upstream that is never the bottleneck: it speaks enough OpenAI and TGI to be asked for chats and streams.

`python -m bench.upstream --port 9000 --events 64 --pace 20`. Every answer is prepared at start; a request costs one
parse and one write. Forms after platform.openai.com/docs/api-reference/chat and TGI's /generate and /generate_stream.
"""

import argparse
import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import cast

import httptools
import orjson
import uvloop

WORDS = ("The ", "quick ", "brown ", "fox ", "jumps ", "over ", "the ", "lazy ", "dog. ")
ANSWER_WORDS = 150
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answers:
    """Everything that is ever sent: whole answers, and streams as lists of HTTP chunks of one event each."""

    ping: bytes
    chat: bytes
    generate: bytes
    chat_stream: list[bytes]
    generate_stream: list[bytes]

    @classmethod
    def prepared(cls, events: int) -> "Answers":
        """The answers whose streams carry `events` tokens."""
        return cls(
            ping=_whole({"ping": "pong"}),
            chat=_whole(_chat(_words(ANSWER_WORDS))),
            generate=_whole(_generated(_words(ANSWER_WORDS), ANSWER_WORDS)),
            chat_stream=_chunks([*_chat_events(events), b"[DONE]"]),
            generate_stream=_chunks(_generate_events(events)),
        )


def _words(count: int) -> list[str]:
    return [WORDS[number % len(WORDS)] for number in range(count)]


def _whole(body: object) -> bytes:
    data = orjson.dumps(body)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def _chat(words: list[str]) -> dict[str, object]:
    message = {"role": "assistant", "content": "".join(words)}
    return {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "bench",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": len(words), "total_tokens": 9 + len(words)},
    }


def _chat_events(count: int) -> Iterable[bytes]:
    event = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1700000000, "model": "bench"}
    for word in _words(count):
        yield orjson.dumps({**event, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
    yield orjson.dumps({**event, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


def _generated(words: list[str], tokens: int) -> dict[str, object]:
    details = {"finish_reason": "eos_token", "generated_tokens": tokens, "input_length": 9, "seed": None}
    return {"generated_text": "".join(words), "details": details}


def _generate_events(count: int) -> Iterable[bytes]:
    words = _words(count)
    end = _generated(words, count)
    for number, word in enumerate(words):
        token = {"id": number, "text": word, "logprob": -0.1, "special": False}
        last = end if number == count - 1 else {"generated_text": None, "details": None}
        yield orjson.dumps({"index": number + 1, "token": token, **last})


def _chunks(events: Iterable[bytes]) -> list[bytes]:
    framed = [b"data: " + event + b"\n\n" for event in events]
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in framed]
    chunks[-1] += b"0\r\n\r\n"
    return chunks


class Upstream(asyncio.Protocol):
    """One connection. `pace` is the seconds between two events of a stream; at 0 a stream is one write."""

    def __init__(self, answers: Answers, pace: float) -> None:
        self._answers = answers
        self._pace = pace
        self._parser = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop: whoever read a stream is gone."""
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._url = url

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser: the answer is chosen by the end of the path, as /v1 may have been cut."""
        if self._url.endswith(b"/generate_stream"):
            self._stream(self._answers.generate_stream)
        elif self._url.endswith(b"/generate"):
            self._transport.write(self._answers.generate)
        elif self._url.endswith(b"/ping"):
            self._transport.write(self._answers.ping)
        elif _wants_stream(b"".join(self._body)):
            self._stream(self._answers.chat_stream)
        else:
            self._transport.write(self._answers.chat)

    def _stream(self, chunks: list[bytes]) -> None:
        if self._pace:
            self._transport.write(STREAM_HEAD)
            self._send(chunks, 0)
        else:
            self._transport.write(STREAM_HEAD + b"".join(chunks))

    def _send(self, chunks: list[bytes], number: int) -> None:
        self._transport.write(chunks[number])
        if number + 1 < len(chunks):
            self._timer = asyncio.get_running_loop().call_later(self._pace, self._send, chunks, number + 1)


def _wants_stream(body: bytes) -> bool:
    return b'"stream":true' in body or b'"stream": true' in body


async def serve(port: int, events: int, pace: float) -> None:
    """Answer on 127.0.0.1 until the process is ended."""
    factory = partial(Upstream, Answers.prepared(events), pace)
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--events", type=int, default=64, help="tokens of a stream")
    parser.add_argument("--pace", type=float, default=0, help="ms between two events; 0: as fast as possible")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.events, options.pace / 1000))


if __name__ == "__main__":
    main()
