"""`POST /v1/completions` (platform.openai.com/docs/api-reference/completions), legacy but alive on local servers."""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.forms import Form
from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.neutral import (
    NOWHERE,
    Answer,
    Asked,
    Choice,
    Finish,
    FinishReason,
    Request,
    StreamEvent,
    Text,
    TextDelta,
    TokenProbability,
)
from mooltiproxy.mapping.stops import StopCutter, cut_at_stop

from .common import (
    PLACES,
    USAGE_FLAG,
    head,
    read_choices,
    read_finish,
    read_sampling,
    read_stream,
    read_whole,
    stop_string_of,
    told_stop,
    unsent_stops,
    write_model,
    write_sampling,
    write_stream,
    write_whole,
)
from .rendering import rendered, strips
from .stream import ChoiceEvent, ChunkReader, ChunkWriter

DEFAULT_MAX_TOKENS = 16
"""What the API promises to a request that sets no limit."""

ROOM = 1024
"""The limit asked of a target when the client has none: left out, the target would cut the answer at 16 tokens."""


def read_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The neutral form of a client's request; raises BadRequest that names the field at fault."""
    fields = Fields(body)
    request = Request(model=fields.text("model"), prompt=_read_prompt(fields), suffix=fields.text("suffix"))
    request.echo = fields.flag("echo") or False
    sampling = request.sampling = read_sampling(fields)
    sampling.best_of = fields.integer("best_of", 0, 20)
    limit = fields.integer("max_tokens", 0)
    sampling.max_tokens = DEFAULT_MAX_TOKENS if limit is None else limit
    request.assumed = frozenset(["max_tokens"] if limit is None else [])
    sampling.top_logprobs = fields.integer("logprobs", 0)
    sampling.logprobs = True if sampling.top_logprobs is not None else None
    read_stream(fields, request)
    request.extra.update(fields.leftovers())
    return request


def _read_prompt(fields: Fields) -> str:
    prompt = fields.any("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and all(isinstance(one, str) for one in prompt):
        raise fields.wrong("prompt", "one string: several prompts in one request cannot be translated")
    raise fields.wrong("prompt", "a string: token ids cannot be translated to another model's tokenizer")


def write_request(request: Request, config: Config) -> Written:
    """A request for an OpenAI-speaking target, built field by field; raises BadRequest for what it cannot be asked."""
    dropped = sorted(request.extra)
    body: dict[str, Any] = write_model(request.model, config)
    body["prompt"] = write_prompt(request, config, dropped)
    body.update(write_sampling(request, config, dropped))
    body.update(_write_own(request))
    if request.output:
        raise BadRequest("this target's text completions cannot be held to a format", param="response_format")
    if request.spoken is not None:
        body["skip_special_tokens"] = False  # the marks of calls and thoughts are such tokens in many models
    body.update(write_stream(request))
    return Written(body, tuple(dropped))


def write_prompt(request: Request, config: Config, dropped: list[str]) -> str:
    """The client's prompt, or a conversation as one where the file names a template; raises BadRequest."""
    if request.prompt is not None:
        return request.prompt
    if not config.get("renders_chats"):
        message = "this endpoint of the target takes a prompt, not messages: `template:` in the file makes one of them"
        raise BadRequest(message, param="messages")
    prompt = rendered(request, config, dropped)
    if request.spoken is None:
        if request.tools and not (request.tool_choice and request.tool_choice.mode == "none"):
            raise BadRequest("tools: this target's text completions know no tools", param="tools")
        dropped += ["tools"] if request.tools else []
    return prompt


def _write_own(request: Request) -> dict[str, Any]:
    sampling = request.sampling
    body: dict[str, Any] = {"max_tokens": ROOM if sampling.max_tokens is None else sampling.max_tokens}
    optional = {
        "suffix": request.suffix,
        "best_of": sampling.best_of,
        "logprobs": (sampling.top_logprobs or 0) if sampling.logprobs else None,
        "echo": request.echo or None,
        "user": request.user,
    }
    return {**body, **{name: value for name, value in optional.items() if value is not None}}


def read_answer(body: Any, request: Request) -> Answer:
    """A target's whole answer; raises UpstreamBroken where it is none, or is an error with status 200."""
    choices = [_read_choice(choice, request) for choice in read_choices(body)]
    return read_whole(body, choices)


def _read_choice(choice: Mapping[str, Any], request: Request) -> Choice:
    raw = choice.get("text")
    text = raw if isinstance(raw, str) else ""
    text, stop = cut_at_stop(text.lstrip() if strips(request) else text, unsent_stops(request))
    reason = _reason(read_finish(choice.get("finish_reason")) or "stop")
    stop_string = told_stop(request, stop or stop_string_of(choice))
    return Choice([Text(text)], "stop" if stop else reason, stop_string, read_logprobs(choice.get("logprobs")))


def _reason(reason: FinishReason) -> FinishReason:
    """There are no calls here, whatever a server says."""
    return "stop" if reason == "tool_calls" else reason


def read_logprobs(value: Any) -> list[TokenProbability] | None:
    """The probabilities of an answer's tokens, None where there are none."""
    tokens = value.get("tokens") if isinstance(value, dict) else None
    if not isinstance(tokens, list) or not tokens:
        return None
    own, top = value.get("token_logprobs") or [], value.get("top_logprobs") or []
    return [
        TokenProbability(
            str(token),
            float(own[at] or 0.0) if at < len(own) else 0.0,
            tuple(top[at].items()) if at < len(top) and isinstance(top[at], dict) else (),
        )
        for at, token in enumerate(tokens)
    ]


def write_logprobs(logprobs: list[TokenProbability] | None, offset: int = 0) -> dict[str, Any] | None:
    """The `logprobs` of a choice whose first token lies `offset` characters behind the answer's beginning."""
    if logprobs is None:
        return None
    offsets = []
    for token in logprobs:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [token.text for token in logprobs],
        "token_logprobs": [token.logprob for token in logprobs],
        "top_logprobs": [dict(token.top) for token in logprobs],
        "text_offset": offsets,
    }


