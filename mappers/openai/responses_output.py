"""The response object and its output items while they are written (platform.openai.com/docs/api-reference/responses and
/responses-streaming, November 2026)."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.neutral import Request, TokenProbability, Usage

from .chat_stream import write_logprobs

Event = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete"]

REPEATED = frozenset(
    "instructions max_output_tokens max_tool_calls metadata parallel_tool_calls prompt_cache_key prompt_cache_options "
    "prompt_cache_retention reasoning safety_identifier service_tier temperature text tool_choice tools top_logprobs "
    "top_p truncation user".split()
)
"""Fields of a request that its response repeats."""


def begun(request: Request) -> dict[str, Any]:
    """A response in progress: what the client asked for, nothing of the answer. It is never stored."""
    given = request.repeats
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": None,
        "tool_choice": "auto",
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
        **given,
        "model": request.model or "",
        "reasoning": {"effort": None, "summary": None, **given.get("reasoning", {})},
        "text": {"format": {"type": "text"}, **given.get("text", {})},
        "tools": [_repeated_tool(tool) for tool in given.get("tools", ())],
    }


def _repeated_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """A function with what the API fills in: strict clients read answers that name both."""
    return {"strict": True, "parameters": None, **tool} if tool.get("type") == "function" else tool


def write_usage(usage: Usage | None) -> dict[str, Any] | None:
    """The usage object, in which every count must be a number; None where the whole counts are unknown."""
    if usage is None or usage.prompt is None or usage.answer is None:
        return None
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached or 0, "cache_write_tokens": usage.cache_written or 0},
        "output_tokens": usage.answer,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": usage.prompt + usage.answer,
    }


@dataclass(frozen=True, slots=True)
class Style:
    """How one kind of text is spelt: its part's type and key, the names of its events, its place in the item."""

    part: str
    key: str
    events: str
    wrapper: str = "content_part"
    place: str = "content"
    index: str = "content_index"

    def written(self, text: str, logprobs: list[TokenProbability]) -> dict[str, Any]:
        """The part as it stands in an item."""
        part: dict[str, Any] = {"type": self.part, self.key: text}
        if self.part == "output_text":
            written = write_logprobs(logprobs)
            part |= {"annotations": [], "logprobs": written["content"] if written else []}
        return part


SAID = Style("output_text", "text", "output_text")
REFUSED = Style("refusal", "refusal", "refusal")
THOUGHT = Style("reasoning_text", "text", "reasoning_text")
SUMMARY = Style(
    "summary_text", "text", "reasoning_summary_text", "reasoning_summary_part", place="summary", index="summary_index"
)


@dataclass(slots=True)
class OpenItem:
    """What is common to items: an id and a place, from the event that adds the item to the one that ends it."""

    prefix: ClassVar[str] = ""

    index: int = field(init=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        self.id = new_id(self.prefix)

    def item(self, status: Status) -> dict[str, Any]:
        """The item as far as it is known."""
        raise NotImplementedError

    def begin(self, index: int) -> Event:
        """The event that adds it to the response's output at this place."""
        self.index = index
        return {"type": "response.output_item.added", "output_index": self.index, "item": self.item("in_progress")}

    def finish(self, status: Status) -> list[Event]:
        """The events that end it; the last one holds the whole item."""
        return [{"type": "response.output_item.done", "output_index": self.index, "item": self.item(status)}]

    def _event(self, name: str, /, **fields: Any) -> Event:
        return {"type": f"response.{name}", "item_id": self.id, "output_index": self.index, **fields}


@dataclass(slots=True)
class TextItem(OpenItem):
    """An item made of parts of text, one after the other."""

    parts: list[tuple[Style, dict[str, Any]]] = field(default_factory=list)
    style: Style | None = None
    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenProbability] = field(default_factory=list)

    def add(self, style: Style, text: str, logprobs: list[TokenProbability] | None = None) -> list[Event]:
        """The events of more text; a text of another style begins another part."""
        events = [] if style is self.style else [*self._end_part(), self._begin_part(style)]
        self.pieces.append(text)
        delta = self._event(f"{style.events}.delta", **self._where(style), delta=text)
        if style is SAID:
            delta["logprobs"] = _event_logprobs(logprobs or ())
            self.logprobs += logprobs or ()
        return [*events, delta]

    def finish(self, status: Status) -> list[Event]:
        """The ends of the last part and of the item."""
        return [*self._end_part(), *OpenItem.finish(self, status)]

    def _where(self, style: Style) -> dict[str, int]:
        return {style.index: len(self.parts)}

    def _begin_part(self, style: Style) -> Event:
        self.style = style
        return self._event(f"{style.wrapper}.added", **self._where(style), part=style.written("", []))

    def _end_part(self) -> list[Event]:
        style = self.style
        if style is None:
            return []
        text = "".join(self.pieces)
        part = style.written(text, self.logprobs)
        whole: dict[str, Any] = {style.key: text}
        if style is SAID:
            whole["logprobs"] = _event_logprobs(self.logprobs)
        events = [
            self._event(f"{style.events}.done", **self._where(style), **whole),
            self._event(f"{style.wrapper}.done", **self._where(style), part=part),
        ]
        self.parts.append((style, part))
        self.style, self.pieces, self.logprobs = None, [], []
        return events

    def _placed(self, place: str) -> list[dict[str, Any]]:
        return [part for style, part in self.parts if style.place == place]


def _event_logprobs(logprobs: Iterable[TokenProbability]) -> list[dict[str, Any]]:
    """The probabilities of tokens as events tell them: unlike those of an item's part without bytes."""
    return [
        {
            "token": token.text,
            "logprob": token.logprob,
            "top_logprobs": [{"token": text, "logprob": logprob} for text, logprob in token.top],
        }
        for token in logprobs
    ]


@dataclass(slots=True)
class MessageItem(TextItem):
    """What the model says, or why it declines."""

    prefix: ClassVar[str] = "msg_"

    def item(self, status: Status) -> dict[str, Any]:
        """The message."""
        content = self._placed("content")
        return {"id": self.id, "type": "message", "status": status, "role": "assistant", "content": content}


@dataclass(slots=True)
class ReasoningItem(TextItem):
    """A thought: a summary for clients that asked for one, else the model's own text."""

    prefix: ClassVar[str] = "rs_"

    state: str | None = None

    def item(self, status: Status) -> dict[str, Any]:
        """The thought, with its opaque state where there is one."""
        item: dict[str, Any] = {"id": self.id, "type": "reasoning", "summary": self._placed("summary")}
        content = self._placed("content")
        if content:
            item["content"] = content
        if self.state:
            item["encrypted_content"] = self.state
        return item


@dataclass(slots=True)
class CallItem(OpenItem):
    """A call of a function."""

    prefix: ClassVar[str] = "fc_"

    call_id: str
    name: str
    pieces: list[str] = field(default_factory=list)

    def add(self, text: str) -> list[Event]:
        """The event of more arguments."""
        self.pieces.append(text)
        return [self._event("function_call_arguments.delta", delta=text)]

    def finish(self, status: Status) -> list[Event]:
        """The ends of the arguments and of the item; a whole call without any arguments has the empty object."""
        events = self.add("{}") if status == "completed" and not any(self.pieces) else []
        done = self._event("function_call_arguments.done", name=self.name, arguments="".join(self.pieces))
        return [*events, done, *OpenItem.finish(self, status)]

    def item(self, status: Status) -> dict[str, Any]:
        """The call."""
        return {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": "".join(self.pieces),
        }
