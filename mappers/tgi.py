"""Text Generation Inference's own API (huggingface.github.io/text-generation-inference): `/generate`, its stream, `/`.

`/` is what huggingface_hub's InferenceClient asks. It takes the same requests, streams by their `stream`, answers whole
in a list, and repeats the prompt in `generated_text` unless told otherwise.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mooltiproxy.errors import BadRequest, ProxyError, UpstreamBroken
from mooltiproxy.mapping.dialect import Config, Dialect, Endpoint, Written
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.gather import UNFINISHED, failure_error
from mooltiproxy.mapping.neutral import (
    NOWHERE,
    Answer,
    Asked,
    Choice,
    Failure,
    Finish,
    FinishReason,
    OutputFormat,
    Request,
    Sampling,
    StreamEvent,
    Text,
    TextDelta,
    Usage,
    UsageReport,
)
from mooltiproxy.mapping.prompt import pieces_of, render_pieces, without_bos
from mooltiproxy.mapping.stops import StopCutter, cut_at_stop
from mooltiproxy.mapping.upstream_errors import failure_in

from .openai.messages import write_messages

MAX_STOPS = 4
"""Stop strings that a server takes unless it is started with another --max-stop-sequences."""

SMALLEST = 0.01
"""What is asked for where a share of probability mass would be 0: the server wants more than that."""

_FINISH: dict[str, FinishReason] = {"length": "length", "eos_token": "stop", "stop_sequence": "stop"}
_ERROR_TYPES = {400: "validation", 422: "validation", 424: "generation", 429: "overloaded", 503: "overloaded"}


def read_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The neutral form of `{inputs, parameters}`; raises BadRequest that names the field at fault."""
    return _read_request(body, full_text=False)


