"""The neutral form: everything that any dialect can say, once.

Each dialect reads its own JSON into these classes and writes them out again, so n dialects are n modules and not n x n
pairs. `None` means "not said" throughout. Requests and answers are built once and read often; they are plain data.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mooltiproxy.mapping.spoken.syntax import Spoken

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Framing = Literal["sse", "named_sse", "ndjson", "json_array"]


def no_prompt(name: str, language: str | None) -> str | None:
    """Where there is no prompt library, it has nothing."""
    return None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says outside its body: the path, the `{model}` in it, and the query.

    `prompt` looks a prompt of the library up by its name and, where the request names one, its language. `alias` is the
    name by which the client asks for the model, where the target knows it by another: answers carry it.
    """

    path: str = ""
    model: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    prompt: Callable[[str, str | None], str | None] = no_prompt
    alias: str | None = None


NOWHERE = Asked()
"""For a body that came by no request of its own."""


Native = Mapping[str, Any]
"""Fields of a part or tool that only its own dialect knows, for a target of the same dialect (`cache_control`)."""


@dataclass(slots=True)
class Text:
    """A piece of text; `signature` is Gemini's, where it made the text."""

    text: str
    native: Native | None = None
    signature: str | None = None


@dataclass(slots=True)
class Image:
    """An image: base64 `data` with its media type, or a `url`, or a vendor's `file_id`."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    detail: str | None = None
    native: Native | None = None


@dataclass(slots=True)
class Audio:
    """Base64 audio and its format (wav, mp3 ...)."""

    data: str
    format: str


@dataclass(slots=True)
class Document:
    """A file: base64 `data` with its media type, or a `url`, or a vendor's `file_id`."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    native: Native | None = None


@dataclass(slots=True)
class ToolCall:
    """A call the model made. `arguments` is the JSON text exactly as received, valid or not; `signature` is Gemini's,
    where it made the call."""

    id: str
    name: str
    arguments: str
    signature: str | None = None
    native: Native | None = None


@dataclass(slots=True)
class ToolResult:
    """What a call returned. `name` is empty where the dialect has only the id."""

    call_id: str
    parts: "list[Part]"
    name: str = ""
    is_error: bool = False
    native: Native | None = None


@dataclass(slots=True)
class Reasoning:
    """A thought; `signature` is the opaque state that its vendor wants back, with the mark of mapping/signatures.py."""

    text: str
    signature: str | None = None


@dataclass(slots=True)
class Refusal:
    """The model's own words for declining."""

    text: str


Part = Text | Image | Audio | Document | ToolCall | ToolResult | Reasoning | Refusal


@dataclass(slots=True)
class Turn:
    """One message of a conversation."""

    role: Role
    parts: list[Part]
    name: str | None = None


@dataclass(slots=True)
class Tool:
    """A function the model may call; `schema` is a JSON Schema, None for no arguments."""

    name: str
    description: str | None = None
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    native: Native | None = None


@dataclass(slots=True)
class ToolChoice:
    """`mode` alone, or the names that the choice is limited to."""

    mode: Literal["auto", "none", "required"]
    names: tuple[str, ...] = ()


@dataclass(slots=True)
class Sampling:
    """How tokens are drawn and when to stop.

    `model_defaults` is set by dialects in which an absent temperature or top_p means whatever the model's makers chose
    (Ollama); the other APIs promise 1 for both, which a writer must say where its target would do otherwise.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    model_defaults: bool = False


@dataclass(slots=True)
class OutputFormat:
    """What the answer's text must be: any JSON, JSON of a schema, or text of a regular expression or grammar."""

    kind: Literal["json", "schema", "regex", "grammar"]
    value: Any = None
    name: str | None = None
    strict: bool | None = None


@dataclass(slots=True)
class ReasoningOptions:
    """How much the model may think, as an effort word or as a token budget; `show` asks for the thoughts' text."""

    effort: str | None = None
    budget: int | None = None
    show: bool | None = None


