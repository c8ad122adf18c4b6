"""Translations: what happens to one endpoint's requests and answers, given by function names or by a pair of dialects.

A `Translation` is made once, at load. `request()` translates one body and returns a `Translated`, which knows how this
request's answer is to be read: `answer()` gives the translator for what the target sends.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from mooltiproxy.errors import BadRequest, InternalError, ProxyError, UpstreamBroken
from mooltiproxy.mapping.dialect import (
    Dialect,
    Endpoint,
    FailureWriter,
    Mapper,
    Prompter,
    StreamMapper,
    StreamReader,
    StreamWriter,
)
from mooltiproxy.mapping.framing import (
    DONE,
    KEEPALIVE_SSE,
    Decoder,
    NDJSONDecoder,
    SSEDecoder,
    encode_sse,
    framer,
    parse_event,
)
from mooltiproxy.mapping.gather import answer_of, failure_error, stream_of
from mooltiproxy.mapping.media import host_of
from mooltiproxy.mapping.neutral import (
    NOWHERE,
    Answer,
    Asked,
    Failure,
    Framing,
    Image,
    Part,
    Request,
    StreamEvent,
    Text,
    ToolResult,
    Turn,
)

log = logging.getLogger("mooltiproxy.mapping")

MEDIA_TYPES = {
    "sse": "text/event-stream; charset=utf-8",
    "named_sse": "text/event-stream; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "json_array": "application/json; charset=utf-8",
    "json": "application/json",
}
STREAMING_MEDIA: Mapping[str, Callable[[], Decoder]] = {
    "text/event-stream": SSEDecoder,
    "application/x-ndjson": NDJSONDecoder,
}


class AnswerTranslator(Protocol):
    """Turns the bytes of one answer into the client's bytes; every call may raise a ProxyError.

    `live` translators give bytes as they come; the others give everything at `end()`, so that until then an error can
    still be answered with its own status. Once `done` is true the target would go on for nothing:
    `end()` may be called at once and the target's connection closed.
    """

    media_type: str
    live: bool

    @property
    def done(self) -> bool:
        """Whether the answer is complete although the target goes on."""

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for these bytes of the target."""

    def end(self) -> bytes:
        """What is left when the target has ended cleanly."""

    def fail(self, event: Any) -> bytes:
        """The dialect's error event, framed, and the end of the stream; for live translators that have written."""


@dataclass(frozen=True, slots=True)
class Translated:
    """One translated request. `path` replaces the entry's path where this request is asked elsewhere below the
    target's url, `method` the client's. For a client that streams: `media_type` is its stream's, `fail` frames an error
    event as its only one. `keepalive` is what its client may get while the target is silent in a stream.

    `answer` takes the media type of the target's answer, in lower case and without parameters, and its header fields by
    lower-case name; it gives None for an answer that passes untouched.
    """

    body: bytes
    answer: Callable[[str, Mapping[str, str]], AnswerTranslator | None]
    streaming: bool = False
    path: str | None = None
    method: str | None = None
    media_type: str = MEDIA_TYPES["json"]
    keepalive: bytes = b""
    fail: Callable[[Any], bytes] = encode_sse
    dropped: tuple[str, ...] = ()


MAX_DEPTH = 128
"""Levels of a body that is to be translated: what reads and writes it on both sides has bounds of its own."""
MAX_WHOLE = 64 * 1024 * 1024
"""Bytes of an answer that has to be gathered before it can be translated."""


