"""Translations: what happens to one endpoint's requests and answers, given by function names or by a pair of dialects.

A `Translation` is made once, at load. `request()` translates one body and returns a `Translated`, which knows how this
request's answer is to be read: `answer()` gives the translator for what the target sends.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from mooltiproxy.errors import BadRequest, InternalError, ProxyError, UpstreamBroken
from mooltiproxy.mapping.dialect import Dialect, Endpoint, Mapper, Prompter, StreamMapper
from mooltiproxy.mapping.framing import (
    DONE,
    Decoder,
    NDJSONDecoder,
    SSEDecoder,
    encode_ndjson,
    encode_sse,
    parse_event,
)
from mooltiproxy.mapping.neutral import (
    Answer,
    CallArguments,
    CallStart,
    Choice,
    Failure,
    Finish,
    FinishReason,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    Request,
    StreamEvent,
    Text,
    TextDelta,
    ToolCall,
    Usage,
    UsageReport,
)

log = logging.getLogger("mooltiproxy.mapping")

MEDIA_TYPES = {"sse": "text/event-stream; charset=utf-8", "ndjson": "application/x-ndjson", "json": "application/json"}
STREAMING_MEDIA = {"text/event-stream": SSEDecoder, "application/x-ndjson": NDJSONDecoder}


class AnswerTranslator(Protocol):
    """Turns the bytes of one answer into the client's bytes; every call may raise a ProxyError.

    `live` translators give bytes as they come; the others give everything at `end()`, so that until then an error can
    still be answered with its own status.
    """

    media_type: str
    live: bool

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for these bytes of the target."""

    def end(self) -> bytes:
        """What is left when the target has ended cleanly."""


@dataclass(frozen=True, slots=True)
class Translated:
    """One translated request. `stream_path` replaces the entry's path where the target streams elsewhere."""

    body: bytes
    answer: Callable[[str], AnswerTranslator | None]
    streaming: bool = False
    stream_path: str | None = None
    dropped: tuple[str, ...] = ()


class Translation(Protocol):
    """The translations of one endpoint."""

    description: str

    def request(self, body: Any) -> Translated:
        """Translate one parsed request body; raises ProxyError (BadRequest for what the target cannot be asked)."""


def stream_of(answer: Answer) -> list[StreamEvent]:
    """A whole answer as the events of a stream: for a target that answers whole what was asked for as a stream."""
    events: list[StreamEvent] = []
    for index, choice in enumerate(answer.choices):
        calls = 0
        for part in choice.parts:
            if isinstance(part, Text | Refusal):
                events.append(TextDelta(part.text, index))
            elif isinstance(part, Reasoning):
                events.append(ReasoningDelta(part.text, part.signature, index))
            elif isinstance(part, ToolCall):
                events += [CallStart(calls, part.id, part.name, index), CallArguments(calls, part.arguments, index)]
                calls += 1
        events.append(Finish(choice.finish, choice.stop_string, index))
    if answer.usage:
        events.append(UsageReport(answer.usage))
    return events


class _Gathered:
    """The parts of one choice while a stream is gathered."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.signature: str | None = None
        self.calls: dict[int, ToolCall] = {}
        self.finish: FinishReason | None = None
        self.stop_string: str | None = None

    def choice(self) -> Choice:
        parts: list[Part] = []
        if self.reasoning or self.signature:
            parts.append(Reasoning("".join(self.reasoning), self.signature))
        if self.text:
            parts.append(Text("".join(self.text)))
        parts += [self.calls[number] for number in sorted(self.calls)]
        if self.finish is None:
            raise UpstreamBroken("the target's stream ended before its answer was complete")
        return Choice(parts, self.finish, self.stop_string)


def answer_of(events: list[StreamEvent]) -> Answer:
    """A whole answer from a stream's events; raises UpstreamBroken when the stream failed or is unfinished."""
    choices: dict[int, _Gathered] = {}
    usage: Usage | None = None
    for event in events:
        if isinstance(event, UsageReport):
            usage = event.usage
            continue
        if isinstance(event, Failure):
            raise failure_error(event)
        choice = choices.setdefault(event.index, _Gathered())
        if isinstance(event, TextDelta):
            choice.text.append(event.text)
        elif isinstance(event, ReasoningDelta):
            choice.reasoning.append(event.text)
            choice.signature = event.signature or choice.signature
        elif isinstance(event, CallStart):
            choice.calls[event.call] = ToolCall(event.id, event.name, "")
        elif isinstance(event, CallArguments):
            choice.calls[event.call].arguments += event.text
        else:
            choice.finish, choice.stop_string = event.reason, event.stop_string
    if not choices:
        raise UpstreamBroken("the target's stream ended before its answer was complete")
    return Answer([choices[index].choice() for index in sorted(choices)], usage)


def failure_error(failure: Failure) -> UpstreamBroken:
    """The error that a failed stream ends with."""
    return UpstreamBroken(failure.message, code=failure.code, status=failure.status)


