"""The translation that a mapping entry spells out by the names of its functions: `in`, `out`, `stream`, `prompter`."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest, InternalError, ProxyError, UpstreamBroken
from mooltiproxy.mapping.answers import (
    MEDIA_TYPES,
    STREAMING_MEDIA,
    AnswerTranslator,
    GatheredStream,
    LiveStream,
    Whole,
)
from mooltiproxy.mapping.attachments import NOTHING, Attachment
from mooltiproxy.mapping.bodies import dumps, dumps_event
from mooltiproxy.mapping.chat_template import TemplateNeeded
from mooltiproxy.mapping.dialect import Endpoint, Mapper, Prompter, StreamMapper, StreamReader
from mooltiproxy.mapping.framing import DONE, KEEPALIVE_SSE, Decoder, encode_sse
from mooltiproxy.mapping.neutral import NOWHERE, Asked, Framing, Request, StreamEvent
from mooltiproxy.mapping.settings import Edit
from mooltiproxy.mapping.translate import Translated, framed_whole, replay

log = logging.getLogger("mooltiproxy.mapping")


@dataclass(frozen=True, slots=True)
class Functions:
    """The functions that one mapping entry names, and what they are told."""

    entry: Mapping[str, Any]
    request: Mapper | None = None
    answer: Mapper | None = None
    stream: StreamMapper | None = None
    prompter: Prompter | None = None
    description: str = ""


class FunctionTranslation:
    """A mapping entry that names its functions: `in`, `out`, `stream`.

    `client` is the endpoint of the client's dialect at this path, where the path is one of a dialect's: it frames
    answers as streams where there is no stream mapper, and gathers streams that nobody asked for.
    """

    bodiless = False

    def __init__(self, functions: Functions, client: Endpoint | None) -> None:
        self.functions = functions
        self.client = client
        self.description = functions.description

    def request(
        self, body: Any, asked: Asked, fetched: Mapping[str, Attachment] = NOTHING, edit: Edit | None = None
    ) -> Translated:
        """Translate one request, whose body has been edited already; raises ProxyError, InternalError for a function
        that fails."""
        functions = self.functions
        config: dict[str, Any] = {**functions.entry, "request": body, "dropped": [], "notes": {}}
        if functions.prompter:
            config["render"] = renderer(functions.prompter, dict(config))  # a copy: or they would hold each other
        streaming = isinstance(body, dict) and body.get("stream") is True
        mapped = called("request mapper", functions.request, body, config) if functions.request else body
        whole = functions.answer and not functions.stream
        if streaming and whole and isinstance(mapped, dict) and mapped.get("stream"):
            mapped = {**mapped, "stream": False}
        config["mapped"] = mapped
        framing: Framing = self.client.framing if self.client else "sse"
        stream_paths: Mapping[str, str] = getattr(functions.stream, "stream_paths", {})
        return Translated(
            body=dumps(mapped),
            answer=lambda media_type, fields: self._answer(body, {**config, "headers": fields}, streaming, media_type),
            streaming=streaming,
            path=stream_paths.get(str(functions.entry["path"])) if streaming else None,
            media_type=MEDIA_TYPES[framing if streaming else "json"],
            keepalive=self._keepalive() if streaming else b"",
            fail=lambda event: framed_whole(framing, [event]),
            dropped=tuple(config["dropped"]),
        )

    def _keepalive(self) -> bytes:
        if not (self.functions.answer or self.functions.stream):
            return b""  # the answer passes untouched: nothing may be put between its bytes
        return self.client.keepalive if self.client else KEEPALIVE_SSE

    def _answer(self, body: Any, config: dict[str, Any], streaming: bool, media_type: str) -> AnswerTranslator | None:
        decoder = STREAMING_MEDIA.get(media_type)
        if decoder is None:
            return self._whole(body, config, streaming)
        if self.functions.stream is None:
            if self.functions.answer is None:
                return None
            raise UpstreamBroken("the target answered with a stream, and the mapping has no stream mapper")
        events = _FunctionEvents(self.functions.stream, config)
        if streaming:
            return LiveStream(decoder(), events, self.client.framing if self.client else "sse")
        return self._gathered(body, decoder(), events)

    def _whole(self, body: Any, config: dict[str, Any], streaming: bool) -> AnswerTranslator | None:
        mapper = self.functions.answer
        if mapper is None:
            return None
        if not streaming:
            return Whole(MEDIA_TYPES["json"], lambda whole: dumps(called("answer mapper", mapper, whole, config)))
        media_type = MEDIA_TYPES[self.client.framing if self.client else "sse"]
        return Whole(media_type, lambda whole: self._replayed(body, called("answer mapper", mapper, whole, config)))

    def _gathered(self, body: Any, decoder: Decoder, events: "_FunctionEvents") -> AnswerTranslator:
        if self.client is None or self.client.stream_reader is None:
            raise UpstreamBroken("the target answered with a stream that was not asked for")
        client, request = self.client, _client_request(self.client, body)
        return GatheredStream(
            decoder,
            _ReadBack(events, self.client.stream_reader(request)),
            lambda answer: orjson.dumps(client.write_answer(answer, request)),
        )

    def _replayed(self, body: Any, whole: Any) -> bytes:
        if self.client is None:
            return dumps_event(whole) + encode_sse(DONE)
        request = _client_request(self.client, body)
        try:
            answer = self.client.read_answer(whole, request)
        except UpstreamBroken as error:
            raise InternalError("the proxy's answer mapper returned what is no answer of this API") from error
        return replay(self.client, request, answer)


def _client_request(client: Endpoint, body: Any) -> Request:
    """What the answer needs to know of a request; a mapper may well have taken more than the dialect can read."""
    try:
        request = client.read_request(body, NOWHERE)
        return request if isinstance(request, Request) else Request(stream=True)
    except BadRequest:
        model = body.get("model") if isinstance(body, dict) else None
        return Request(model=model if isinstance(model, str) else None, stream=True)


def renderer(prompter: Prompter, config: Mapping[str, Any]) -> Callable[..., tuple[str, list[str]]]:
    """The `render` of a mapping's `cfg`: messages in, prompt and stop strings out; raises as `called` does.

    What else is said of the request, by name (`tools`, `documents`, `variables`), the prompter finds in its `cfg`.
    """

    def render(messages: Any, **said: Any) -> tuple[str, list[str]]:
        rendered = called("prompter", prompter, messages, {**config, **said} if said else config)
        if (
            isinstance(rendered, tuple)
            and len(rendered) == 2
            and isinstance(rendered[0], str)
            and isinstance(rendered[1], list)
        ):
            return rendered[0], rendered[1]
        raise InternalError("the proxy's prompter did not return a prompt and a list of stop strings")

    return render


def called(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a mapper or prompter; its own failure becomes an InternalError, its traceback goes to the log."""
    try:
        return function(*arguments)
    except (ProxyError, TemplateNeeded):
        raise
    except Exception as error:
        raise _failed(what, function) from error


