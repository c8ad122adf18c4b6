"""Random requests that OpenAI's chat completions would take, in which every text and number is another."""

from itertools import count
from typing import Any

from hypothesis import strategies as st

from .conversation import PNG

Body = dict[str, Any]
TEXT = object()
"""Stands for a text until `numbered` makes it one of its own."""

SCHEMAS = (
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "string", "description": "an a"}, "b": {"type": "integer"}}},
)
NAMES = ("get_weather", "get-time", "search_2")
TEXTS = st.just({"type": "text", "text": TEXT})
IMAGES = st.fixed_dictionaries(
    {"url": st.just(f"data:image/png;base64,{PNG}")}, optional={"detail": st.sampled_from(["auto", "low", "high"])}
).map(lambda image: {"type": "image_url", "image_url": image})
AUDIO = st.just({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}})
PDF = st.just({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}})
SAID = st.one_of(st.just(TEXT), st.lists(TEXTS, min_size=1, max_size=3))
USER = st.fixed_dictionaries(
    {
        "role": st.just("user"),
        "content": st.one_of(SAID, st.lists(st.one_of(TEXTS, TEXTS, IMAGES, AUDIO, PDF), min_size=1, max_size=3)),
    },
    optional={"name": st.just("ann")},
)
SYSTEM = st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": SAID})
ANSWER = st.one_of(
    st.fixed_dictionaries({"role": st.just("assistant"), "content": SAID}, optional={"name": st.just("bob")}),
    st.just({"role": "assistant", "refusal": TEXT}),
)
ARGUMENTS = st.sampled_from(['{"city": "Paris"}', '{"city":"Rome","days":[1, 2.5]}', "{}"])


@st.composite
def _calling(draw: st.DrawFn) -> list[Body]:
    """An answer that calls, and the results in any order."""
    names = draw(st.lists(st.tuples(st.sampled_from(NAMES), ARGUMENTS), min_size=1, max_size=3))
    calls: list[Body] = [
        {"id": TEXT, "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in names
    ]
    answer: Body = {"role": "assistant", "content": draw(st.one_of(st.none(), SAID)), "tool_calls": calls}
    order = draw(st.permutations(range(len(calls))))
    return [answer, *({"role": "tool", "tool_call_id": at, "content": draw(SAID)} for at in order)]


TURNS = st.one_of(USER.map(lambda one: [one]), SYSTEM.map(lambda one: [one]), ANSWER.map(lambda one: [one]), _calling())
MESSAGES = st.lists(TURNS, min_size=0, max_size=4).flatmap(
    lambda turns: USER.map(lambda last: [message for turn in turns for message in turn] + [last])
)


@st.composite
def _tools(draw: st.DrawFn) -> Body:
    """Tools, and what goes with them."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    tools = [draw(_tool(name)) for name in names]
    one = {"type": "function", "function": {"name": names[0]}}
    several = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [one]}}
    return draw(
        st.fixed_dictionaries(
            {"tools": st.just(tools)},
            optional={
                "tool_choice": st.sampled_from(["auto", "none", "required", one, several]),
                "parallel_tool_calls": st.booleans(),
            },
        )
    )


def _tool(name: str) -> st.SearchStrategy[Body]:
    function = st.one_of(
        st.fixed_dictionaries(
            {"name": st.just(name)},
            optional={"description": st.just(TEXT), "parameters": st.sampled_from(SCHEMAS), "strict": st.just(False)},
        ),
        st.just({"name": name, "parameters": SCHEMAS[0], "strict": True}),
    )
    return function.map(lambda one: {"type": "function", "function": one})


FORMATS = st.one_of(
    st.sampled_from([{"type": "text"}, {"type": "json_object"}]),
    st.fixed_dictionaries(
        {"name": st.just("answer_form"), "schema": st.sampled_from(SCHEMAS)}, optional={"strict": st.just(False)}
    ).map(lambda schema: {"type": "json_schema", "json_schema": schema}),
    st.just({"type": "json_schema", "json_schema": {"name": "answer_form", "schema": SCHEMAS[0], "strict": True}}),
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.sampled_from([0, 0.31, 1, 1.71]),
    "top_p": st.sampled_from([0.0, 0.32, 1]),
    "n": st.sampled_from([1, 2]),
    "stop": st.one_of(st.just(TEXT), st.lists(st.just(TEXT), min_size=1, max_size=4)),
    "seed": st.sampled_from([0, 4711, -5, 2**40 + 1]),
    "presence_penalty": st.sampled_from([-1.33, 0, 1.33, 2]),
    "frequency_penalty": st.sampled_from([-1.34, 0, 1.34, 2]),
    "logit_bias": st.just({"17": 5}),
    "logprobs": st.booleans(),
    "max_tokens": st.just(351),
    "max_completion_tokens": st.just(352),
    "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
    "user": st.just("user-1"),
    "response_format": FORMATS,
    "stream": st.booleans(),
    "top_k": st.just(353),
    "min_p": st.just(0.354),
    "typical_p": st.just(0.355),
    "repetition_penalty": st.just(1.356),
    "metadata": st.just({"topic": "demo"}),
    "store": st.booleans(),
    "service_tier": st.just("flex"),
    "verbosity": st.just("low"),
    "prompt_cache_key": st.just("cache-1"),
    "prediction": st.just({"type": "content", "content": "It is"}),
    "field_of_tomorrow": st.just({"a": [1, 2]}),
}


@st.composite
def chat_requests(draw: st.DrawFn) -> Body:
    """A request with any of the API's fields."""
    body: Body = {"model": "m1", "messages": draw(MESSAGES)}
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), unique=True, max_size=6))
    body |= {name: draw(FIELDS[name]) for name in names}
    if draw(st.booleans()):
        body |= draw(_tools())
    if "max_tokens" in body:
        body.pop("max_completion_tokens", None)
    if body.get("logprobs"):
        body |= draw(st.sampled_from([{}, {"top_logprobs": 0}, {"top_logprobs": 7}]))
    if body.get("stream"):
        body |= draw(st.sampled_from([{}, {"stream_options": {"include_usage": True}}]))
    return _linked(numbered(body, count(1)))


def numbered(value: Any, numbers: "count[int]") -> Any:
    """The same with a text of its own for each place that wants one."""
    if value is TEXT:
        return f"text-{next(numbers)}-"
    if isinstance(value, dict):
        return {name: numbered(one, numbers) for name, one in value.items()}
    return [numbered(one, numbers) for one in value] if isinstance(value, list) else value


def _linked(body: Body) -> Body:
    """Results that name their calls by place get the ids of these."""
    calls: list[Body] = []
    for message in body["messages"]:
        calls = message.get("tool_calls", calls)
        if message["role"] == "tool":
            message["tool_call_id"] = calls[message["tool_call_id"]]["id"]
    return body
