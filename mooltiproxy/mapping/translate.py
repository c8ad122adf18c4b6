"""Translations: what happens to one endpoint's requests and answers, in front of a target of another dialect.

A `Translation` is made once, at load. `request()` translates one body and returns a `Translated`, which knows how this
request's answer is to be read: `answer()` gives the translator for what the target sends. `functions` has the other
kind of translation, by the names of functions.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from mooltiproxy.errors import BadRequest, InternalError, NotFound
from mooltiproxy.mapping.answers import (
    MEDIA_TYPES,
    STREAMING_MEDIA,
    AnswerTranslator,
    GatheredStream,
    Whole,
)
from mooltiproxy.mapping.attachments import NOTHING, Attachment, put_attachments
from mooltiproxy.mapping.bodies import dumps
from mooltiproxy.mapping.dialect import Answered, Dialect, Endpoint, Reply
from mooltiproxy.mapping.framing import encode_sse, framer
from mooltiproxy.mapping.gather import stream_of
from mooltiproxy.mapping.live import failing, live
from mooltiproxy.mapping.neutral import Answer, Asked, Framing, ModelsRequest, Request, Text, Turn
from mooltiproxy.mapping.settings import Edit
from mooltiproxy.mapping.spoken.reading import listened, listening


@dataclass(frozen=True, slots=True)
class Translated:
    """One translated request. `path` replaces the entry's path where this request is asked elsewhere below the
    target's url, `method` the client's. `elsewhere` is the path of another of the target's endpoints, where it is asked
    there and not at the entry's. For a client that streams: `media_type` is its stream's, `fail` frames an error
    event as its only one. `keepalive` is what its client may get while the target is silent in a stream.

    `answer` takes the media type of the target's answer, in lower case and without parameters, and its header fields by
    lower-case name; it gives None for an answer that passes untouched. `repairs` are the names of what was wrong in the
    answer and has been put right, so far.
    """

    body: bytes
    answer: Callable[[str, Mapping[str, str]], AnswerTranslator | None]
    streaming: bool = False
    path: str | None = None
    elsewhere: str | None = None
    method: str | None = None
    media_type: str = MEDIA_TYPES["json"]
    keepalive: bytes = b""
    fail: Callable[[Any], bytes] = encode_sse
    dropped: tuple[str, ...] = ()
    reply: Reply | None = None
    repairs: Collection[str] = ()


class Translation(Protocol):
    """The translations of one endpoint; `bodiless` for requests that have no body (GET)."""

    description: str
    bodiless: bool

    def request(
        self, body: Any, asked: Asked, fetched: Mapping[str, Attachment] = NOTHING, edit: Edit | None = None
    ) -> Translated:
        """Translate one request: its parsed body (None without one) and what it says outside it.

        `edit` changes its neutral form, if it comes to that. Raises ProxyError: BadRequest for what the target cannot
        be asked. Raises AttachmentsNeeded where the target takes no URLs: to be called again with what was `fetched`,
        by URL, and with an edit that has not been used.
        """


class DialectTranslation:
    """A client's endpoint in front of a target's endpoint of another dialect.

    What a client asks of a text endpoint may be a conversation all the same (Ollama's generate), or want an answer in a
    format, which the target's may not know: `chat` translates that to the target's chat endpoint, and has its `path`.
    `model` is asked for where a client names none.
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
        model: str | None = None,
    ) -> None:
        self.client = client
        self.target = target
        self.config = config
        self.description = description
        self.bodiless = client.method == "GET"
        self.path = path
        self.chat = chat
        self.model = model

    def request(
        self, body: Any, asked: Asked, fetched: Mapping[str, Attachment] = NOTHING, edit: Edit | None = None
    ) -> Translated:
        """Translate one request; raises BadRequest where the target cannot express what it asks; AttachmentsNeeded."""
        try:
            request = self.client.read_request(body, asked)
        except Answered as answered:
            return Translated(b"", lambda media_type, fields: None, dropped=answered.dropped, reply=answered.reply)
        if self.model is not None and not request.model:
            request.model = self.model
        if isinstance(request, Request):
            put_attachments(request, fetched, self.target)
        if edit is not None:
            edit.apply(request)
        translated = self.translated(request, edit)
        if asked.alias is not None and not isinstance(request, ModelsRequest):
            request.model = asked.alias  # for the answer
        return translated

    def translated(self, request: Any, edit: Edit | None = None) -> Translated:
        """The same for a request that has been read."""
        if self.chat is not None and isinstance(request, Request) and self._is_for_chat(request):
            return self.chat.translated(request, edit)
        dropped = adapted(request, self.target.kind) if isinstance(request, Request) else ()
        written = self.target.write_request(request, self.config)
        if edit is not None:
            edit.add_own(written.body, self.target)
            dropped = (*edit.dropped, *dropped)
        streaming = isinstance(request, Request) and request.stream
        return Translated(
            body=b"" if self.target.method == "GET" else dumps(written.body),
            answer=lambda media_type, fields: self._answer(request, media_type, fields),
            streaming=streaming,
            path=written.path or (self.target.stream_path if streaming else None) or self.path,
            elsewhere=self.path,
            method=self.target.method,
            media_type=MEDIA_TYPES[framing_for(self.client, request) if streaming else "json"],
            keepalive=self.client.keepalive if streaming else b"",
            fail=lambda event: self._failed(request, event),
            dropped=(*dropped, *written.dropped),
            repairs=request.repairs if isinstance(request, Request) else (),
        )

    def _is_for_chat(self, request: Request) -> bool:
        return request.prompt is None or (request.output is not None and not self.target.takes_formats)

    def _answer(self, request: Any, media_type: str, fields: Mapping[str, str]) -> AnswerTranslator:
        request.answer_fields = fields
        decoder = STREAMING_MEDIA.get(media_type)
        if decoder is None or self.target.stream_reader is None:
            if isinstance(request, Request) and request.stream:
                return Whole(MEDIA_TYPES[framing_for(self.client, request)], lambda body: self._replayed(request, body))
            return Whole(MEDIA_TYPES["json"], lambda body: self._written(request, self._read(request, body)))
        reader = listening(self.target.stream_reader(request), request)
        if request.stream and self.client.stream_writer:
            writer = self.client.stream_writer(request)
            return live(decoder(), reader, writer, framing_for(self.client, request))
        return GatheredStream(decoder(), reader, lambda answer: self._written(request, answer))

    def _read(self, request: Any, body: Any) -> Any:
        answer = self.target.read_answer(body, request)
        return listened(answer, request) if isinstance(answer, Answer) else answer

    def _written(self, request: Any, answer: Any) -> bytes:
        return orjson.dumps(self.client.write_answer(answer, request))

    def _replayed(self, request: Request, body: Any) -> bytes:
        return replay(self.client, request, self._read(request, body))

    def _failed(self, request: Request, event: Any) -> bytes:
        writer = self.client.stream_writer(request) if self.client.stream_writer else None
        return framed_whole(framing_for(self.client, request), failing(writer, event))