def _loads(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UpstreamBroken("the target's answer is not JSON") from error


class _Whole:
    """Gathers a whole JSON body, then hands it to `finish`."""

    live = False

    def __init__(self, media_type: str, finish: Callable[[Any], bytes]) -> None:
        self.media_type = media_type
        self._finish = finish
        self._data = bytearray()

    def feed(self, data: bytes) -> bytes:
        self._data += data
        return b""

    def end(self) -> bytes:
        return self._finish(_loads(bytes(self._data)))


class _GatheredStream:
    """Reads a stream to its end and answers whole: for a client that asked for no stream."""

    live = False
    media_type = MEDIA_TYPES["json"]

    def __init__(self, decoder: Decoder, events: "_Events", finish: Callable[[Answer], bytes]) -> None:
        self._decoder = decoder
        self._events = events
        self._finish = finish
        self._seen: list[StreamEvent] = []

    def feed(self, data: bytes) -> bytes:
        for event in self._decoder.feed(data):
            self._seen += self._events.read(parse_event(event))
        return b""

    def end(self) -> bytes:
        for event in self._decoder.end():
            self._seen += self._events.read(parse_event(event))
        self._seen += self._events.end()
        return self._finish(answer_of(self._seen))


class _Events(Protocol):
    def read(self, event: Any) -> list[StreamEvent]: ...

    def end(self) -> list[StreamEvent]: ...


class DialectTranslation:
    """A client's endpoint in front of a target's endpoint of another dialect."""

    def __init__(self, client: Endpoint, target: Endpoint, config: Mapping[str, Any], description: str) -> None:
        self.client = client
        self.target = target
        self.config = config
        self.description = description

    def request(self, body: Any) -> Translated:
        """Translate one request; raises BadRequest where the target cannot express what it asks."""
        request = self.client.read_request(body)
        written = self.target.write_request(request, self.config)
        return Translated(
            body=orjson.dumps(written.body),
            answer=lambda media_type: self._answer(request, media_type),
            streaming=request.stream,
            stream_path=self.target.stream_path if request.stream else None,
            dropped=written.dropped,
        )

    def _answer(self, request: Request, media_type: str) -> AnswerTranslator:
        decoder = STREAMING_MEDIA.get(media_type)
        if decoder is None:
            if request.stream:
                return _Whole(MEDIA_TYPES[self.client.framing], lambda body: self._replayed(request, body))
            return _Whole(MEDIA_TYPES["json"], lambda body: self._written(request, self.target.read_answer(body, request)))
        reader = self.target.stream_reader(request)
        if request.stream:
            return _DialectStream(decoder(), reader, self.client, request)
        return _GatheredStream(decoder(), reader, lambda answer: self._written(request, answer))

    def _written(self, request: Request, answer: Answer) -> bytes:
        return orjson.dumps(self.client.write_answer(answer, request))

    def _replayed(self, request: Request, body: Any) -> bytes:
        return replay(self.client, request, self.target.read_answer(body, request))


def replay(client: Endpoint, request: Request, answer: Answer) -> bytes:
    """A whole answer as one complete, correctly framed stream."""
    writer = client.stream_writer(request)
    encode = encoder(client)
    return b"".join(map(encode, [*writer.write(stream_of(answer)), *writer.end()]))


def encoder(endpoint: Endpoint) -> Callable[[Any], bytes]:
    """The function that frames one event for this endpoint's clients."""
    return encode_ndjson if endpoint.framing == "ndjson" else encode_sse


class _DialectStream:
    """A live stream between two dialects: each read of the target becomes at most one write to the client."""

    live = True

    def __init__(self, decoder: Decoder, reader: _Events, client: Endpoint, request: Request) -> None:
        self.media_type = MEDIA_TYPES[client.framing]
        self._decoder = decoder
        self._reader = reader
        self._writer = client.stream_writer(request)
        self._encode = encoder(client)

    def feed(self, data: bytes) -> bytes:
        return self._written([neutral for event in self._decoder.feed(data) for neutral in self._reader.read(parse_event(event))])

    def end(self) -> bytes:
        events = [neutral for event in self._decoder.end() for neutral in self._reader.read(parse_event(event))]
        written = self._written([*events, *self._reader.end()])
        return written + b"".join(map(self._encode, self._writer.end()))

    def _written(self, events: list[StreamEvent]) -> bytes:
        for event in events:
            if isinstance(event, Failure):
                raise failure_error(event)
        return b"".join(map(self._encode, self._writer.write(events)))


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

    `client` is the endpoint of the client's dialect at this path, where the path is one of a dialect's: it frames answers
    as streams where there is no stream mapper, and gathers streams that nobody asked for.
    """

    def __init__(self, functions: Functions, client: Endpoint | None) -> None:
        self.functions = functions
        self.client = client
        self.description = functions.description

    def request(self, body: Any) -> Translated:
        """Translate one request; raises ProxyError, InternalError for a function that fails."""
        functions = self.functions
        config: dict[str, Any] = {**functions.entry, "request": body, "dropped": []}
        if functions.prompter:
            prompter = functions.prompter
            config["render"] = lambda messages: called("prompter", prompter, messages, config)
        streaming = isinstance(body, dict) and body.get("stream") is True
        mapped = called("request mapper", functions.request, body, config) if functions.request else body
        if streaming and functions.answer and not functions.stream and isinstance(mapped, dict) and mapped.get("stream"):
            mapped = {**mapped, "stream": False}
        config["mapped"] = mapped
        stream_paths: Mapping[str, str] = getattr(functions.stream, "stream_paths", {})
        return Translated(
            body=dumps(mapped),
            answer=lambda media_type: self._answer(body, config, streaming, media_type),
            streaming=streaming,
            stream_path=stream_paths.get(str(functions.entry["path"])) if streaming else None,
            dropped=tuple(config["dropped"]),
        )

    def _answer(self, body: Any, config: dict[str, Any], streaming: bool, media_type: str) -> AnswerTranslator | None:
        functions = self.functions
        decoder = STREAMING_MEDIA.get(media_type)
        if decoder is None:
            answer = functions.answer
            if answer is None:
                return None
            if streaming:
                return _Whole(MEDIA_TYPES["sse"], lambda whole: self._replayed(body, called("answer mapper", answer, whole, config)))
            return _Whole(MEDIA_TYPES["json"], lambda whole: dumps(called("answer mapper", answer, whole, config)))
        if functions.stream is None:
            if functions.answer is None:
                return None
            raise UpstreamBroken("the target answered with a stream, and the mapping has no stream mapper")
        stream = _FunctionEvents(functions.stream, config)
        if streaming:
            return _FunctionStream(decoder(), stream, encoder(self.client) if self.client else encode_sse)
        if self.client is None:
            raise UpstreamBroken("the target answered with a stream that was not asked for")
        client, request = self.client, self.client.read_request(body)
        return _GatheredStream(
            decoder(),
            _ReadBack(stream, client, request),
            lambda answer: orjson.dumps(client.write_answer(answer, request)),
        )

    def _replayed(self, body: Any, whole: Any) -> bytes:
        if self.client is None:
            return encode_sse(whole) + encode_sse(DONE)
        request = self.client.read_request(body)
        return replay(self.client, request, self.client.read_answer(whole, request))


def called(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a mapper or prompter; its own failure becomes an InternalError, its traceback goes to the log."""
    try:
        return function(*arguments)
    except ProxyError:
        raise
    except Exception as error:  # noqa: BLE001 - a user's function may raise anything
        name = getattr(function, "__name__", repr(function))
        log.exception("the %s %s failed", what, name)
        raise InternalError(f"the proxy's {what} {name} failed on this request") from error


def dumps(body: Any) -> bytes:
    """A mapped body as JSON; raises InternalError where a function returned what JSON cannot say."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise InternalError("a mapper of the proxy returned what JSON cannot say") from error


def loads_request(data: bytes) -> Any:
    """A client's JSON body; raises BadRequest that says where it breaks off."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error.msg} at line {error.lineno} column {error.colno}") from error


class _FunctionEvents:
    """A stream mapper with the state of one stream."""

    def __init__(self, function: StreamMapper, config: dict[str, Any]) -> None:
        self._function = function
        self._config = config
        self._state: dict[str, Any] = {}

    def read(self, event: Any) -> list[Any]:
        return called("stream mapper", self._read, event)  # type: ignore[no-any-return]

    def end(self) -> list[Any]:
        return self.read(None)

    def _read(self, event: Any) -> list[Any]:
        return list(self._function(event, self._config, self._state) or ())


class _ReadBack:
    """A stream mapper's events, read as the client's dialect: for a client that asked for no stream."""

    def __init__(self, stream: _FunctionEvents, client: Endpoint, request: Request) -> None:
        self._stream = stream
        self._reader = client.stream_reader(request)

    def read(self, event: Any) -> list[StreamEvent]:
        return [neutral for mapped in self._stream.read(event) for neutral in self._reader.read(mapped)]

    def end(self) -> list[StreamEvent]:
        mapped = self._stream.end()
        return [*(neutral for event in mapped for neutral in self._reader.read(event)), *self._reader.end()]


class _FunctionStream:
    """A live stream through a stream mapper: each read of the target becomes at most one write to the client."""

    live = True
    media_type = MEDIA_TYPES["sse"]

    def __init__(self, decoder: Decoder, stream: _FunctionEvents, encode: Callable[[Any], bytes]) -> None:
        self._decoder = decoder
        self._stream = stream
        self._encode = encode

    def feed(self, data: bytes) -> bytes:
        return self._encoded([mapped for event in self._decoder.feed(data) for mapped in self._stream.read(parse_event(event))])

    def end(self) -> bytes:
        events = [mapped for event in self._decoder.end() for mapped in self._stream.read(parse_event(event))]
        return self._encoded([*events, *self._stream.end()])

    def _encoded(self, events: list[Any]) -> bytes:
        return b"".join(map(self._encode, events))


def endpoint_at(dialects: Mapping[str, Dialect], path: str) -> tuple[Dialect, Endpoint] | None:
    """The dialect and endpoint whose client path this is, if any."""
    for dialect in dialects.values():
        for endpoint in dialect.endpoints:
            if path in endpoint.paths:
                return dialect, endpoint
    return None