def write_answer(answer: Answer, request: Request) -> dict[str, Any]:
    """A whole answer for a client."""
    choices = [_write_choice(index, choice) for index, choice in enumerate(answer.choices)]
    return write_whole(answer, request, head(request, new_id("cmpl-"), "text_completion"), choices)


def _write_choice(index: int, choice: Choice) -> dict[str, Any]:
    text = "".join(part.text for part in choice.parts if isinstance(part, Text))
    return _choice_of(index, text, write_logprobs(choice.logprobs), _reason(choice.finish))


class TextReader(ChunkReader):
    """Reads a target's chunks; texts may be null and finish reasons empty."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._request = request
        self._strips = strips(request)
        self._begun: set[int] = set()

    @property
    def verbatim(self) -> bool:
        """Whether every answer has begun, and no stop string has."""
        return super().verbatim and (not self._strips or len(self._begun) == self._expected)

    def _choice(self, index: int, cutter: StopCutter, choice: Mapping[str, Any]) -> list[StreamEvent]:
        raw = choice.get("text")
        text = raw if isinstance(raw, str) else ""
        if self._strips and index not in self._begun:
            text = text.lstrip()
            self._begun.update([index] if text else [])
        text = cutter.feed(text)
        logprobs = read_logprobs(choice.get("logprobs"))
        reason = read_finish(choice.get("finish_reason"))
        if reason and cutter.found is None:
            text += cutter.flush()
        events: list[StreamEvent] = [TextDelta(text, index, logprobs)] if text or logprobs else []
        if cutter.found is not None:
            events.append(Finish("stop", told_stop(self._request, cutter.found), index))
        elif reason:
            stop = told_stop(self._request, stop_string_of(choice))
            events.append(Finish(_reason(reason), stop, index))
        return events


class TextWriter(ChunkWriter):
    """Writes a client's chunks; what is no text is left out."""

    def __init__(self, request: Request) -> None:
        super().__init__(request, "cmpl-", "text_completion")
        self._written: dict[int, int] = {}

    @property
    def verbatim(self) -> bool:
        """Whether nobody will want to know at which character a token lies."""
        return not self._request.sampling.logprobs

    def _event(self, event: ChoiceEvent) -> list[dict[str, Any]]:
        if isinstance(event, Finish):
            return [_choice_of(event.index, "", None, _reason(event.reason))]
        if not isinstance(event, TextDelta) or not (event.text or event.logprobs):
            return []
        offset = self._written.get(event.index, 0)
        self._written[event.index] = offset + len(event.text)
        return [_choice_of(event.index, event.text, write_logprobs(event.logprobs, offset), None)]


def _choice_of(index: int, text: str, logprobs: dict[str, Any] | None, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}


endpoint = Endpoint(
    kind="text",
    name="completions",
    paths=("/v1/completions", "/completions"),
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=TextReader,
    stream_writer=TextWriter,
    takes_formats=False,
    form=Form(places={**PLACES, "logprobs": ("logprobs",), "top_logprobs": ("logprobs",)}, own="", usage=USAGE_FLAG),
)
