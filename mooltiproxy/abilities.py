"""What a target can do, as a client of OpenAI's chat completions finds it out (platform.openai.com/docs/api-reference).

Each probe asks one thing and judges the answer; shapes that are not the API's are a no, never an error of ours.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from mooltiproxy.config.model import Timeouts
from mooltiproxy.errors import MooltiError, UpstreamBroken
from mooltiproxy.mapping.framing import SSEDecoder, parse_event
from mooltiproxy.upstream import headers
from mooltiproxy.upstream.fetch import Whole, ask
from mooltiproxy.upstream.session import Origin, PooledSession

MAX_ANSWER = 16 * 1024 * 1024
LENGTH, SHORT = 512, 4
"""Tokens that an answer may have: enough for one with thoughts, and so few that it must be cut."""

QUESTION = "Say hello to the world in one whole sentence."
COUNTING = "Count from one to fifty, in words."
WORD = "KIWI"
WEATHER = "What is the weather in Paris? Call the tool."
WEATHER_TWICE = "What is the weather in Paris, and what is it in Rome? Call the tool for both at once."
CAPITAL = "Describe Paris as JSON: which city it is, and whether it is a capital."
TOOL = "get_weather"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": "Tells the weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
CALL_ID = "call00001"
"""Letters and digits, nine of them: what the strictest API takes."""

TOOL_TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": WEATHER},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": CALL_ID, "type": "function", "function": {"name": TOOL, "arguments": '{"city": "Paris"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": CALL_ID, "content": "21 degrees, sunny"},
]
FORM: Mapping[str, type] = {"city": str, "is_capital": bool}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "is_capital": {"type": "boolean"}},
    "required": ["city", "is_capital"],
    "additionalProperties": False,
}
RED_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


class Unable(MooltiError):
    """A probe's no: its message says why."""


class Reply:
    """A whole chat completion, read leniently: a target's own bytes may have any shape."""

    def __init__(self, body: Any) -> None:
        """Raises Unable for an answer without a message."""
        self.choices = [choice for choice in _list(_dict(body).get("choices")) if isinstance(choice, dict)]
        if not self.choices or not isinstance(self.choices[0].get("message"), dict):
            raise Unable("the answer is no chat completion")
        self.message: dict[str, Any] = self.choices[0]["message"]
        self.finish = str(self.choices[0].get("finish_reason"))
        self.usage = _dict(_dict(body).get("usage"))

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return _text(self.message.get("content"))

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The tool calls of the first choice; raises Unable for one that is not as it was offered."""
        calls = [call for call in _list(self.message.get("tool_calls")) if isinstance(call, dict)]
        for call in calls:
            function = _dict(call.get("function"))
            arguments = _parsed(_text(function.get("arguments")))
            if function.get("name") != TOOL or not isinstance(arguments, dict) or "city" not in arguments:
                raise Unable(f"the call is not as the tool wants it: {orjson.dumps(function).decode()}")
        return calls

    def tokens(self, of: str) -> int:
        """How many tokens the prompt or the completion had; 0 where it is not said."""
        count = self.usage.get(f"{of}_tokens")
        return count if isinstance(count, int) else 0


class Client:
    """A client of our proxy; `plain` is the answer to a plain question, once there is one."""

    def __init__(self, session: PooledSession, url: str, key: str) -> None:
        self._session = session
        self._origin = Origin.of(url)
        self._key = key
        self.model = ""
        self.models: list[str] = []
        self.length_field = "max_tokens"
        self.plain = Reply({"choices": [{"message": {}}]})

    async def chat(self, messages: str | Sequence[Mapping[str, Any]], *, length: int = LENGTH, **fields: Any) -> Reply:
        """The answer to a chat; raises Unable where it is refused, or one of these fields was left out."""
        return Reply(await self.post("/v1/chat/completions", self._body(messages, length, fields), fields))

    async def stream(self, question: str) -> "Streamed":
        """The same as a stream; raises Unable where the answer is none."""
        answer = Streamed()
        await self._ask("POST", "/v1/chat/completions", self._body(question, LENGTH, {"stream": True}), answer)
        media_type = headers.media_type(answer.fields)
        if media_type != "text/event-stream":
            raise Unable(f"the answer comes whole, as {media_type or 'bytes without a type'}")
        return answer

    async def post(self, path: str, body: dict[str, Any], fields: Iterable[str] = ()) -> Any:
        """The JSON answer to a body; raises Unable where it is refused, or one of these fields was left out."""
        answer = Whole(asyncio.get_running_loop().create_future(), MAX_ANSWER)
        await self._ask("POST", path, body, answer)
        told = headers.value_of(answer.fields, b"x-mooltiproxy-dropped") or b""
        lost = set(fields).intersection(told.decode("latin-1").split("; "))
        if lost:
            raise Unable(f"the target's API has no {', '.join(sorted(lost))}")
        return answer.json()

    async def get(self, path: str) -> Any:
        """The JSON answer at a path; raises Unable where it is refused."""
        answer = Whole(asyncio.get_running_loop().create_future(), MAX_ANSWER)
        await self._ask("GET", path, None, answer)
        return answer.json()

    def _body(
        self, messages: str | Sequence[Mapping[str, Any]], length: int, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        return {"model": self.model, "messages": turns, self.length_field: length, **fields}

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None, answer: Whole) -> None:
        data = b"" if body is None else orjson.dumps(body)
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: {self._origin.authority}\r\nauthorization: Bearer {self._key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n"
        )
        limits = Timeouts(connect=None, first_byte=None, idle=None)
        try:
            await ask(self._session, self._origin, head.encode() + data, answer, limits)
        except UpstreamBroken as error:
            raise Unable("the answer breaks off") from error
        if answer.status != 200:
            raise Unable(f"{answer.status}: {_message_in(answer.json())}")


class Streamed(Whole):
    """A stream, and which read of it brought what."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop().create_future(), MAX_ANSWER)
        self._reads = 0
        self._pieces: list[tuple[int, bytes]] = []

    def body(self, data: bytes) -> None:
        """Keep the bytes with the number of their read."""
        Whole.body(self, data)
        self._pieces.append((self._reads, data))

    def flush(self) -> None:
        """A read is over."""
        self._reads += 1

    def events(self) -> Iterator[tuple[int, Any]]:
        """The parsed events, each with the number of the read that completed it; raises UpstreamBroken."""
        decoder = SSEDecoder()
        for read, data in self._pieces:
            yield from ((read, parse_event(event)) for event in decoder.feed(data))
        yield from ((self._reads, parse_event(event)) for event in decoder.end())


