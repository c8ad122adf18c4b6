"""Tools and thoughts through targets that take a prompt and give text: over sockets, as clients see them."""

from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from tests.servers.proxy import proxy
from tests.servers.scripted import Script, answer, answering, upstream

WEATHER = {
    "name": "weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS = [{"type": "function", "function": WEATHER}]
ASK = {"model": "m", "messages": [{"role": "user", "content": "What is the weather in Bern?"}], "tools": TOOLS}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
SSE = "text/event-stream"


def tgi(text: str, special: Iterable[str] = ()) -> bytes:
    """A whole answer of TGI, whose `generated_text` is without special tokens."""
    tokens: list[dict[str, Any]] = [
        {"id": at, "text": piece, "logprob": -0.1, "special": piece in special} for at, piece in pieces(text, special)
    ]
    tokens.append({"id": 9, "text": "</s>", "logprob": 0, "special": True})
    plain = "".join(token["text"] for token in tokens if not token["special"])
    details = {"finish_reason": "eos_token", "generated_tokens": len(tokens), "seed": None, "tokens": tokens}
    return answer(orjson.dumps({"generated_text": plain, "details": details}))


def tgi_stream(text: str, special: Iterable[str] = ()) -> bytes:
    events = [
        {"index": at, "token": {"id": at, "text": piece, "logprob": -0.1, "special": piece in special}}
        | {"generated_text": None, "details": None}
        for at, piece in pieces(text, special)
    ]
    details = {"finish_reason": "eos_token", "generated_tokens": 3, "seed": None, "input_length": 5}
    last = {"index": 99, "token": {"id": 2, "text": "</s>", "logprob": 0, "special": True}}
    events.append({**last, "generated_text": text, "details": details})
    return answer(b"".join(b"data:%b\n\n" % orjson.dumps(event) for event in events), media_type=SSE)


def pieces(text: str, special: Iterable[str]) -> list[tuple[int, str]]:
    """The text in tokens of two letters; special tokens are whole."""
    for word in special:
        text = text.replace(word, f"\0{word}\0")
    found: list[str] = []
    for part in text.split("\0"):
        found += [part] if part in special else [part[at : at + 2] for at in range(0, len(part), 2)]
    return list(enumerate(found))


def completion(text: str) -> bytes:
    return answer(orjson.dumps({"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}))


async def asked(script: Script, body: Any, path: str = "/v1/chat/completions", **target: Any) -> tuple[Any, Any]:
    """What the target was sent, and what the client got."""
    async with upstream(script) as up:
        one = {"url": up.url, "speaks": "tgi", "prompter": "chat_template", "template": "chatml", **target}
        async with proxy({"targets": {"default": "one", "one": one}}) as running:
            async with running.client.post(path, json=body) as response:
                data = await response.read()
                if response.headers["content-type"].startswith(SSE):
                    return orjson.loads(up.requests[0].body), data
                return orjson.loads(up.requests[0].body) if up.requests else None, orjson.loads(data)


def streamed(data: bytes) -> tuple[str, list[Any], str | None]:
    """The text, the calls and the finish reason of a stream of chunks."""
    chunks = [orjson.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: {")]
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    calls: dict[int, list[str]] = {}
    for choice in choices:
        for call in choice["delta"].get("tool_calls", ()):
            known = calls.setdefault(call["index"], ["", ""])
            known[0] += call["function"].get("name", "")
            known[1] += call["function"]["arguments"]
    return text, [(name, orjson.loads(arguments)) for name, arguments in calls.values()], choices[-1]["finish_reason"]


async def test_a_tool_is_taught_by_the_prompt_and_its_call_read_from_the_text() -> None:
    sent, got = await asked(answering(tgi(f"I look.\n{CALL}")), ASK)
    assert '"name": "weather"' in sent["inputs"]
    assert "What is the weather in Bern?" in sent["inputs"]
    message = got["choices"][0]["message"]
    assert got["choices"][0]["finish_reason"] == "tool_calls"
    assert message["content"] == "I look."
    assert [call["function"] for call in message["tool_calls"]] == [{"name": "weather", "arguments": '{"city":"Bern"}'}]


async def test_the_same_as_a_stream() -> None:
    _, got = await asked(answering(tgi_stream(f"I look.\n{CALL}\n{CALL}")), {**ASK, "stream": True})
    call = ("weather", {"city": "Bern"})
    assert streamed(got) == ("I look.", [call, call], "tool_calls")


async def test_what_a_tool_returned_stands_in_the_next_prompt() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    turns = [
        *ASK["messages"],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"},
    ]
    sent, got = await asked(answering(tgi("It is sunny.")), {**ASK, "messages": turns})
    assert "<tool_call>" in sent["inputs"]
    assert "<tool_response>\nSunny\n</tool_response>" in sent["inputs"]
    assert got["choices"][0]["message"]["content"] == "It is sunny."
    assert got["choices"][0]["finish_reason"] == "stop"


async def test_clients_of_other_apis_get_calls_and_thoughts_as_theirs() -> None:
    tool = {"name": "weather", "input_schema": WEATHER["parameters"]}
    body = {"model": "m", "max_tokens": 99, "messages": ASK["messages"], "tools": [tool]}
    template = {"template": "thinking"}
    jinja = "{{ messages[-1].content }}{% if tools %}{{ tools | tojson }}<tool_call>{% endif %}{# <think></think> #}"
    async with upstream(answering(tgi(f"<think>\nHm.\n</think>\n\n{CALL}"))) as up:
        one = {"url": up.url, "speaks": "tgi", "prompter": "chat_template", **template}
        config = {"targets": {"default": "one", "one": one}, "templates": {"thinking": {"jinja": jinja}}}
        async with proxy(config) as running, running.client.post("/v1/messages", json=body) as response:
            got = await response.json()
    assert [block["type"] for block in got["content"]] == ["thinking", "tool_use"]
    assert got["content"][0]["thinking"] == "Hm."
    assert got["content"][1]["input"] == {"city": "Bern"}
    assert got["stop_reason"] == "tool_use"


@pytest.mark.parametrize("stream", [False, True])
async def test_marks_that_are_special_tokens_are_heard(stream: bool) -> None:
    text = '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Bern"}, "id": "123456789"}]'
    made = tgi_stream(text, ["[TOOL_CALLS]"]) if stream else tgi(text, ["[TOOL_CALLS]"])
    sent, got = await asked(answering(made), {**ASK, "stream": stream}, template="mistral-v3")
    assert "[AVAILABLE_TOOLS]" in sent["inputs"]
    if stream:
        assert streamed(got) == ("", [("weather", {"city": "Bern"})], "tool_calls")
    else:
        call = got["choices"][0]["message"]["tool_calls"][0]
        assert (call["id"], call["function"]["name"]) == ("123456789", "weather")


async def test_a_server_with_text_completions_only_is_taught_tools_too() -> None:
    target: dict[str, Any] = {"speaks": "openai", "endpoints": ["completions"]}
    sent, got = await asked(answering(completion(CALL)), ASK, **target)
    assert "weather" in sent["prompt"]
    assert sent["skip_special_tokens"] is False
    assert got["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"


async def test_a_tool_that_is_not_to_be_called_is_not_taught() -> None:
    sent, got = await asked(answering(tgi(CALL)), {**ASK, "tool_choice": "none"})
    assert "weather" not in sent["inputs"].replace("What is the weather in Bern?", "")
    assert got["choices"][0]["message"]["content"] == CALL


async def test_only_the_tool_that_is_chosen_is_taught() -> None:
    other = {"type": "function", "function": {"name": "other"}}
    choice = {"type": "function", "function": {"name": "weather"}}
    sent, _ = await asked(answering(tgi(CALL)), {**ASK, "tools": [other, *TOOLS], "tool_choice": choice})
    assert '"weather"' in sent["inputs"]
    assert '"other"' not in sent["inputs"]


MARKS = ["<|channel|>", "<|message|>", "<|call|>", "<|end|>", "<|start|>", "<|constrain|>", "[TOOL_CALLS]"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("chatml", CALL),
        ("llama3", '{"name": "weather", "parameters": {"city": "Bern"}}'),
        ("mistral-v3-tekken", '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Bern"}, "id": "123456789"}]'),
        ("mistral-v7", '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Bern"}, "id": "123456789"}]'),
        (
            "harmony",
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.weather "
            '<|constrain|>json<|message|>{"city": "Bern"}<|call|>',
        ),
    ],
)
async def test_every_built_in_format_that_teaches_tools_reads_their_calls(template: str, text: str) -> None:
    sent, got = await asked(answering(tgi(text, MARKS)), ASK, template=template)
    assert "weather" in sent["inputs"]
    choice = got["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]["function"]
    assert (call["name"], orjson.loads(call["arguments"])) == ("weather", {"city": "Bern"})
    _, stream = await asked(answering(tgi_stream(text, MARKS)), {**ASK, "stream": True}, template=template)
    assert streamed(stream)[1:] == ([("weather", {"city": "Bern"})], "tool_calls")


@pytest.mark.parametrize("template", ["vicuna", "gemma"])
async def test_a_format_that_knows_no_tools_refuses_them_by_name(template: str) -> None:
    sent, got = await asked(answering(tgi("Hi")), ASK, template=template)
    assert sent is None
    assert got["error"]["param"] == "tools"


async def test_a_template_whose_models_calls_nobody_knows_refuses_tools() -> None:
    jinja = "{{ messages[-1].content }}{{ tools }}"
    async with upstream(answering(tgi("Hi"))) as up:
        one = {"url": up.url, "speaks": "tgi", "prompter": "chat_template", "template": "own"}
        config = {"targets": {"default": "one", "one": one}, "templates": {"own": {"jinja": jinja}}}
        async with proxy(config) as running, running.client.post("/v1/chat/completions", json=ASK) as response:
            assert response.status == 400
            assert "writes its calls is not known" in (await response.json())["error"]["message"]
    assert up.requests == []


async def test_log_probabilities_have_no_place_beside_calls_and_are_named() -> None:
    async with upstream(answering(tgi(CALL))) as up:
        one = {"url": up.url, "speaks": "tgi", "prompter": "chat_template", "template": "chatml"}
        async with proxy({"targets": {"default": "one", "one": one}}) as running:
            body = {**ASK, "logprobs": True}
            async with running.client.post("/v1/chat/completions", json=body) as response:
                assert response.headers["x-mooltiproxy-dropped"] == "logprobs"
