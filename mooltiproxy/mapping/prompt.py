"""Chat messages as one prompt string: the templates of five pieces, and what is shared by all prompters."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mooltiproxy.errors import BadRequest, MappingError

Message = Mapping[str, Any]
Pieces = Mapping[str, str]

PIECES = ("preprompt", "start", "system", "user", "assistant")

TEMPLATES: Mapping[str, Pieces] = MappingProxyType(
    {
        "HumanResponse": {
            "preprompt": "",
            "start": "",
            "system": "",
            "user": "\n### HUMAN:\n",
            "assistant": "\n### RESPONSE:\n",
        },
        "FalconInstruct": {
            "preprompt": "",
            "start": "",
            "system": "",
            "user": ">>>QUESTION<<<",
            "assistant": ">>>ANSWER<<<",
        },
    }
)
"""The built-in templates by name."""

DEFAULT_SYSTEM = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe. "
    "Please ensure that your responses are socially unbiased and positive in nature. If a question does not make any "
    "sense, or is not factually coherent, explain why instead of answering something not correct. If you don't know "
    "the answer to a question, please don't share false information."
)
"""The system prompt of Llama 2's authors, for conversations that have none."""

BOS = ("<s>", "<|begin_of_text|>", "<bos>", "<BOS_TOKEN>", "<\uff5cbegin\u2581of\u2581sentence\uff5c>")
"""Tokens that begin a text, as templates write them."""

_ROLES = {"developer": "system", "tool": "user", "function": "user"}


def without_bos(prompt: str, own: str = "") -> str:
    """A rendered prompt without its leading BOS, for a target whose tokenizer adds one; inner ones stay.

    `own` is the template's, where that is known.
    """
    return next((prompt.removeprefix(bos) for bos in (own, *BOS) if bos and prompt.startswith(bos)), prompt)


def plain_turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Role and text of each turn: roles are system, user or assistant, neighbours of one role are joined.

    Results of tools become the user's words, since a prompt has no place of their own for them; the calls themselves
    are left out. Raises BadRequest for an empty conversation, an unknown role, or content that is not text.
    """
    if not messages:
        raise BadRequest("messages must not be empty", param="messages")
    turns: list[tuple[str, list[str]]] = []
    for position, message in enumerate(messages):
        role, text = _role(message, position), text_of(message, position)
        if message.get("tool_calls") and not text:
            continue
        if turns and turns[-1][0] == role:
            turns[-1][1].append(text)
        else:
            turns.append((role, [text]))
    return [(role, "\n\n".join(texts)) for role, texts in turns]


def _role(message: Message, position: int) -> str:
    role = message.get("role")
    known = _ROLES.get(role, role) if isinstance(role, str) else None
    if known not in ("system", "user", "assistant"):
        where = f"messages[{position}].role"
        raise BadRequest(f"{where}: expected system, user, assistant or tool, got {role!r}", param=where)
    return known


def text_of(message: Message, position: int) -> str:
    """The text of a message, parts put together; raises BadRequest for content that is no text."""
    content = message.get("content")
    refusal = message.get("refusal")  # what an assistant said instead of an answer, or after its beginning
    declined = refusal if isinstance(refusal, str) else ""
    if content is None:
        return declined
    if isinstance(content, str):
        return content + declined
    where = f"messages[{position}].content"
    if not isinstance(content, list):
        raise BadRequest(f"{where}: expected a string or a list of parts", param=where)
    return "".join(_part_text(part, f"{where}[{number}]") for number, part in enumerate(content))


def _part_text(part: Any, where: str) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") in ("text", "refusal") else None
    if isinstance(text, str):
        return text
    kind = part.get("type") if isinstance(part, dict) else None
    raise BadRequest(f"{where}: this target takes text only, not {kind!r}", param="messages")


def render_pieces(messages: Sequence[Message], pieces: Pieces) -> tuple[str, list[str]]:
    """The prompt of a five-piece template, and its stop strings; raises BadRequest.

    Preprompt, system text and start come first; then each turn behind the piece of its role; the assistant's piece
    last. Nothing is added in between: newlines belong to the pieces.
    """
    system, turns = split_system(plain_turns(messages))
    body = "".join(pieces.get(role, "") + text for role, text in turns)
    prompt = pieces.get("preprompt", "") + system + pieces.get("start", "") + body + pieces.get("assistant", "")
    return prompt, marker_stops(pieces.get("user", ""))


def split_system(turns: list[tuple[str, str]]) -> tuple[str, list[tuple[str, str]]]:
    """The leading system text, or the default one, and the turns that follow."""
    if turns and turns[0][0] == "system":
        return turns[0][1], turns[1:]
    return DEFAULT_SYSTEM, turns


def marker_stops(marker: str) -> list[str]:
    """The stop strings of a role marker: itself, and stripped, as a model writes it at the start of its answer."""
    return list(dict.fromkeys(stop for stop in (marker, marker.strip()) if stop.strip()))


def pieces_of(config: Mapping[str, Any]) -> Pieces:
    """The pieces that `template` names or holds; HumanResponse without one; raises MappingError for an unknown name."""
    template = config.get("template") or "HumanResponse"
    if isinstance(template, Mapping):
        return template
    if template not in TEMPLATES:
        raise MappingError(f"there is no template {template!r}: name one of {', '.join(TEMPLATES)}")
    return TEMPLATES[template]