class ImagesNeeded(Exception):
    """The target cannot fetch images itself: these URLs have to be fetched for it."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        super().__init__(f"{len(urls)} images")
        self.urls = urls


NO_IMAGES: Mapping[str, Image] = {}


class Translation(Protocol):
    """The translations of one endpoint; `bodiless` for requests that have no body (GET)."""

    description: str
    bodiless: bool

    def request(self, body: Any, asked: Asked, images: Mapping[str, Image] = NO_IMAGES) -> Translated:
        """Translate one request: its parsed body (None without one) and what it says outside it.

        Raises ProxyError: BadRequest for what the target cannot be asked. Raises ImagesNeeded where the target takes
        no URLs of images: to be called again with `images`, by URL.
        """


def _check_size(size: int) -> None:
    if size > MAX_WHOLE:
        raise UpstreamBroken(f"the target's answer is longer than {MAX_WHOLE} bytes")


class _Whole:
    """Gathers a whole JSON body, then hands it to `finish`."""

    live = False
    done = False

    def fail(self, event: Any) -> bytes:
        return b""

    def __init__(self, media_type: str, finish: Callable[[Any], bytes]) -> None:
        self.media_type = media_type
        self._finish = finish
        self._data = bytearray()

    def feed(self, data: bytes) -> bytes:
        self._data += data
        _check_size(len(self._data))
        return b""

    def end(self) -> bytes:
        try:
            body = orjson.loads(self._data)
        except orjson.JSONDecodeError as error:
            raise UpstreamBroken("the target's answer is not JSON") from error
        return self._finish(body)


class _NeutralEvents(Protocol):
    @property
    def done(self) -> bool: ...

    def read(self, event: Any) -> list[StreamEvent]: ...

    def end(self) -> list[StreamEvent]: ...


class _GatheredStream:
    """Reads a stream to its end and answers whole: for a client that asked for no stream."""

    live = False
    media_type = MEDIA_TYPES["json"]

    def fail(self, event: Any) -> bytes:
        return b""

    def __init__(self, decoder: Decoder, events: _NeutralEvents, finish: Callable[[Answer], bytes]) -> None:
        self._decoder = decoder
        self._events = events
        self._finish = finish
        self._seen: list[StreamEvent] = []
        self._size = 0

    @property
    def done(self) -> bool:
        return self._events.done

    def feed(self, data: bytes) -> bytes:
        self._size += len(data)
        _check_size(self._size)
        self._read(self._decoder.feed(data))
        return b""

    def end(self) -> bytes:
        self._read(self._decoder.end())
        self._seen += self._events.end()
        return self._finish(answer_of(self._seen))

    def _read(self, events: list[bytes]) -> None:
        for event in events:
            self._seen += self._events.read(parse_event(event))


class _ClientEvents(Protocol):
    @property
    def done(self) -> bool: ...

    def read(self, event: Any) -> list[Any]: ...

    def end(self) -> list[Any]: ...

    def fail(self, event: Any) -> list[Any]: ...


class _LiveStream:
    """A stream that is translated as it comes: each read of the target becomes at most one write to the client.

    An error behind events of the same read waits for the next call, so that the client still gets what came before it.
    """

    live = True

    def __init__(self, decoder: Decoder, events: _ClientEvents, framing: Framing) -> None:
        self.media_type = MEDIA_TYPES[framing]
        self._decoder = decoder
        self._events = events
        self._framer = framer(framing)
        self._error: ProxyError | None = None

    @property
    def done(self) -> bool:
        return self._error is not None or self._events.done

    def feed(self, data: bytes) -> bytes:
        if self._error:
            raise self._error
        return self._read(self._decoder.feed(data))

    def end(self) -> bytes:
        if self._error:
            raise self._error
        written = self._read(self._decoder.end())
        if self._error:
            raise self._error
        return written + self._encoded(self._events.end()) + self._framer.end()

    def fail(self, event: Any) -> bytes:
        return self._framer.write(self._events.fail(event)) + self._framer.end()

    def _read(self, events: list[bytes]) -> bytes:
        if len(events) == 1:  # as most model servers send: a token a read
            return self._encoded(self._events.read(parse_event(events[0])))
        written = []
        try:
            for event in events:
                written.append(self._encoded(self._events.read(parse_event(event))))
        except ProxyError as error:
            if not any(written):
                raise
            self._error = error
        return b"".join(written)

    def _encoded(self, events: list[Any]) -> bytes:
        try:
            return self._framer.write(events)
        except orjson.JSONEncodeError as error:
            raise InternalError("a mapper of the proxy returned what JSON cannot say") from error


class _DialectEvents:
    """A target's events, read and written again as the client's."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def done(self) -> bool:
        return self._reader.done

    def read(self, event: Any) -> list[Any]:
        return self._write(self._reader.read(event))

    def end(self) -> list[Any]:
        return [*self._write(self._reader.end()), *self._writer.end()]

    def fail(self, event: Any) -> list[Any]:
        return _failing(self._writer, event)

    def _write(self, events: list[StreamEvent]) -> list[Any]:
        for event in events:
            if isinstance(event, Failure):
                raise failure_error(event)
        return self._writer.write(events)


