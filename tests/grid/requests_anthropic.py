"""Random requests that Anthropic's Messages API would take, in which every text and number is another."""

from itertools import count
from typing import Any

from hypothesis import strategies as st

from .conversation import PNG
from .requests_openai import NAMES, SCHEMAS, TEXT, Body, numbered

CACHE = st.just({"type": "ephemeral"})
TEXTS = st.fixed_dictionaries({"type": st.just("text"), "text": st.just(TEXT)}, optional={"cache_control": CACHE})
IMAGES = st.just({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}})
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
NOTE = {"type": "text", "media_type": "text/plain", "data": TEXT}
DOCUMENTS = st.fixed_dictionaries(
    {"type": st.just("document"), "source": st.sampled_from([PDF, NOTE])}, optional={"title": st.just("a title")}
)
SAID = st.one_of(st.just(TEXT), st.lists(TEXTS, min_size=1, max_size=2))
ASKED = st.lists(st.one_of(TEXTS, TEXTS, IMAGES, DOCUMENTS), min_size=1, max_size=3)
THOUGHTS = st.sampled_from(
    [
        {"type": "thinking", "thinking": TEXT, "signature": "c2lnbmF0dXJl"},
        {"type": "redacted_thinking", "data": "c2VjcmV0"},
    ]
)
INPUTS = st.sampled_from([{"city": "Paris"}, {"city": "Rome", "days": [1, 2.5]}, {}])
RETURNED = st.one_of(st.just(TEXT), st.lists(st.one_of(TEXTS, IMAGES), min_size=1, max_size=2))
RESULTS = st.fixed_dictionaries(
    {"type": st.just("tool_result")},
    optional={"content": RETURNED, "is_error": st.booleans(), "cache_control": CACHE},
)


@st.composite
def _exchange(draw: st.DrawFn) -> list[Body]:
    """A question, an answer with or without calls, and what they returned at the beginning of the next question."""
    thoughts = draw(st.lists(THOUGHTS, max_size=2))
    said = draw(st.lists(TEXTS, max_size=2))
    calls = [
        {"type": "tool_use", "id": TEXT, "name": draw(st.sampled_from(NAMES)), "input": draw(INPUTS)}
        for _ in range(draw(st.integers(0, 2)))
    ]
    if not said and not calls:
        return [{"role": "user", "content": draw(st.one_of(SAID, ASKED))}]
    asked = {"role": "user", "content": draw(st.one_of(SAID, ASKED))}
    answer = {"role": "assistant", "content": [*thoughts, *said, *calls]}
    order = draw(st.permutations(range(len(calls))))
    results = [{**draw(RESULTS), "tool_use_id": at} for at in order]
    next_asked = draw(st.lists(TEXTS, max_size=1)) if results else draw(ASKED)
    return [asked, answer, {"role": "user", "content": [*results, *next_asked]}]


@st.composite
def _tools(draw: st.DrawFn) -> Body:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    optional = {"description": st.just(TEXT), "strict": st.just(False), "cache_control": CACHE}
    schemas = st.sampled_from(SCHEMAS)
    tools: list[Body] = [
        draw(st.fixed_dictionaries({"name": st.just(name), "input_schema": schemas}, optional=optional))
        for name in names
    ]
    if draw(st.booleans()):
        tools.append({"type": "web_search_20250305", "name": "web_search", "max_uses": 3})
    choices = st.sampled_from(
        [
            {"type": "auto"},
            {"type": "auto", "disable_parallel_tool_use": True},
            {"type": "any", "disable_parallel_tool_use": False},
            {"type": "tool", "name": names[0]},
            {"type": "none"},
        ]
    )
    return draw(st.fixed_dictionaries({"tools": st.just(tools)}, optional={"tool_choice": choices}))


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "system": SAID,
    "temperature": st.sampled_from([0, 0.31, 1]),
    "top_p": st.sampled_from([0.32, 1]),
    "top_k": st.just(353),
    "stop_sequences": st.lists(st.just(TEXT), min_size=1, max_size=4),
    "stream": st.booleans(),
    "thinking": st.sampled_from(
        [
            {"type": "enabled", "budget_tokens": 1025},
            {"type": "enabled", "budget_tokens": 4097, "display": "omitted"},
            {"type": "adaptive", "display": "summarized"},
            {"type": "adaptive"},
            {"type": "disabled"},
        ]
    ),
    "output_config": st.fixed_dictionaries(
        {},
        optional={
            "effort": st.sampled_from(["low", "medium", "high", "max"]),
            "format": st.just({"type": "json_schema", "schema": SCHEMAS[0]}),
        },
    ),
    "metadata": st.just({"user_id": "user-1"}),
    "service_tier": st.just("standard_only"),
    "cache_control": CACHE,
    "container": st.just("container-1"),
    "context_management": st.just({"edits": [{"type": "clear_tool_uses_20250919"}]}),
    "field_of_tomorrow": st.just({"a": [1, 2]}),
}


@st.composite
def message_requests(draw: st.DrawFn) -> Body:
    """A request with any of the API's fields."""
    messages = [message for part in draw(st.lists(_exchange(), min_size=1, max_size=2)) for message in part]
    body: Body = {"model": "m1", "max_tokens": 8351, "messages": messages}
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), unique=True, max_size=5))
    body |= {name: draw(FIELDS[name]) for name in names}
    if draw(st.booleans()) or any(_calls(message) for message in messages):
        body |= draw(_tools())
    return _linked(numbered(body, count(1)))


def _calls(message: Body) -> list[Body]:
    content = message["content"]
    return [block for block in content if block["type"] == "tool_use"] if isinstance(content, list) else []


def _linked(body: Body) -> Body:
    """Results that name their calls by place get the ids of these."""
    calls: list[Body] = []
    for message in body["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] == "tool_result":
                block["tool_use_id"] = calls[block["tool_use_id"]]["id"]
        calls = _calls(message)
    return body
