"""What a dialect module exports, and the contract of mapper, stream mapper and prompter functions.

A module in `mappers/` that has a module-level `dialect: Dialect` is a dialect. Any other module there is a file of
plain mapper functions, found by their names. `prompters/` holds prompter functions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from mooltiproxy.errors import ProxyError
from mooltiproxy.mapping.forms import Form
from mooltiproxy.mapping.neutral import Asked, Framing, StreamEvent, Usage

Config = Mapping[str, Any]

Mapper = Callable[[Any, Config], Any]
"""`def chatReqFootoBar(ip, cfg={})`: one parsed JSON body in, one out. `cfg` is the endpoint's entry; in answers it
also holds `request` (the client's body), `mapped` (the body that was sent) and `headers` (of the target's answer).
Within one request `cfg` also has `dropped`, a list to which a mapper adds the names of fields that it left out, and
`notes`, an empty dict in which a request mapper may leave what the mappers of the answer need."""

StreamMapper = Callable[[Any, Config, dict[str, Any]], Iterable[Any] | None]
"""`def chatStreamFootoBar(ip, cfg={}, state={})`: one parsed event of the target in (None once, at its clean end), the
client's events out: a dict becomes JSON, a str is sent as it is. `state` is an empty dict that lives as long as the
stream; `state["done"] = True` says that the answer is complete although the target goes on."""

Prompter = Callable[[Sequence[Mapping[str, Any]], Config], tuple[str, list[str]]]
"""`def mine(messages, cfg={})`: OpenAI chat messages in; the prompt and its stop strings out."""

Kind = Literal["chat", "text", "embeddings", "count", "models", "model", "running", "health"]
"""What an endpoint is for. Its neutral request and answer are, in this order of kinds: `Request` and `Answer` (chat and
text), `EmbeddingsRequest` and `EmbeddingsAnswer`, `Request` and `CountAnswer`, `ModelsRequest` and `ModelsAnswer` (all
models, one that the request names, those that are loaded, and whatever there is as long as the server answers)."""

LimitStyle = Literal["openai", "anthropic", "general"]
"""Whose header fields about limits: OpenAI's, Anthropic's, or OpenAI's with the `RateLimit` of the IETF's draft."""


def tells_nothing(told: Any, fields: Mapping[str, str]) -> Usage | None:
    """Where nothing is known of how an API tells what was used."""
    return None


STAND_INS: Mapping[Kind, tuple[Kind, ...]] = {
    "chat": ("text",),
    "text": ("chat",),
    "model": ("models",),
    "running": ("models",),
    "health": ("models",),
}
"""What else a target may be asked where it has no endpoint of a client's kind; a chat becomes a prompt only where the
file names its template."""


class StreamReader(Protocol):
    """Turns one stream's parsed events into neutral events; made anew for each stream.

    `done` becomes true when the answer is complete and the target does not know it (a stop string that it has missed).
    """

    done: bool

    def read(self, event: Any) -> list[StreamEvent]:
        """Neutral events of one parsed event: a JSON value, or the text of one that is not JSON (`[DONE]`)."""

    def end(self) -> list[StreamEvent]:
        """What is still held back when the target has ended; a `Failure` if it ended before it had finished."""


class StreamWriter(Protocol):
    """Turns neutral events into one dialect's events, in an order that is always legal; made anew for each stream.

    `Failure` is not for writers: whoever drives the stream raises it as an error instead.
    """

    def write(self, events: Iterable[StreamEvent]) -> list[Any]:
        """The dialect's events (JSON values or texts) for these neutral ones."""

    def end(self) -> list[Any]:
        """The closing events of a stream that went well; raises UpstreamBroken if an answer lacks its `Finish`."""


@runtime_checkable
class FailureWriter(Protocol):
    """What a stream writer is, too, where its dialect ends a broken stream with more than one error event."""

    def fail(self, event: Any) -> list[Any]:
        """The dialect's events that end the stream; `event` is the one that `write_stream_error` made."""