def read_root_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The same at `/`, where the prompt is part of the answer unless the client says otherwise."""
    return _read_request(body, full_text=True)


def _read_request(body: Any, *, full_text: bool) -> Request:
    fields = Fields(body)
    prompt = fields.required_text("inputs")
    # A server of this API has one model and passes over a `model`: it is there for targets that have several.
    request = Request(model=fields.text("model"), prompt=prompt, stream=fields.flag("stream") or False)
    parameters = fields.object("parameters")
    if parameters:
        _read_parameters(parameters, request)
        wanted = parameters.flag("return_full_text")
        full_text = full_text if wanted is None else wanted
        left = parameters.leftovers().items()
        request.extra.update({name: value for name, value in left if value is not False})
    if full_text:
        # Not `echo`: the answer has the prompt whatever the target can do, and no token of a stream is part of it.
        request.repeats = {"inputs": prompt}
    request.extra.update(fields.leftovers())
    return request


def _read_parameters(parameters: Fields, request: Request) -> None:
    request.sampling = Sampling(
        temperature=parameters.number("temperature", 0),
        top_p=parameters.number("top_p", 0, 1),
        top_k=parameters.integer("top_k", 1),
        typical_p=parameters.number("typical_p", 0, 1),
        seed=parameters.integer("seed", 0),
        frequency_penalty=parameters.number("frequency_penalty", -2, 2),
        repetition_penalty=parameters.number("repetition_penalty", 0),
        stop=parameters.texts("stop"),
        max_tokens=parameters.integer("max_new_tokens", 1),
        best_of=parameters.integer("best_of", 1),
    )
    if not parameters.flag("do_sample") and _is_greedy(request.sampling):
        request.sampling.temperature = 0
    request.include_usage = bool(parameters.flag("details"))
    request.output = _read_grammar(parameters)


def _is_greedy(sampling: Sampling) -> bool:
    """Without `do_sample` the server samples only if one of these differs from its neutral value."""
    shaping = (sampling.top_k, sampling.top_p, sampling.typical_p)
    return sampling.temperature in (None, 1) and all(value is None for value in shaping)


def _read_grammar(parameters: Fields) -> OutputFormat | None:
    grammar = parameters.object("grammar")
    if grammar is None:
        return None
    kind = grammar.required_text("type")
    if kind == "regex":
        return OutputFormat("regex", grammar.required_text("value"))
    if kind == "json":
        return OutputFormat("schema", grammar.plain("value"))
    if kind != "json_schema":
        raise grammar.wrong("type", "one of json, regex, json_schema")
    value = grammar.required_object("value")
    return OutputFormat("schema", value.plain("schema"), value.text("name"))


def write_text_request(request: Request, config: Config) -> Written:
    """A request for a target whose prompt the client wrote; raises BadRequest for what it cannot be asked."""
    if request.prompt is None:
        raise BadRequest("this endpoint of the target takes a prompt, not messages", param="messages")
    return _written(request, request.prompt, sorted(request.extra))


def write_chat_request(request: Request, config: Config) -> Written:
    """A request for a target with the conversation as one prompt; raises BadRequest for what it cannot be asked.

    `config["render"]` makes the prompt (else the pieces of `config["template"]`); its stops stay with the request.
    """
    dropped = sorted(request.extra)
    messages = write_messages(request.turns, dropped)
    if any("tool_calls" in message for message in messages):
        dropped.append("messages.tool_calls")
    if any(turn.name for turn in request.turns):
        dropped.append("messages.name")
    render = config.get("render")
    prompt, stops = render(messages) if render else render_pieces(messages, pieces_of(config))
    request.template_stops = tuple(stops)
    # The server's tokenizer writes the token that begins a text: two of them make answers worse.
    return _written(request, without_bos(prompt), dropped)


def _written(request: Request, prompt: str, dropped: list[str]) -> Written:
    _refuse(request)
    parameters = _write_sampling(request, dropped)
    parameters.update(_write_penalties(request.sampling, dropped))
    parameters.update(_write_best_of(request, parameters, dropped))
    if request.sampling.max_tokens is not None:
        parameters["max_new_tokens"] = request.sampling.max_tokens
    stops = all_stops(request)[:MAX_STOPS]
    if stops:
        parameters["stop"] = stops
    if request.output:
        parameters["grammar"] = _write_grammar(request.output)
    if request.tools:
        dropped.append("tools")
    if request.reasoning:
        dropped.append("reasoning_effort")
    if request.user:
        dropped.append("user")
    parameters.update(details=True, return_full_text=False)
    return Written({"inputs": prompt, "parameters": parameters}, tuple(dropped))


def _refuse(request: Request) -> None:
    """Refuse what would change the answer unseen if it were left out."""
    sampling = request.sampling
    no_tools = request.tool_choice is not None and request.tool_choice.mode == "none"
    refusals = (
        ("n", (sampling.n or 1) > 1, "gives one answer to a request"),
        ("tools", bool(request.tools) and not no_tools, "knows no tools"),
        ("logprobs", bool(sampling.logprobs), "does not give log probabilities through this proxy"),
        ("suffix", bool(request.suffix), "does not fill in text before a suffix"),
        ("max_tokens", sampling.max_tokens == 0, "generates at least one token"),
        ("best_of", (sampling.best_of or 1) > 1 and request.stream, "cannot stream the best of several answers"),
        ("repetition_penalty", sampling.repetition_penalty == 0, "wants a repetition penalty above 0"),
    )
    for name, refused, reason in refusals:
        if refused:
            raise BadRequest(f"{name}: this target {reason}", param=name)


def _write_sampling(request: Request, dropped: list[str]) -> dict[str, Any]:
    """How tokens are drawn. `do_sample` is always said: without it the server guesses from the other fields."""
    sampling = request.sampling
    if sampling.min_p:
        dropped.append("min_p")
    parameters: dict[str, Any] = {"do_sample": sampling.temperature != 0}
    if parameters["do_sample"]:
        optional = {
            "temperature": sampling.temperature,
            "top_p": _share(sampling.top_p),
            "typical_p": _share(sampling.typical_p),
            "top_k": sampling.top_k if (sampling.top_k or 0) > 0 else None,
        }
        parameters.update({name: value for name, value in optional.items() if value is not None})
    if sampling.seed is not None and sampling.seed < 0:
        dropped.append("seed")
    elif sampling.seed is not None:
        parameters["seed"] = sampling.seed
    return parameters


def _share(value: float | None) -> float | None:
    """A share of probability mass as the server takes it: more than 0, less than 1; None for all of it."""
    if value is None or value >= 1:
        return None
    return value if value > 0 else SMALLEST


def _write_penalties(sampling: Sampling, dropped: list[str]) -> dict[str, Any]:
    dropped += [name for name in ("presence_penalty", "logit_bias") if getattr(sampling, name)]
    parameters = {}
    if sampling.frequency_penalty:
        parameters["frequency_penalty"] = sampling.frequency_penalty
    if sampling.repetition_penalty is not None:
        parameters["repetition_penalty"] = sampling.repetition_penalty
    return parameters


def _write_best_of(request: Request, parameters: dict[str, Any], dropped: list[str]) -> dict[str, Any]:
    """The best of several needs sampling, and no seed."""
    best_of = request.sampling.best_of or 1
    if best_of == 1 or not parameters["do_sample"]:
        return {}
    if parameters.pop("seed", None) is not None:
        dropped.append("seed")
    return {"best_of": best_of}


def _write_grammar(output: OutputFormat) -> dict[str, Any]:
    if output.kind == "regex":
        return {"type": "regex", "value": output.value}
    if output.kind == "schema" and isinstance(output.value, Mapping) and "properties" in output.value:
        return {"type": "json", "value": output.value}
    wanted = "a schema of an object with properties" if output.kind == "schema" else "a JSON Schema"
    raise BadRequest(f"response_format: this target can be held to {wanted} only", param="response_format")


def all_stops(request: Request) -> list[str]:
    """Every stop string, the client's before the template's: all are cut by us, the first ones by the server too."""
    return list(dict.fromkeys([*request.sampling.stop, *request.template_stops]))


def _client_stop(request: Request, stop: str | None) -> str | None:
    """The stop that a client may hear of: one of its own."""
    return stop if stop in request.sampling.stop else None


def read_text_answer(body: Any, request: Request) -> Answer:
    """A whole answer to a client's own prompt; raises UpstreamBroken where it is none."""
    return _read_answer(body, request, strip=False)