class NoTranslation:
    """What a client's endpoint has in front of a target that has nothing for it: the NotFound that says so."""

    def __init__(self, message: str) -> None:
        self.description = f"none: {message}"
        self.bodiless = False
        self._message = message

    def request(
        self, body: Any, asked: Asked, fetched: Mapping[str, Attachment] = NOTHING, edit: Edit | None = None
    ) -> Translated:
        """Raises NotFound."""
        raise NotFound(self._message)


def framed_whole(framing: Framing, events: list[Any]) -> bytes:
    """A whole stream of these events."""
    framed = framer(framing)
    return framed.write(events) + framed.end()


def adapted(request: Request, kind: str) -> tuple[str, ...]:
    """Make a prompt a user's message for a target that only chats; names what that leaves out. Raises BadRequest for a
    suffix, and for log probabilities of the prompt: a chat fills in nothing before the one, and knows nothing of the
    others."""
    if kind == "text" or request.prompt is None:
        return ()
    if request.suffix:
        raise BadRequest("suffix: this target only chats, and fills in no text before a suffix", param="suffix")
    if request.echo and request.sampling.logprobs:
        raise BadRequest("logprobs: this target gives no log probabilities of a prompt", param="logprobs")
    request.turns = [Turn("user", [Text(request.prompt)])]
    request.prompt = None
    dropped = ("echo",) if request.echo else ()
    request.echo = False
    return dropped


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


def endpoint_at(dialects: Mapping[str, Dialect], path: str) -> tuple[Dialect, Endpoint] | None:
    """The dialect and endpoint whose client path this is, if any."""
    for dialect in dialects.values():
        for endpoint in dialect.endpoints:
            if path in endpoint.paths:
                return dialect, endpoint
    return None