@dataclass(frozen=True, slots=True)
class Written:
    """A request as a target wants it.

    `dropped` names what the target cannot be told: a field's name (`seed`), or `clamped temperature 1.5->1`. `path`
    replaces the endpoint's path where it depends on the request (a model in the path, a query); it begins with the
    dialect's base, as `paths` do.
    """

    body: dict[str, Any]
    dropped: tuple[str, ...] = ()
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of a dialect, with all its translations; `kind` says of what neutral classes.

    `paths` are the spellings clients use; the first is the one we ask targets at, below their API base, unless
    `target_path` is another one, below their root. Without `paths` it is there for targets only. A path may hold
    `{model}`, which stands for a model's name and comes as `Asked.model`. `stream_path` is asked instead where the
    dialect streams elsewhere. `framing` is that of its streams unless the request asks for another. `keepalive` is
    what a client gets while the target is silent in a stream: empty where the dialect has no such thing. Endpoints
    that never stream have no `stream_reader` and `stream_writer`. `name` is needed where a dialect has several of a
    kind. Where a target cannot follow images' URLs (`takes_image_urls`), they are fetched for it beforehand, but for
    those of its vendor's own `image_hosts`. `documents` is how it takes documents: by URL or as bytes (`url`), as
    bytes only (`bytes`), the same but text as text (`pdf`), as text only (`text`). `takes_formats` says of a text
    endpoint whether it can be told what its answer must be (JSON of a schema). A `GET` has no body: `read_request` gets
    None. `form` says where the settings of `models:` stand in bodies that pass to a target of the same dialect: without
    one they stay as they are.
    """

    kind: Kind
    paths: tuple[str, ...]
    read_request: Callable[[Any, Asked], Any]
    write_request: Callable[[Any, Config], Written]
    read_answer: Callable[[Any, Any], Any]
    write_answer: Callable[[Any, Any], Any]
    stream_reader: Callable[[Any], StreamReader] | None = None
    stream_writer: Callable[[Any], StreamWriter] | None = None
    stream_path: str | None = None
    target_path: str = ""
    framing: Framing = "sse"
    keepalive: bytes = b": keep-alive\n\n"
    method: Literal["POST", "GET"] = "POST"
    name: str = ""
    takes_image_urls: bool = True
    image_hosts: frozenset[str] = frozenset()
    documents: Literal["url", "bytes", "pdf", "text"] = "url"
    takes_formats: bool = True
    form: Form | None = None

    @property
    def label(self) -> str:
        """What `endpoints:` of a target calls it: its name, or its kind where that is enough."""
        return self.name or self.kind


@dataclass(frozen=True, slots=True)
class Reply:
    """What the proxy itself answers: nothing of it is the target's to say."""

    body: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """An HTTP API of LLMs. `base` is the prefix of its paths that a target's `url` may already hold (`/v1`).

    `other_paths` pass through untouched to a target of the same dialect: they carry nothing that we translate.
    `unserved` are paths of the API that no target is asked at; they are named so that their refusal has its form.
    `key_field` is the header in which a target wants its key, `key_prefix` what stands before the key there.
    `fixed_fields` are headers that a target of this dialect wants with every request that we translate. `probe` is a
    path to GET and what its answer (status and JSON, None where it is none) looks like where a server speaks this.
    `sign` is a header that its clients send and others do not: it tells them apart where several dialects have the
    same path. `replies` are what its clients get, by path, from the proxy itself: at all targets, but for
    those of this dialect where a path is also one of `other_paths`.
    `limit_style` is whose header fields about limits its clients read, and `id_field` is where they look for the
    request's id, if not in x-request-id. `read_usage` takes what was used from a parsed answer or event of a stream,
    and the answer's header fields by lower-case name; bytes without `usage_mark` tell of none. `model_fields` are what
    its bodies call the model: the first that is there counts. With `has_tags` the tag behind a model's name is part of
    it, and only `:latest` may be left out. A dialect with `below_prefix` is for clients alone, and only where the
    configuration names the prefix of its paths.
    """

    name: str
    doc: str
    base: str
    endpoints: tuple[Endpoint, ...]
    write_error: Callable[[ProxyError, str], dict[str, Any]]
    write_stream_error: Callable[[ProxyError, str], Any]
    other_paths: frozenset[str] = field(default_factory=frozenset)
    unserved: frozenset[str] = field(default_factory=frozenset)
    key_field: str = "authorization"
    key_prefix: str = "Bearer "
    fixed_fields: Mapping[str, str] = field(default_factory=dict)
    probe: tuple[str, Callable[[int, Any], bool]] | None = None
    sign: str | None = None
    replies: Mapping[str, Reply] = field(default_factory=dict)
    limit_style: LimitStyle = "openai"
    usage_mark: bytes = b'"usage"'
    read_usage: Callable[[Any, Mapping[str, str]], Usage | None] = tells_nothing
    id_field: str = ""
    model_fields: tuple[str, ...] = ("model",)
    has_tags: bool = False
    below_prefix: bool = False

    def below(self, prefix: str) -> "Dialect":
        """The same dialect with all its paths below this prefix."""
        endpoints = [replace(one, paths=tuple(prefix + path for path in one.paths)) for one in self.endpoints]
        replies = {prefix + path: reply for path, reply in self.replies.items()}
        return replace(self, endpoints=tuple(endpoints), replies=replies)

    def alias(self, path: str) -> str:
        """The name under which routing knows a path that another dialect has as well."""
        return f"/@{self.name}{path}"


class Answered(Exception):
    """Raised by `read_request` where a request asks nothing of a target that speaks another API: it gets the reply.

    `dropped` names what of the request comes to nothing.
    """

    def __init__(self, reply: Reply, dropped: tuple[str, ...] = ()) -> None:
        super().__init__("answered without a target")
        self.reply = reply
        self.dropped = dropped


F = TypeVar("F", bound=Callable[..., Any])


def asks_at(paths: Mapping[str, str]) -> Callable[[F], F]:
    """Mark a stream mapper: its target streams at another path than it answers at, `{path: stream path}`."""

    def mark(function: F) -> F:
        function.stream_paths = dict(paths)  # type: ignore[attr-defined]
        return function

    return mark
