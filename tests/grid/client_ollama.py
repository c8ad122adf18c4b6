"""Clients of Ollama's chat and generate, read with the types of its client."""

from functools import partial
from typing import Any

import ollama
import orjson

from mappers.ollama import chat, dialect, generate

from .clients import Body, Client, Seen
from .conversation import CITY, DESCRIPTION, PNG, TOOL, WEATHER, Call, Feature, Told, Usage
from .shapes import check, need

KNOWS = frozenset(("prompt", "answer", "thought"))
"""Not the ids of calls: they are on the wire, but the client does not read them."""
Answer = ollama.ChatResponse | ollama.GenerateResponse


def asking(*messages: Body, **fields: Any) -> Body:
    """A request with these messages, for a whole answer."""
    return {"model": "m1", "messages": list(messages), "stream": False, **fields}


def prompting(prompt: str, **fields: Any) -> Body:
    """A request with this prompt, for a whole answer."""
    return {"model": "m1", "prompt": prompt, "stream": False, **fields}


def user(content: str, **more: Any) -> Body:
    """What the user says."""
    return {"role": "user", "content": content, **more}


def call(city: str) -> Body:
    """A call in a history."""
    return {"function": {"name": TOOL, "arguments": {"city": city}}}


HI = asking(user("Say hi"))
TOOLS = [{"type": "function", "function": {"name": TOOL, "description": DESCRIPTION, "parameters": CITY}}]
CHAT_BODIES = {
    Feature.PLAIN: {**HI, "options": {"temperature": 0.5}},
    Feature.STREAM: HI,
    Feature.SYSTEM: asking({"role": "system", "content": "Be brief."}, user("Say hi")),
    Feature.MULTI_TURN: asking(user("Say hi"), {"role": "assistant", "content": "Hi there"}, user("Once more")),
    Feature.TOOLS: asking(user("Weather in Paris?"), tools=TOOLS),
    Feature.PARALLEL: asking(user("Weather in Paris and Rome?"), tools=TOOLS),
    Feature.RESULTS: asking(
        user("Weather in Paris and Rome?"),
        {"role": "assistant", "content": "", "tool_calls": [call("Paris"), call("Rome")]},
        {"role": "tool", "tool_name": TOOL, "content": "20 degrees"},
        {"role": "tool", "tool_name": TOOL, "content": "25 degrees"},
        tools=TOOLS,
    ),
    Feature.IMAGE: asking(user("What is this?", images=[PNG])),
    Feature.REASONING: asking(user("2+2?"), think="low"),
    Feature.SCHEMA: asking(user("Weather in Paris?"), format=WEATHER),
    Feature.STOP: {**HI, "options": {"stop": ["END"]}},
    Feature.LENGTH: {**HI, "options": {"num_predict": 64}},
    Feature.USAGE: HI,
    Feature.ERROR: HI,
    Feature.BROKEN: HI,
}
PROMPT = prompting("Say hi")
GENERATE_BODIES = {
    Feature.PLAIN: {**PROMPT, "options": {"temperature": 0.5}},
    Feature.STREAM: PROMPT,
    Feature.SYSTEM: prompting("Say hi", system="Be brief."),
    Feature.IMAGE: prompting("What is this?", images=[PNG]),
    Feature.REASONING: prompting("2+2?", think="low"),
    Feature.SCHEMA: prompting("Weather in Paris?", format=WEATHER),
    Feature.STOP: {**PROMPT, "options": {"stop": ["END"]}},
    Feature.LENGTH: {**PROMPT, "options": {"num_predict": 64}},
    Feature.USAGE: PROMPT,
    Feature.ERROR: PROMPT,
    Feature.BROKEN: PROMPT,
}


def read(model: type[Answer], data: bytes) -> Told:
    """A whole answer."""
    answer = model.model_validate_json(data, strict=True)
    need(answer.done is True, "a whole answer that is not done")
    return _told([answer])


def read_stream(model: type[Answer], data: bytes) -> Seen:
    """A stream: lines, of which the last is done or an error."""
    lines = data.split(b"\n")
    need(lines.pop() == b"", "the last line does not end")
    error = read_error(200, lines.pop()) if lines[-1].startswith(b'{"error"') else None
    answers = [model.model_validate_json(line, strict=True) for line in lines]
    done = [answer.done for answer in answers]
    need(done == [False] * (len(done) - 1) + [error is None], f"a strange order {done}")
    return Seen(_told(answers), error)


def _told(answers: list[Any]) -> Told:
    need(all(answer.model == "m1" and answer.created_at for answer in answers), "a strange head")
    contents = [answer.message if isinstance(answer, ollama.ChatResponse) else answer for answer in answers]
    texts = [one.content if isinstance(one, ollama.Message) else one.response for one in contents]
    calls = [
        Call(one.function.arguments["city"], None, one.function.name)
        for content in contents
        if isinstance(content, ollama.Message)
        for one in content.tool_calls or ()
    ]
    last = answers[-1]
    if last.done:
        times = (last.total_duration, last.load_duration, last.prompt_eval_duration, last.eval_duration)
        need(all(isinstance(time, int) and time > 0 for time in times), f"strange durations {times}")
    reason = last.done_reason or "stop"
    need(reason in ("stop", "length"), f"a strange done_reason {reason}")
    return Told(
        "".join(text or "" for text in texts),
        "".join(content.thinking or "" for content in contents),
        tuple(calls),
        "length" if reason == "length" else "tool_calls" if calls else "stop",
        usage=Usage(last.prompt_eval_count, last.eval_count, None, None),
    )


def read_error(status: int, data: bytes) -> str:
    """The message of an error, of a whole answer or the last line of a stream."""
    body = orjson.loads(data)
    check(body, {"error": str})
    return str(body["error"])


CHAT = Client(
    "ollama chat",
    dialect,
    chat.endpoint,
    CHAT_BODIES,
    partial(read, ollama.ChatResponse),
    partial(read_stream, ollama.ChatResponse),
    read_error,
    knows=KNOWS,
)
GENERATE = Client(
    "ollama generate",
    dialect,
    generate.endpoint,
    GENERATE_BODIES,
    partial(read, ollama.GenerateResponse),
    partial(read_stream, ollama.GenerateResponse),
    read_error,
    knows=KNOWS,
)