class DialectTranslation:
    """A client's endpoint in front of a target's endpoint of another dialect.

    What a client asks of a text endpoint may be a conversation all the same (Ollama's generate): `chat` translates that
    to the target's chat endpoint, and has its `path`.
    """

    def __init__(
        self,
        client: Endpoint,
        target: Endpoint,
        config: Mapping[str, Any],
        description: str,
        *,
        path: str | None = None,
        chat: "DialectTranslation | None" = None,
    ) -> None:
        self.client = client
        self.target = target
        self.config = config
        self.description = description
        self.bodiless = client.method == "GET"
        self.path = path
        self.chat = chat

    def request(self, body: Any, asked: Asked, images: Mapping[str, Image] = NO_IMAGES) -> Translated:
        """Translate one request; raises BadRequest where the target cannot express what it asks, and ImagesNeeded."""
        request = self.client.read_request(body, asked)
        if not self.target.takes_image_urls and isinstance(request, Request):
            put_images(request, images, self.target.image_hosts)
        return self.translated(request)

    def translated(self, request: Any) -> Translated:
        """The same for a request that has been read."""
        if self.chat is not None and isinstance(request, Request) and request.prompt is None:
            return self.chat.translated(request)
        dropped = adapted(request, self.target.kind) if isinstance(request, Request) else ()
        written = self.target.write_request(request, self.config)
        streaming = isinstance(request, Request) and request.stream
        return Translated(
            body=b"" if self.target.method == "GET" else dumps(written.body),
            answer=lambda media_type, fields: self._answer(request, media_type, fields),
            streaming=streaming,
            path=written.path or (self.target.stream_path if streaming else None) or self.path,
            method=self.target.method,
            media_type=MEDIA_TYPES[framing_for(self.client, request) if streaming else "json"],
            keepalive=self.client.keepalive if streaming else b"",
            fail=lambda event: self._failed(request, event),
            dropped=(*dropped, *written.dropped),
        )

    def _answer(self, request: Any, media_type: str, fields: Mapping[str, str]) -> AnswerTranslator:
        request.answer_fields = fields
        decoder = STREAMING_MEDIA.get(media_type)
        if decoder is None or self.target.stream_reader is None:
            if isinstance(request, Request) and request.stream:
                return _Whole(
                    MEDIA_TYPES[framing_for(self.client, request)], lambda body: self._replayed(request, body)
                )
            return _Whole(MEDIA_TYPES["json"], lambda body: self._written(request, self._read(request, body)))
        reader = self.target.stream_reader(request)
        if request.stream and self.client.stream_writer:
            events = _DialectEvents(reader, self.client.stream_writer(request))
            return _LiveStream(decoder(), events, framing_for(self.client, request))
        return _GatheredStream(decoder(), reader, lambda answer: self._written(request, answer))

    def _read(self, request: Any, body: Any) -> Any:
        return self.target.read_answer(body, request)

    def _written(self, request: Any, answer: Any) -> bytes:
        return orjson.dumps(self.client.write_answer(answer, request))

    def _replayed(self, request: Request, body: Any) -> bytes:
        return replay(self.client, request, self._read(request, body))

    def _failed(self, request: Request, event: Any) -> bytes:
        writer = self.client.stream_writer(request) if self.client.stream_writer else None
        return _framed(framing_for(self.client, request), _failing(writer, event))


def _failing(writer: StreamWriter | None, event: Any) -> list[Any]:
    """What ends a stream with this error event of the client's dialect."""
    return writer.fail(event) if isinstance(writer, FailureWriter) else [event]


def _framed(framing: Framing, events: list[Any]) -> bytes:
    """A whole stream of these events."""
    framed = framer(framing)
    return framed.write(events) + framed.end()


def adapted(request: Request, kind: str) -> tuple[str, ...]:
    """Make a prompt a user's message for a target that only chats; names what that leaves out."""
    if kind == "text" or request.prompt is None:
        return ()
    request.turns = [Turn("user", [Text(request.prompt)])]
    request.prompt = None
    dropped = tuple(name for name in ("suffix", "echo") if getattr(request, name))
    request.suffix, request.echo = None, False
    return dropped


