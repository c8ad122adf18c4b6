"""Chat templates (Jinja), rendered as transformers' `apply_chat_template` does, and what is known of each.

`ChatTemplate` is compiled once, when the configuration is loaded; `TargetTemplate` is one that its target is asked for
at first use. jinja2 is imported with the first of them.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from mooltiproxy.errors import BadRequest, InternalError, MappingError, UpstreamBroken
from mooltiproxy.mapping.formats import FORMATS, Facts, recognised, source_of

if TYPE_CHECKING:
    from jinja2 import Template

log = logging.getLogger("mooltiproxy.mapping")

Messages = Sequence[Mapping[str, Any]]

MAX_SOURCE = 512 * 1024
"""Characters of a template; the longest that models have come with are a tenth of this."""

DEFAULT, TOOL_USE = "default", "tool_use"
"""Of several templates of one model: the one for conversations, and the one for those with tools."""

RESERVED = frozenset(("messages", "tools", "documents", "add_generation_prompt"))
"""Variables of a template that a client does not set."""

_REASONING = ("reasoning_content", "thinking", "reasoning")
_TAG = "CONTINUE_FINAL_MESSAGE_TAG "
_UNCONTINUED = "the chat template changes the last message, so that it cannot be continued: end with the user's"
_LITTLE = 0.05
"""The share of the limits that a template gets for being tried out."""
_PROBE = "mooltiproxy-probe"
_BREAK = "\u200b"
_TOOLS = re.compile(r"\btools\b")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_SHORT_ID = re.compile(r"length\s*(?:!=|==|\|)\s*9")


class BadTemplate(MappingError):
    """A template that cannot be compiled; `line` is where, 0 if that is not known."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class TemplateNeeded(Exception):
    """The target has to be asked for its template first: `template.learn` takes what it answers."""

    def __init__(self, template: "TargetTemplate") -> None:
        super().__init__("the target's own template")
        self.template = template


