import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from bench import load
from bench.processes import BenchError
from bench.upstream import Answers, Upstream


@asynccontextmanager
async def upstream(events: int, pace: float = 0.0) -> AsyncIterator[int]:
    """A mock upstream's port."""
    answers = Answers.prepared(events)
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(answers, pace), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def post(port: int, path: str, body: object) -> bytes:
    data = orjson.dumps(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
    head = await reader.readuntil(b"\r\n\r\n")
    if b"chunked" in head:
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
    else:
        answer = await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
    writer.close()
    return answer


async def test_a_chat_is_answered_whole_with_about_a_kilobyte() -> None:
    async with upstream(3) as port:
        answer = await post(port, "/v1/chat/completions", {"stream": False})
    assert orjson.loads(answer)["choices"][0]["finish_reason"] == "stop"
    assert 800 < len(answer) < 1500


async def test_a_generate_is_answered_in_the_form_of_tgi() -> None:
    async with upstream(3) as port:
        answer = await post(port, "/generate", {"inputs": "Hello"})
    assert orjson.loads(answer)["details"]["finish_reason"] == "eos_token"


async def test_a_generate_stream_ends_with_the_whole_text() -> None:
    async with upstream(3) as port:
        answer = await post(port, "/generate_stream", {"inputs": "Hello"})
    events = [orjson.loads(line[6:]) for line in answer.split(b"\r\n") if line.startswith(b"data: ")]
    assert [event["token"]["text"] for event in events] == ["The ", "quick ", "brown "]
    assert events[-1]["generated_text"] == "The quick brown "


@pytest.mark.parametrize("pace", [0.0, 0.001])
async def test_streams_are_counted_in_events(pace: float) -> None:
    async with upstream(5, pace) as port:
        count = await load.streams(port, load.chat(stream=True), connections=2, events=5, seconds=0.05)
    assert count.done > 2 * 5


async def test_a_stream_that_is_cut_short_is_an_error() -> None:
    async with upstream(5) as port:
        with pytest.raises(BenchError, match="a stream of 50 tokens"):
            await load.streams(port, load.chat(stream=True), connections=1, events=50, seconds=0.01)


async def test_answers_at_a_fixed_rate_are_timed_for_each_port() -> None:
    async with upstream(1) as port:
        took = await load.at_fixed_rate([port, port], load.chat(), rate=200, seconds=0.05)
    assert [len(times) for times in took] == [10, 10]