def read_chat_answer(body: Any, request: Request) -> Answer:
    """A whole answer in a conversation, without the whitespace that the template provokes; raises UpstreamBroken."""
    return _read_answer(body, request, strip=True)


def _read_answer(body: Any, request: Request, *, strip: bool) -> Answer:
    failure = failure_in(body)
    if failure:
        raise failure_error(failure)
    if isinstance(body, list) and body:
        body = body[0]
    text = body.get("generated_text") if isinstance(body, dict) else None
    if not isinstance(text, str):
        raise UpstreamBroken("the target's answer has no generated_text")
    details = body.get("details")
    text, stop = cut_at_stop(text.lstrip() if strip else text, all_stops(request))
    if request.echo and request.prompt:
        text = request.prompt + text
    finish = "stop" if stop else _finish(details)
    return Answer([Choice([Text(text)] if text else [], finish, _client_stop(request, stop))], _usage(details, request))


def _finish(details: Any) -> FinishReason:
    reason = details.get("finish_reason") if isinstance(details, dict) else None
    return _FINISH.get(reason, "stop") if isinstance(reason, str) else "stop"


def _usage(details: Any, request: Request) -> Usage | None:
    """The tokens of an answer; those of the prompt stand in a stream's details and in a whole answer's header."""
    if not isinstance(details, dict):
        return None
    prompt = details.get("input_length")
    prefill = details.get("prefill")
    told = request.answer_fields.get("x-prompt-tokens", "")
    if not isinstance(prompt, int):
        prompt = int(told) if told.isdecimal() else len(prefill) if isinstance(prefill, list) and prefill else None
    answer = details.get("generated_tokens")
    return Usage(prompt=prompt, answer=answer if isinstance(answer, int) else None)


def write_answer(answer: Answer, request: Request) -> dict[str, Any]:
    """A whole answer for a client of this API."""
    choice = answer.choices[0]
    text = "".join(part.text for part in choice.parts if isinstance(part, Text)) + (choice.stop_string or "")
    written: dict[str, Any] = {"generated_text": request.repeats.get("inputs", "") + text}
    if request.include_usage:
        details = _details(choice.finish, choice.stop_string, answer.usage)
        written["details"] = {**details, "prefill": [], "tokens": []}
    return written


def write_root_answer(answer: Answer, request: Request) -> list[dict[str, Any]]:
    """The same for a client of `/`."""
    return [write_answer(answer, request)]


def _details(finish: FinishReason, stop_string: str | None, usage: Usage | None) -> dict[str, Any]:
    """The fields that both kinds of details share. The API has no word for an unknown count: it is 0."""
    reason = "length" if finish == "length" else "stop_sequence" if stop_string else "eos_token"
    return {"finish_reason": reason, "generated_tokens": (usage and usage.answer) or 0, "seed": None}


class _Reader:
    """Reads a target's stream: text as it comes, but for what may still become a stop string."""

    def __init__(self, request: Request, *, strip: bool) -> None:
        self.done = False
        self._request = request
        self._cutter = StopCutter(all_stops(request))
        self._strip = strip
        self._echo = (request.prompt or "") if request.echo else ""
        self._over = False

    def read(self, event: Any) -> list[StreamEvent]:
        """Neutral events of one parsed event; a text that is no JSON is passed over."""
        if self._over or not isinstance(event, dict):
            return []
        failure = failure_in(event) if "token" not in event or "error" in event else None
        if failure:
            self._over = True
            return [failure]
        events = self._text(_token_text(event))
        is_last = isinstance(event.get("generated_text"), str) or bool(event.get("details"))
        if self._cutter.found is not None or is_last:
            self.done = not is_last
            events += self._finish(event.get("details"))
        return events

    def end(self) -> list[StreamEvent]:
        """A `Failure` where no event said that the answer is complete."""
        if self._over:
            return []
        self._over = True
        return [Failure(UNFINISHED)]

    def _text(self, text: str) -> list[StreamEvent]:
        echo, self._echo = self._echo, ""
        if self._strip and text:
            text = text.lstrip()
            self._strip = not text
        text = echo + self._cutter.feed(text)
        return [TextDelta(text)] if text else []

    def _finish(self, details: Any) -> list[StreamEvent]:
        """The end, as the server says it or because a stop string was found that it has missed."""
        self._over = True
        stop = self._cutter.found
        rest = "" if stop else self._cutter.flush()
        events: list[StreamEvent] = [TextDelta(rest)] if rest else []
        events.append(Finish("stop" if stop else _finish(details), _client_stop(self._request, stop)))
        usage = _usage(details, self._request)
        return [*events, UsageReport(usage)] if usage else events