@dataclass(slots=True)
class TokenProbability:
    """A token of an answer with its log probability, and the likeliest tokens at its place with theirs."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(slots=True)
class Request:
    """One question to a model: a conversation (`turns`) or a bare `prompt`.

    `answer_fields` are the header fields of the target's answer, by lower-case name, once it has begun. `extra` holds
    the fields of the source dialect that have no place here, so that they can be named as dropped. `repairs` are the
    names of what was wrong in the answer and put right by its reader. `functions_api` is set for clients of OpenAI's
    deprecated `functions`, who read only `function_call` in answers. `template_stops` are the stop strings of a prompt
    template: set by the writer that renders the conversation, and cut from the answer by the reader of the same
    dialect, as is `continues`: the answer goes on with the last message. `spoken` is how its model writes calls and
    thoughts into its text, where they have no other place: set by the same writer. `framing` is how the client wants
    its stream framed, None for its endpoint's way. `keep_alive` is how long an on-demand server should stay loaded
    afterwards, as Ollama writes it. `began` is when the request was read, in nanoseconds of the monotonic clock: for
    dialects whose answers say how long they took.
    `repeats` are the fields of the client's body that its own dialect repeats in the answer. `assumed` are the names of
    fields of `sampling` that the client has not said: they are what its dialect promises.
    """

    model: str | None = None
    turns: list[Turn] = field(default_factory=list)
    prompt: str | None = None
    suffix: str | None = None
    echo: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    tools: list[Tool] = field(default_factory=list)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output: OutputFormat | None = None
    reasoning: ReasoningOptions | None = None
    stream: bool = False
    include_usage: bool = False
    user: str | None = None
    functions_api: bool = False
    template_stops: tuple[str, ...] = ()
    spoken: "Spoken | None" = None
    continues: bool = False
    framing: Framing | None = None
    keep_alive: str | float | None = None
    repeats: Mapping[str, Any] = field(default_factory=dict)
    assumed: frozenset[str] = frozenset()
    extra: dict[str, Any] = field(default_factory=dict)
    answer_fields: Mapping[str, str] = field(default_factory=dict)
    repairs: set[str] = field(default_factory=set, repr=False, compare=False)
    began: int = field(default_factory=time.monotonic_ns, repr=False, compare=False)


@dataclass(slots=True)
class Usage:
    """Tokens. `prompt` includes `cached`, `answer` includes `reasoning`; None where the target did not say."""

    prompt: int | None = None
    answer: int | None = None
    cached: int | None = None
    cache_written: int | None = None
    reasoning: int | None = None


@dataclass(slots=True)
class Choice:
    """One answer among `n`. `stop_string` is the client's stop string that ended it, where known."""

    parts: list[Part]
    finish: FinishReason
    stop_string: str | None = None
    logprobs: list[TokenProbability] | None = None


@dataclass(slots=True)
class Answer:
    """A whole answer."""

    choices: list[Choice]
    usage: Usage | None = None
    model: str | None = None


@dataclass(slots=True)
class EmbeddingsRequest:
    """Texts (or token ids) to be embedded. `base64` is how the client wants the vectors written, `began` as in
    `Request`."""

    model: str | None
    inputs: list[str] | list[list[int]]
    dimensions: int | None = None
    base64: bool = False
    user: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    answer_fields: Mapping[str, str] = field(default_factory=dict)
    began: int = field(default_factory=time.monotonic_ns, repr=False, compare=False)


@dataclass(slots=True)
class EmbeddingsAnswer:
    """One vector for each input, in the same order."""

    vectors: list[list[float]]
    usage: Usage | None = None


@dataclass(slots=True)
class CountAnswer:
    """How many tokens a request's input has."""

    tokens: int


@dataclass(slots=True)
class ModelsRequest:
    """The models that a target has; `model` asks for one of them."""

    model: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    answer_fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class ModelInfo:
    """A model as far as its target tells. `created` is Unix seconds; `context` is tokens; `capabilities` are Ollama's
    words (completion, tools, vision, thinking, embedding, insert). `parameters`, `template` and `system` are what its
    requests get where they say nothing. One that is in memory leaves it at `expires`, Unix seconds, None for never;
    `vram` are the bytes of `size` that a GPU holds, None for all."""

    id: str
    created: int | None = None
    owner: str | None = None
    context: int | None = None
    max_output: int | None = None
    size: int | None = None
    digest: str | None = None
    details: Mapping[str, Any] | None = None
    capabilities: tuple[str, ...] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template: str = ""
    system: str = ""
    expires: float | None = None
    vram: int | None = None


@dataclass(slots=True)
class ModelsAnswer:
    """A list of models; for a request that names one, that one alone."""

    models: list[ModelInfo]


@dataclass(slots=True)
class TextDelta:
    """More text of answer number `index`; `logprobs` are those of its tokens, `signature` is that of the whole text."""

    text: str
    index: int = 0
    logprobs: list[TokenProbability] | None = None
    signature: str | None = None


@dataclass(slots=True)
class RefusalDelta:
    """More of the model's own words for declining."""

    text: str
    index: int = 0


@dataclass(slots=True)
class ReasoningDelta:
    """More of a thought; `signature`, as that of `Reasoning`, ends it."""

    text: str
    signature: str | None = None
    index: int = 0


@dataclass(slots=True)
class CallStart:
    """Tool call number `call` of answer `index` begins."""

    call: int
    id: str
    name: str
    index: int = 0
    signature: str | None = None


@dataclass(slots=True)
class CallArguments:
    """More JSON text of the arguments of call number `call`."""

    call: int
    text: str
    index: int = 0


@dataclass(slots=True)
class Finish:
    """Answer `index` is complete."""

    reason: FinishReason
    stop_string: str | None = None
    index: int = 0


@dataclass(slots=True)
class UsageReport:
    """Tokens so far; the last report counts."""

    usage: Usage


@dataclass(slots=True)
class Failure:
    """The target broke off after it had begun to answer."""

    message: str
    status: int = 502
    code: str | None = None


StreamEvent = TextDelta | RefusalDelta | ReasoningDelta | CallStart | CallArguments | Finish | UsageReport | Failure
