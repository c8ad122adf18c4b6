"""What `models:` says of a model's requests, and how it is put into them.

`Settings` are made at load; `edit` makes an `Edit` of them for one request. A request that is translated is changed in
its neutral form (`Edit.apply`), one that passes to a target of the client's own API in its body (`Edit.edited`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Config, Endpoint, Kind
from mooltiproxy.mapping.forms import (
    Body,
    Conversation,
    Form,
    has_system,
    holds_messages,
    position_of,
    put_around,
    put_at,
    put_message,
    put_system,
    respelled,
    value_at,
)
from mooltiproxy.mapping.json_edit import with_fields
from mooltiproxy.mapping.neutral import Request, Sampling, Text, Turn

SAMPLING = frozenset(one.name for one in fields(Sampling)) - {"model_defaults"}
TOP = ("output", "reasoning", "tools", "tool_choice", "parallel_tool_calls", "user")
"""What can be set beside sampling, as fields of a `Request`."""
_SHOWN = {"output": "response_format", "reasoning": "reasoning_effort"}
LANGUAGE = "language"
"""The field of a body in which a client may name the language of a library's prompt; no target is told of it."""
GENERATING: frozenset[Kind] = frozenset({"chat", "text"})


@dataclass(frozen=True, slots=True)
class Values:
    """Some settings: those that every dialect reads into the neutral form, by its names, and those `own` to servers of
    open models, as their bodies call them."""

    neutral: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.neutral or self.own)


NOTHING = Values()


@dataclass(frozen=True, slots=True)
class Injection:
    """A message to put into conversations: before message number `at`, behind the last where that is None."""

    role: Literal["system", "user", "assistant"]
    content: str
    at: int | None


@dataclass(frozen=True, slots=True)
class PromptTexts:
    """A system prompt: one text, or one for each of several languages, the first being that of the others."""

    texts: Mapping[str, str]

    def best(self, languages: Sequence[str]) -> str:
        """The text in the first of these languages that there is one in: `pt-BR` also finds `pt`."""
        for wanted in languages:
            for known in (wanted.lower(), wanted.lower().partition("-")[0]):
                if known in self.texts:
                    return self.texts[known]
        return next(iter(self.texts.values()))


@dataclass(frozen=True, slots=True)
class Settings:
    """What is said of one model. `max_tokens` is the most that an answer may have, `temperature` the bounds of what
    clients may ask. With `around_last` only the user's last message gets `prefix` and `suffix`."""

    defaults: Values = NOTHING
    overrides: Values = NOTHING
    max_tokens: int | None = None
    system: PromptTexts | None = None
    system_time: bool = False
    prefix: str = ""
    suffix: str = ""
    around_last: bool = False
    inject: tuple[Injection, ...] = ()
    temperature: tuple[float, float] | None = None

    def edit(self, body: Any, accept_language: str, now: datetime) -> "Edit":
        """What they come to for one request: its parsed body, its `Accept-Language` and its time; raises BadRequest."""
        multilingual = self.system is not None and len(self.system.texts) > 1
        named = named_language(body) if multilingual else None
        languages = [*([named] if named else []), *(accepted_languages(accept_language) if multilingual else [])]
        text = self.system.best(languages) if self.system else ""
        return Edit(self, body, text, now if self.system_time else None, named is not None)


def time_text(now: datetime) -> str:
    """Time, with its zone, and date as a system prompt tells them, in the form of TabbyAPI-Proxy."""
    return now.strftime("Current time: %H:%M:%S %z\nToday: %Y-%m-%d")