def _token_text(event: dict[str, Any]) -> str:
    """The text of an event's token; special tokens (the end of the text) are not meant to be read."""
    token = event.get("token")
    if not isinstance(token, dict) or token.get("special"):
        return ""
    text = token.get("text")
    return text if isinstance(text, str) else ""


def text_reader(request: Request) -> _Reader:
    """A reader for one stream that answers a client's own prompt."""
    return _Reader(request, strip=False)


def chat_reader(request: Request) -> _Reader:
    """A reader for one stream in a conversation, without the whitespace that the template provokes."""
    return _Reader(request, strip=True)


class Writer:
    """Writes a client's stream: a token an event, the last one with the whole text and the details."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._texts: list[str] = []
        self._finish: Finish | None = None
        self._usage: Usage | None = None

    def write(self, events: Iterable[StreamEvent]) -> list[Any]:
        """An event for each piece of text; the end is kept for `end`, since counts may follow it."""
        written = []
        for event in events:
            if isinstance(event, UsageReport):
                self._usage = event.usage
            elif isinstance(event, Finish):
                self._finish = self._finish or event
            elif isinstance(event, TextDelta) and event.text and self._finish is None:
                self._texts.append(event.text)
                written.append(self._event(event.text, special=False))
        return written

    def end(self) -> list[Any]:
        """The last event, with the whole text; raises UpstreamBroken for an unfinished answer."""
        finish = self._finish
        if finish is None:
            raise UpstreamBroken(UNFINISHED)
        stop = finish.stop_string or ""
        text = self._request.repeats.get("inputs", "") + "".join(self._texts) + stop
        self._texts.append(stop)
        last = {**self._event(stop, special=not stop), "generated_text": text}
        if self._request.include_usage:
            input_length = (self._usage and self._usage.prompt) or 0
            last["details"] = {
                **_details(finish.reason, finish.stop_string, self._usage),
                "input_length": input_length,
            }
        return [last]

    def _event(self, text: str, *, special: bool) -> dict[str, Any]:
        """Ids and probabilities of tokens are another model's affair: they are 0."""
        token = {"id": 0, "text": text, "logprob": 0.0, "special": special}
        return {"index": len(self._texts), "token": token, "generated_text": None, "details": None}


def write_error(error: ProxyError, request_id: str) -> dict[str, Any]:
    """The body of an error answer; the id has its place in a header only."""
    return {"error": str(error), "error_type": _ERROR_TYPES.get(error.status, "incomplete_generation")}


def _read_stream_request(body: Any, asked: Asked) -> Request:
    """A request at the path that always streams."""
    return replace(read_request(body), stream=True)


text_endpoint = Endpoint(
    kind="text",
    paths=("/generate",),
    read_request=read_request,
    write_request=write_text_request,
    read_answer=read_text_answer,
    write_answer=write_answer,
    stream_reader=text_reader,
    stream_writer=Writer,
    stream_path="/generate_stream",
)
chat_endpoint = replace(
    text_endpoint,
    kind="chat",
    write_request=write_chat_request,
    read_answer=read_chat_answer,
    stream_reader=chat_reader,
)
"""For targets only: no client sends messages here. It stands behind the text endpoint, to which the path leads."""

stream_endpoint = replace(
    text_endpoint, paths=("/generate_stream",), read_request=_read_stream_request, stream_path=None
)
root_endpoint = replace(text_endpoint, paths=("/",), read_request=read_root_request, write_answer=write_root_answer)

dialect = Dialect(
    name="tgi",
    doc="Text Generation Inference: /generate",
    base="",
    endpoints=(text_endpoint, chat_endpoint, stream_endpoint, root_endpoint),
    write_error=write_error,
    write_stream_error=write_error,
    probe=("/info", lambda status, body: isinstance(body, dict) and "model_id" in body),
    other_paths=frozenset(
        ["/info", "/health", "/ping", "/metrics", "/tokenize", "/chat_tokenize", "/invocations"],
    ),
)