def _failed(what: str, function: Callable[..., Any]) -> InternalError:
    """Log the exception that is being handled, with its traceback, and give the error that the client may read."""
    name = getattr(function, "__name__", type(function).__name__)
    log.exception("the %s %s failed", what, name)
    return InternalError(f"the proxy's {what} {name} failed on this request")


class _FunctionEvents:
    """A stream mapper with the state of one stream."""

    def __init__(self, function: StreamMapper, config: dict[str, Any]) -> None:
        self._function = function
        self._config = config
        self._state: dict[str, Any] = {}

    @property
    def done(self) -> bool:
        return bool(self._state.get("done"))

    def read(self, event: Any) -> list[Any]:
        try:
            # A generator runs only while it is listed: its failures belong here too.
            return list(self._function(event, self._config, self._state) or ())
        except ProxyError:
            raise
        except Exception as error:
            raise _failed("stream mapper", self._function) from error

    def end(self) -> list[Any]:
        return self.read(None)

    def fail(self, event: Any) -> list[Any]:
        return [event]


class _ReadBack:
    """A stream mapper's events, read as the client's dialect: for a client that asked for no stream."""

    def __init__(self, events: _FunctionEvents, reader: StreamReader) -> None:
        self._events = events
        self._reader = reader

    @property
    def done(self) -> bool:
        return self._events.done

    def read(self, event: Any) -> list[StreamEvent]:
        return [neutral for mapped in self._events.read(event) for neutral in self._reader.read(mapped)]

    def end(self) -> list[StreamEvent]:
        mapped = self._events.end()
        return [*(neutral for event in mapped for neutral in self._reader.read(event)), *self._reader.end()]