class ChatTemplate:
    """A compiled template with its tokens and variables, and the facts of its format.

    `sources` are the texts by name, one of them `default`; `tokens` the special tokens as variables (`bos_token`);
    `variables` what the template sees besides, unless a request says otherwise. `facts` are those of the format that
    `known_as` names, or of the one that is recognised. Raises BadTemplate.
    """

    def __init__(
        self,
        name: str,
        sources: Mapping[str, str],
        tokens: Mapping[str, str] | None = None,
        *,
        known_as: str | None = None,
        stops: Sequence[str] = (),
        control: Sequence[str] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        if DEFAULT not in sources:
            raise BadTemplate(f"there is no template of the name {DEFAULT}: there are {', '.join(sources) or 'none'}")
        self._compiled = {one: _compiled(source) for one, source in sources.items()}
        self.source = sources[DEFAULT] + sources.get(TOOL_USE, "")
        self._is_own = known_as is not None and sources[DEFAULT] == source_of(known_as)
        self.format = known_as or recognised(self.source)
        known = FORMATS[self.format].facts if self.format else Facts()
        self.tokens = dict(tokens or {})
        if self._is_own:
            self.tokens = {"bos_token": known.bos, "eos_token": known.eos} | self.tokens
        self.variables = dict(variables or {})
        self.bos = self.tokens.get("bos_token") or known.bos
        self.facts = self._facts(known, stops, control)
        self.short_ids = "[TOOL_CALLS]" in self.source or bool(_SHORT_ID.search(self.source))
        self.knows_tools = bool(_TOOLS.search(_COMMENT.sub("", self.source)))
        self.knows_developer = "developer" in self.source
        self.wants_parts = self._wants_parts()
        self.words = control_words(self.facts.control)

    def _facts(self, known: Facts, stops: Sequence[str], control: Sequence[str]) -> Facts:
        """The format's facts, with what this very template tells of itself."""
        eos = self.tokens.get("eos_token", "")
        facts = replace(
            known,
            stops=tuple(dict.fromkeys(stop for stop in (*stops, *known.stops, eos) if stop)),
            control=tuple(dict.fromkeys(word for word in (*known.control, *control, *self.tokens.values()) if word)),
        )
        if self._is_own:
            return facts
        return replace(facts, alternates=self._alternates(), one_system=False)

    def _alternates(self) -> bool:
        """Whether two questions in a row are refused where one is not."""
        once, twice = ([{"role": "user", "content": "a"}] * times for times in (1, 2))
        return self._tried(once) is not None and self._tried(twice) is None

    def _wants_parts(self) -> bool:
        """Whether the template goes through a list of parts and finds nothing in a text."""
        as_text, as_parts = (
            self._tried([{"role": "user", "content": content}])
            for content in (_PROBE, [{"type": "text", "text": _PROBE}])
        )
        return _PROBE in (as_parts or "") and _PROBE not in (as_text or "")

    def _tried(self, messages: Messages) -> str | None:
        from mooltiproxy.mapping import sandbox

        try:
            return sandbox.rendered(self._compiled[DEFAULT], self._seen(messages, None, None, True, {}), _LITTLE)
        except Exception:  # noqa: BLE001 - a template may raise anything, and this only asks whether it does
            return None

    def render(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt, as transformers would render it; `variables` are `chat_template_kwargs` of a request.

        Raises BadRequest for what the template refuses or cannot render, InternalError where it wants too much.
        """
        if not messages:
            raise BadRequest("messages must not be empty", param="messages")
        conversation = [_normal(message) for message in messages]
        if continue_final_message and "content" not in self.source:
            raise BadRequest(_UNCONTINUED, param="messages")
        tagged = _tag_last(conversation) if continue_final_message else ""
        template = self._compiled[TOOL_USE if tools is not None and TOOL_USE in self._compiled else DEFAULT]
        begins = add_generation_prompt and not continue_final_message
        seen = self._seen(conversation, tools, documents, begins, variables or {})
        text = self._rendered(template, seen)
        return _continued(text, tagged) if continue_final_message else text

    def _seen(
        self,
        messages: Messages,
        tools: Any,
        documents: Any,
        add_generation_prompt: bool,
        variables: Mapping[str, Any],
    ) -> dict[str, Any]:
        own = {"tools": tools, "documents": documents, "add_generation_prompt": add_generation_prompt}
        return {**self.tokens, **self.variables, **variables, "messages": messages, **own}

    def _rendered(self, template: "Template", seen: Mapping[str, Any]) -> str:
        from jinja2.exceptions import SecurityError

        from mooltiproxy.mapping import sandbox

        try:
            return sandbox.rendered(template, seen)
        except sandbox.Raised as error:
            raise BadRequest(f"the chat template refuses these messages: {error}", param="messages") from error
        except (sandbox.TooMuch, SecurityError, OverflowError, MemoryError, RecursionError) as error:
            log.error("the chat template %s was stopped: %s", self.name, error)
            raise InternalError(f"the chat template {self.name} was stopped: {_reason(error)}") from error
        except Exception as error:
            message = f"the chat template {self.name} cannot render these messages: {_reason(error)}"
            raise BadRequest(message, param="messages") from error


class TargetTemplate:
    """The template that a target says is its model's own, known once the target has been asked (`TemplateNeeded`)."""

    paths = ("/props", "/info")
    """Where llama.cpp's server and TGI tell of themselves."""

    def __init__(self, target: str) -> None:
        self.name = f"of target {target}"
        self.target = target
        self._known: ChatTemplate | None = None

    @property
    def is_known(self) -> bool:
        """Whether the target has told it."""
        return self._known is not None

    @property
    def known(self) -> ChatTemplate:
        """The template; raises TemplateNeeded."""
        if self._known is None:
            raise TemplateNeeded(self)
        return self._known

    @property
    def bos(self) -> str:
        """What its prompts may begin with; raises TemplateNeeded."""
        return self.known.bos

    def learn(self, answers: Sequence[Any]) -> None:
        """Take the template out of what the target answered at `paths` (None: no JSON); raises UpstreamBroken."""
        told = next((one for one in answers if isinstance(one, dict) and one.get("chat_template")), None)
        if told is None:
            paths = " and ".join(self.paths)
            message = f"target {self.target} tells no chat template at {paths}: name one by `template:` in the file"
            raise UpstreamBroken(message)
        tokens = special_tokens(told)
        try:
            self._known = ChatTemplate(self.name, named_sources(told["chat_template"]), tokens)
        except BadTemplate as error:
            raise UpstreamBroken(f"the chat template of target {self.target} cannot be used: {error}") from error


@cache
def built_in(name: str) -> ChatTemplate:
    """The template of a built-in format, compiled once."""
    return ChatTemplate(name, {DEFAULT: source_of(name)}, known_as=name)


def named_sources(value: Any) -> dict[str, str]:
    """`chat_template` of a tokenizer_config.json: a text, or a list of `{name, template}`; raises BadTemplate."""
    if isinstance(value, str):
        return {DEFAULT: value}
    entries = value if isinstance(value, list) else [None]
    named = {}
    for entry in entries:
        name, source = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(source, str):
            raise BadTemplate("expected chat_template to be a text, or a list of names with their templates")
        named[name] = source
    return named


def special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens of a tokenizer_config.json, by name: each is a text, or an object that holds it."""
    found = {}
    for name, value in config.items():
        if name.endswith("_token"):
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                found[name] = text
    return found


def broken_up(value: Any, words: "re.Pattern[str]") -> Any:
    """A JSON value whose texts hold none of these words any more: each has got an invisible character inside."""
    if isinstance(value, str):
        while words.search(value):
            value = words.sub(lambda found: found[0][0] + _BREAK + found[0][1:], value)
        return value
    if isinstance(value, dict):
        return {broken_up(key, words): broken_up(one, words) for key, one in value.items()}
    return [broken_up(one, words) for one in value] if isinstance(value, list | tuple) else value


def control_words(control: Sequence[str]) -> "re.Pattern[str] | None":
    """A pattern for any of a format's control words, the longest first; None where it has none."""
    words = sorted((word for word in control if len(word) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, words))) if words else None


def _compiled(source: str) -> "Template":
    from jinja2.exceptions import TemplateSyntaxError

    from mooltiproxy.mapping import sandbox

    if len(source) > MAX_SOURCE:
        raise BadTemplate(f"a template of more than {MAX_SOURCE} characters is not taken")
    try:
        return sandbox.environment().from_string(source)
    except TemplateSyntaxError as error:
        raise BadTemplate(error.message or "syntax error", error.lineno) from error
    except (SyntaxError, RecursionError, ValueError, MemoryError) as error:
        raise BadTemplate(f"this is nested too deeply, or no template: {error}") from error


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).replace("\n", " ")[:500]


