"""The prompter for templates of five pieces."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mooltiproxy.mapping.prompt import pieces_of, render_pieces


def fromTemplate(
    messages: Sequence[Mapping[str, Any]], cfg: Mapping[str, Any] = MappingProxyType({})
) -> tuple[str, list[str]]:
    """Put each message behind its piece of `template` (preprompt, start, system, user, assistant).

    The stop strings are the user's piece, and the same without surrounding whitespace. Raises BadRequest for a
    conversation that is empty or holds more than text.
    """
    return render_pieces(messages, pieces_of(cfg))