def put_images(request: Request, images: Mapping[str, Image], hosts: frozenset[str]) -> None:
    """Put fetched images in the place of their URLs, but for those at `hosts`; raises ImagesNeeded for missing ones."""
    places = [parts for turn in request.turns for parts in _part_lists(turn.parts)]
    wanted = {
        part.url: None
        for parts in places
        for part in parts
        if isinstance(part, Image) and part.url is not None and part.url.startswith(("http://", "https://"))
        if host_of(part.url) not in hosts
    }
    missing = tuple(url for url in wanted if url not in images)
    if missing:
        raise ImagesNeeded(missing)
    for parts in places:
        parts[:] = [images.get(part.url or "", part) if isinstance(part, Image) else part for part in parts]


def _part_lists(parts: list[Part]) -> Iterator[list[Part]]:
    yield parts
    for part in parts:
        if isinstance(part, ToolResult):
            yield part.parts


def framing_for(client: Endpoint, request: Request) -> Framing:
    """How this client wants its stream framed."""
    return request.framing or client.framing


def replay(client: Endpoint, request: Request, answer: Answer) -> bytes:
    """A whole answer as one complete, correctly framed stream."""
    if client.stream_writer is None:
        raise InternalError("this endpoint has no streams")
    writer = client.stream_writer(request)
    framing = framer(framing_for(client, request))
    return framing.write([*writer.write(stream_of(answer)), *writer.end()]) + framing.end()


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

    def request(self, body: Any, asked: Asked, images: Mapping[str, Image] = NO_IMAGES) -> Translated:
        """Translate one request; raises ProxyError, InternalError for a function that fails."""
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
            fail=lambda event: _framed(framing, [event]),
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
            return _LiveStream(decoder(), events, self.client.framing if self.client else "sse")
        return self._gathered(body, decoder(), events)

    def _whole(self, body: Any, config: dict[str, Any], streaming: bool) -> AnswerTranslator | None:
        mapper = self.functions.answer
        if mapper is None:
            return None
        if not streaming:
            return _Whole(MEDIA_TYPES["json"], lambda whole: dumps(called("answer mapper", mapper, whole, config)))
        media_type = MEDIA_TYPES[self.client.framing if self.client else "sse"]
        return _Whole(media_type, lambda whole: self._replayed(body, called("answer mapper", mapper, whole, config)))

    def _gathered(self, body: Any, decoder: Decoder, events: "_FunctionEvents") -> AnswerTranslator:
        if self.client is None or self.client.stream_reader is None:
            raise UpstreamBroken("the target answered with a stream that was not asked for")
        client, request = self.client, _client_request(self.client, body)
        return _GatheredStream(
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


def renderer(prompter: Prompter, config: Mapping[str, Any]) -> Callable[[Any], tuple[str, list[str]]]:
    """The `render` of a mapping's `cfg`: messages in, prompt and stop strings out; raises as `called` does."""

    def render(messages: Any) -> tuple[str, list[str]]:
        rendered = called("prompter", prompter, messages, config)
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
    except ProxyError:
        raise
    except Exception as error:
        raise _failed(what, function) from error


def _failed(what: str, function: Callable[..., Any]) -> InternalError:
    """Log the exception that is being handled, with its traceback, and give the error that the client may read."""
    name = getattr(function, "__name__", type(function).__name__)
    log.exception("the %s %s failed", what, name)
    return InternalError(f"the proxy's {what} {name} failed on this request")


def dumps(body: Any) -> bytes:
    """A mapped body as JSON; raises InternalError where a function returned what JSON cannot say."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise InternalError("a mapper of the proxy returned what JSON cannot say") from error


def dumps_event(body: Any) -> bytes:
    """A mapped body as one server-sent event; raises InternalError as `dumps` does."""
    return encode_sse(dumps(body).decode())


def loads_request(data: bytes) -> Any:
    """A client's JSON body; raises BadRequest that says where it breaks off, or that it is nested too deeply."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise BadRequest(f"the body is not valid JSON: {error.msg} at {where}") from error
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise BadRequest(f"the body is nested deeper than {MAX_DEPTH} levels")
    return value


def _deeper_than(value: Any, depth: int) -> bool:
    """Whether a JSON value is nested deeper than this."""
    level = [value]
    for _ in range(depth):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _children(outer)]
        if not level:
            return False
    return True


def _children(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


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


def endpoint_at(dialects: Mapping[str, Dialect], path: str) -> tuple[Dialect, Endpoint] | None:
    """The dialect and endpoint whose client path this is, if any."""
    for dialect in dialects.values():
        for endpoint in dialect.endpoints:
            if path in endpoint.paths:
                return dialect, endpoint
    return None