@dataclass(slots=True)
class Edit:
    """The settings of a model for one request.

    `body` is the client's; where it names a language, that is for the proxy alone. `applied` names what was set,
    `dropped` what was cut or has no place.
    """

    settings: Settings
    body: Any
    system: str
    now: datetime | None
    is_language_said: bool
    applied: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def apply(self, request: Any) -> None:
        """Change a request in its neutral form."""
        if not isinstance(request, Request):
            return
        if self.is_language_said:
            request.extra.pop(LANGUAGE, None)
        if request.prompt is None:
            self._speak(request)
        for values, wins in ((self.settings.defaults, False), (self.settings.overrides, True)):
            for name, value in values.neutral.items():
                if wins or not _is_said(request, name):
                    _set(request, name, value)
                    self._note(name, wins=wins)
        self._check_temperature(request.sampling.temperature if _is_said(request, "temperature") else None)
        self._limit(request)

    def _note(self, name: str, *, wins: bool) -> None:
        self.applied.append(f"{_SHOWN.get(name, name)} ({'override' if wins else 'default'})")

    def _check_temperature(self, wanted: Any) -> None:
        bounds = self.settings.temperature
        if bounds is None or not isinstance(wanted, int | float) or bounds[0] <= wanted <= bounds[1]:
            return
        expected = f"expected {bounds[0]:g} to {bounds[1]:g}, got {wanted:g}"
        raise BadRequest(f"temperature: {expected}, which this proxy does not allow", param="temperature")

    def _limit(self, request: Request) -> None:
        most, wanted = self.settings.max_tokens, request.sampling.max_tokens
        if most is None:
            return
        if wanted is None or wanted > most:
            request.sampling.max_tokens = most
            self._clamped(wanted, most)

    def _clamped(self, wanted: int | None, most: int) -> None:
        self.applied.append(f"max_tokens (at most {most})")
        if wanted is not None:
            self.dropped.append(f"clamped max_tokens {wanted}->{most}")

    def _speak(self, request: Request) -> None:
        settings, turns = self.settings, list(request.turns)
        if settings.prefix or settings.suffix:
            first = _last_of_user(turns) if settings.around_last else 0
            around = [_surrounded(turn, settings.prefix, settings.suffix) for turn in turns[first:]]
            turns = [*turns[:first], *around]
            self.applied += [name for name in ("prefix", "suffix") if getattr(settings, name)]
        if self.system and not any(turn.role == "system" for turn in turns):
            turns.insert(0, Turn("system", [Text(self.system)]))
            self.applied.append("system")
        if self.now is not None:
            turns = _led(turns, time_text(self.now))
            self.applied.append("system_time")
        for message in settings.inject:
            leading = next((at for at, turn in enumerate(turns) if turn.role != "system"), len(turns))
            at = position_of(message.at, len(turns) - leading) + leading
            turns.insert(at, Turn(message.role, [Text(message.content)]))
            self.applied.append(f"inject {message.role}")
        request.turns = turns

    def add_own(self, written: dict[str, Any], target: Endpoint) -> None:
        """Put the settings that only servers of open models know into a written request; name them where that is not
        to be."""
        if target.kind not in GENERATING:
            return
        below = target.form.own if target.form else None
        for name, value, wins in self._own_values():
            place = f"{below}.{name}" if below else name
            if below is None:
                self.dropped.append(name)
            elif wins or value_at(written, place) is None and value_at(self.body, name) is None:
                put_at(written, place, value)
                self._note(name, wins=wins)

    def _own_values(self) -> list[tuple[str, Any, bool]]:
        defaults, overrides = self.settings.defaults.own, self.settings.overrides.own
        return [
            *((name, value, False) for name, value in defaults.items() if name not in overrides),
            *((name, value, True) for name, value in overrides.items()),
        ]

    def edited(self, data: bytes, endpoint: Endpoint, config: Config) -> bytes:
        """The bytes of a body that passes, changed where the settings want it.

        Raises BadRequest where a setting cannot be said to this target at all.
        """
        form, body = endpoint.form, self.body
        if form is None or not isinstance(body, dict):
            return data
        changed: Body = dict(body)
        if self.is_language_said:
            del changed[LANGUAGE]
        respelled(changed, form.spellings)
        talk = form.conversation
        if talk is not None and not (form.bare and body.get(form.bare)) and holds_messages(body, talk):
            self._speak_in(changed, talk)
        if form.places:
            self._set_in(changed, form, endpoint, config)
        self.add_own(changed, endpoint)
        names = {**body, **changed}
        differing = {name: changed.get(name) for name in names if body.get(name) is not changed.get(name)}
        return with_fields(data, differing) if differing else data

    def _speak_in(self, body: Body, form: Conversation) -> None:
        settings = self.settings
        if settings.prefix or settings.suffix:
            put_around(body, form, settings.prefix, settings.suffix, last_only=settings.around_last)
            self.applied += [name for name in ("prefix", "suffix") if getattr(settings, name)]
        if self.system and not has_system(body, form):
            put_system(body, form, self.system)
            self.applied.append("system")
        if self.now is not None:
            put_system(body, form, time_text(self.now))
            self.applied.append("system_time")
        for message in settings.inject:
            if not form.takes_messages:
                self.dropped.append("messages.inject")
                continue
            if message.role == "system" and not form.takes_system and "messages.system" not in self.dropped:
                self.dropped.append("messages.system")
            put_message(body, form, message.role, message.content, message.at)
            self.applied.append(f"inject {message.role}")

    def _set_in(self, body: Body, form: Form, endpoint: Endpoint, config: Config) -> None:
        """Set what every dialect reads, in the words of the endpoint's own writer."""
        wanted: dict[str, Any] = {}
        for values, wins in ((self.settings.defaults, False), (self.settings.overrides, True)):
            for name, value in values.neutral.items():
                if wins or not any(value_at(body, place) is not None for place in form.places.get(name, ())):
                    wanted[name] = value
                    self._note(name, wins=wins)
        places = form.places.get("temperature", ())
        said = next((value_at(body, place) for place in places if value_at(body, place) is not None), None)
        self._check_temperature(wanted.get("temperature", said))
        self._limit_in(body, form, wanted)
        if not wanted:
            return
        limit = _limit_of(body, form) if "reasoning" in wanted and "max_tokens" in form.places else None
        if limit is not None:
            wanted.setdefault("max_tokens", limit)  # an API may want room for thoughts in it
        written, dropped = _written(wanted, body, form, endpoint, config)
        self.dropped += dropped
        for name in wanted:
            places = form.places.get(name, ())
            found = {place: value_at(written, place) for place in places if value_at(written, place) is not None}
            if not found and _SHOWN.get(name, name) not in dropped:
                self.dropped.append(_SHOWN.get(name, name))
            for place in places if found else ():
                put_at(body, place, found.get(place))

    def _limit_in(self, body: Body, form: Form, wanted: dict[str, Any]) -> None:
        most = self.settings.max_tokens
        if most is None or "max_tokens" not in form.places:
            return
        asked = wanted.get("max_tokens") or _limit_of(body, form)
        if asked is None or asked > most:
            wanted["max_tokens"] = most
            self._clamped(asked, most)