def _normal(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without what is null, its thoughts under each name that templates know."""
    own = {name: value for name, value in message.items() if value is not None}
    thought = next((own[name] for name in _REASONING if name in own), None)
    return own if thought is None else {"thinking": thought, **own, "reasoning_content": thought}


def _tag_last(messages: list[dict[str, Any]]) -> str:
    """Mark the end of the last message's text; gives the text. Raises BadRequest where it has none."""
    content = messages[-1].get("content")
    if isinstance(content, str):
        messages[-1]["content"] = content + _TAG
        return content
    parts = list(content) if isinstance(content, list) else []
    for at in reversed(range(len(parts))):
        if isinstance(parts[at], dict) and isinstance(parts[at].get("text"), str):
            text: str = parts[at]["text"]
            parts[at] = {**parts[at], "text": text + _TAG}
            messages[-1]["content"] = parts
            return text
    raise BadRequest("the last message has no text to go on with", param="messages")


def _continued(text: str, last: str) -> str:
    """The prompt up to the mark; raises BadRequest where the template has left out what was to be continued."""
    tag = _TAG.strip()
    if last.strip() not in text or tag not in text:
        raise BadRequest(_UNCONTINUED, param="messages")
    at = text.rindex(tag)
    return text[:at] if text.startswith(_TAG, at) else text[:at].rstrip()