Probe = Callable[[Client], Awaitable[str]]
"""Finds one thing out: what to say beside the yes; raises Unable, ProxyError for a no."""


async def models(client: Client) -> str:
    """The names of the models, which the client keeps."""
    entries = _list(_dict(await client.get("/v1/models")).get("data"))
    client.models = [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    if not client.models:
        raise Unable("the list is empty")
    return ", ".join(client.models)


async def answers(client: Client) -> str:
    """The answer to a plain question, which the client keeps."""
    try:
        client.plain = await client.chat(QUESTION)
    except Unable as refusal:
        if "max_completion_tokens" not in str(refusal):  # what OpenAI's reasoning models want instead
            raise
        client.length_field = "max_completion_tokens"
        client.plain = await client.chat(QUESTION)
    if not client.plain.text:
        raise Unable(f"the answer is empty (finish_reason {client.plain.finish})")
    return _quoted(client.plain.text)


async def _streams(client: Client) -> str:
    reads, finished = [], False
    for read, event in (await client.stream(QUESTION)).events():
        if isinstance(event, dict) and "error" in event:
            raise Unable(f"the stream ends with an error: {_message_in(event)}")
        for choice in map(_dict, _list(_dict(event).get("choices"))):
            finished = finished or bool(choice.get("finish_reason"))
            reads += [read] if _dict(choice.get("delta")).get("content") else []
    if not finished:
        raise Unable("the stream ends without a finish_reason")
    if len(reads) < 2:
        raise Unable("the answer comes in one piece")
    return f"{len(reads)} pieces" if reads[0] < reads[-1] else f"{len(reads)} pieces, too fast to be seen apart"


async def _reports_usage(client: Client) -> str:
    prompt, completion = client.plain.tokens("prompt"), client.plain.tokens("completion")
    if not completion:
        raise Unable("the answer does not say its tokens")
    return f"{prompt} in, {completion} out"


async def _stops(client: Client) -> str:
    """The commonest character of the plain answer must not come any more."""
    stop = Counter(character for character in client.plain.text if not character.isspace()).most_common(1)[0][0]
    reply = await client.chat(QUESTION, stop=[stop])
    if stop in reply.text:
        raise Unable(f"the answer goes on behind {stop!r}")
    return ""


async def _keeps_length(client: Client) -> str:
    reply = await client.chat(COUNTING, length=SHORT)
    tokens = reply.tokens("completion")
    if tokens > SHORT:
        raise Unable(f"the answer has {tokens} tokens instead of {SHORT}")
    if reply.finish != "length":
        raise Unable(f"the answer is not cut: finish_reason {reply.finish}")
    return ""


async def _takes_system_prompt(client: Client) -> str:
    """One that is not obeyed may still have arrived: then a longer one makes a longer prompt than a short one."""
    reply = await client.chat(_ruled(f"Whatever you are asked, answer with the word {WORD} and nothing else."))
    if WORD in reply.text.upper():
        return "obeyed"
    long, short = reply.tokens("prompt"), (await client.chat(_ruled("Be kind."))).tokens("prompt")
    if long and long <= short:
        raise Unable("a longer one makes no longer prompt")
    return "it reaches the model, which does not obey it" if long and short else "taken, but not obeyed"


def _ruled(rule: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": rule}, {"role": "user", "content": QUESTION}]


async def _calls_tools(client: Client) -> str:
    """A call that is demanded; where that cannot be demanded, one that the question suggests."""
    try:
        return _called(await client.chat(WEATHER, tools=TOOLS, tool_choice="required"))
    except Unable as refusal:
        try:
            return f"{_called(await client.chat(WEATHER, tools=TOOLS))}; not on demand: {refusal}"
        except Unable:
            raise refusal from None


def _called(reply: Reply) -> str:
    if not reply.calls:
        raise Unable(f"no call comes back, but {_quoted(reply.text)}")
    return str(reply.calls[0]["function"]["arguments"])


async def _calls_in_parallel(client: Client) -> str:
    calls = (await client.chat(WEATHER_TWICE, tools=TOOLS, parallel_tool_calls=True)).calls
    if len(calls) < 2:
        raise Unable("one call comes back" if calls else "no call comes back")
    if len({call.get("id") for call in calls}) < len(calls):
        raise Unable("the calls share an id")
    return f"{len(calls)} calls"


async def _takes_tool_results(client: Client) -> str:
    reply = await client.chat(TOOL_TURNS, tools=TOOLS)
    if not reply.text:
        raise Unable("the result is not answered with a text")
    return _quoted(reply.text)


async def _keeps_schema(client: Client) -> str:
    form = {"name": "place", "strict": True, "schema": SCHEMA}
    reply = await client.chat(CAPITAL, response_format={"type": "json_schema", "json_schema": form})
    value = _parsed(reply.text)
    if not isinstance(value, dict):
        raise Unable(f"the answer is no JSON object: {_quoted(reply.text)}")
    if value.keys() != FORM.keys() or not all(isinstance(value[name], kind) for name, kind in FORM.items()):
        raise Unable(f"the answer does not obey the schema: {reply.text}")
    return reply.text


async def _tells_logprobs(client: Client) -> str:
    reply = await client.chat(QUESTION, logprobs=True, top_logprobs=2)
    tokens = _list(_dict(reply.choices[0].get("logprobs")).get("content"))
    if not tokens:
        raise Unable("the answer has none")
    return f"{len(tokens)} tokens"


async def _takes_images(client: Client) -> str:
    image = {"type": "image_url", "image_url": {"url": RED_PIXEL}}
    parts = [{"type": "text", "text": "Which colour is this?"}, image]
    return _quoted((await client.chat([{"role": "user", "content": parts}])).text)


async def _answers_twice(client: Client) -> str:
    count = len((await client.chat(QUESTION, n=2)).choices)
    if count != 2:
        raise Unable(f"{count} choices come back" if count > 1 else "one choice comes back")
    return ""


async def embeddings(client: Client) -> str:
    """The length of a text's vector."""
    answer = await client.post("/v1/embeddings", {"model": client.model, "input": "Hello"})
    vectors = [_list(_dict(entry).get("embedding")) for entry in _list(_dict(answer).get("data"))]
    if not vectors or not vectors[0]:
        raise Unable("the answer has no vector")
    return f"{len(vectors[0])} dimensions"


CHAT_PROBES: Mapping[str, Probe] = {
    "stream": _streams,
    "usage": _reports_usage,
    "stop": _stops,
    "max_tokens": _keeps_length,
    "system prompt": _takes_system_prompt,
    "tools": _calls_tools,
    "parallel tools": _calls_in_parallel,
    "tool results": _takes_tool_results,
    "JSON schema": _keeps_schema,
    "logprobs": _tells_logprobs,
    "vision": _takes_images,
    "n": _answers_twice,
}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _message_in(body: Any) -> str:
    """An error's message, and the field that it names."""
    error = _dict(_dict(body).get("error"))
    message = _text(error.get("message")) or _text(_dict(body).get("error")) or "without a message"
    return f"{message} ({error['param']})" if _text(error.get("param")) else message


def _quoted(text: str) -> str:
    """What a target has said."""
    return f'"{text.strip()}"'