def _limit_of(body: Body, form: Form) -> int | None:
    said = (value_at(body, place) for place in form.places["max_tokens"])
    return next((int(one) for one in said if isinstance(one, int | float) and not isinstance(one, bool)), None)


def _written(
    wanted: Mapping[str, Any], body: Body, form: Form, endpoint: Endpoint, config: Config
) -> tuple[dict[str, Any], list[str]]:
    """A request of nothing but what is wanted, as the endpoint's own writer puts it, and what that leaves out."""
    model = body.get("model") if isinstance(body.get("model"), str) else config.get("model")
    bare = Request(model=model or "?", sampling=Sampling(model_defaults=True))
    if endpoint.kind == "text":
        bare.prompt = "?"
    else:
        bare.turns = [Turn("user", [Text("?")])]
    bare.sampling.max_tokens = _limit_of(body, form) if "max_tokens" in form.places else None
    request = replace(bare, sampling=replace(bare.sampling))
    for name, value in wanted.items():
        _set(request, name, value)
    written = endpoint.write_request(request, config)
    before = endpoint.write_request(bare, config).dropped if written.dropped else ()
    return written.body, [name for name in written.dropped if name not in before]


def _is_said(request: Request, name: str) -> bool:
    if name not in SAMPLING:
        return getattr(request, name) not in (None, [])
    return name not in request.assumed and getattr(request.sampling, name) not in (None, ())


def _set(request: Request, name: str, value: Any) -> None:
    if name in SAMPLING:
        setattr(request.sampling, name, value)
    else:
        setattr(request, name, list(value) if isinstance(value, list) else value)


def _last_of_user(turns: Sequence[Turn]) -> int:
    """Where the user's last turn is; behind all where there is none."""
    return next((at for at in reversed(range(len(turns))) if turns[at].role == "user"), len(turns))


def _surrounded(turn: Turn, prefix: str, suffix: str) -> Turn:
    texts = [at for at, part in enumerate(turn.parts) if isinstance(part, Text)]
    if turn.role != "user" or not texts:
        return turn
    parts = list(turn.parts)
    for at, before, behind in ((texts[0], prefix, ""), (texts[-1], "", suffix)):
        part = parts[at]
        assert isinstance(part, Text)
        parts[at] = replace(part, text=before + part.text + behind)
    return replace(turn, parts=parts)


def _led(turns: list[Turn], text: str) -> list[Turn]:
    """The turns with text before those of the system, or as its only one."""
    if not turns or turns[0].role != "system":
        return [Turn("system", [Text(text)]), *turns]
    first = turns[0]
    if first.parts and isinstance(first.parts[0], Text):
        words = replace(first.parts[0], text=f"{text}\n\n{first.parts[0].text}")
        return [replace(first, parts=[words, *first.parts[1:]]), *turns[1:]]
    return [replace(first, parts=[Text(text), *first.parts]), *turns[1:]]


def named_language(body: Any) -> str | None:
    """The language that a body names; raises BadRequest for one that is no text."""
    value = body.get(LANGUAGE) if isinstance(body, dict) else None
    if value is not None and not isinstance(value, str):
        raise BadRequest("language: expected a language such as en or pl", param=LANGUAGE)
    return value


def accepted_languages(field_value: str) -> list[str]:
    """The languages of an `Accept-Language` field, the most wanted first (RFC 9110, section 12.5.4)."""
    wanted = []
    for number, item in enumerate(field_value.split(",")[:32]):
        tag, _, parameter = item.partition(";")
        weight = _weight(parameter)
        if tag.strip() not in ("", "*") and weight > 0:
            wanted.append((-weight, number, tag.strip()))
    return [tag for _, _, tag in sorted(wanted)]


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    try:
        return float(value) if name.strip().lower() == "q" else 1.0
    except ValueError:
        return 0.0
