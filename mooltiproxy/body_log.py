"""The bodies of requests and answers in the log (`system.debug`): as they came, as they went, with secrets masked."""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mooltiproxy.config.model import Config
from mooltiproxy.mapping.answers import AnswerTranslator
from mooltiproxy.mapping.translate import Translated

log = logging.getLogger("mooltiproxy.bodies")

MASK = b"***"
READABLE = ("application/json", "application/x-ndjson", "text/")
"""Media types of bodies that are logged where nothing is translated; others may be of any size."""
COLOURS = {"request": "36", "answer": "32"}
"""SGR codes by the first word of what a body is: cyan for what comes in, green for what the model says."""
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
"""What a terminal would obey: a body must not move its cursor or change its title."""


def body_log(config: Config) -> "BodyLog | None":
    """The log that `system.debug` asks for; it masks every key that the configuration holds."""
    if not config.system.debug:
        return None
    keys = [config.system.masterkey, *(target.key for target in config.targets.values())]
    return BodyLog([key.encode() for key in keys if key])


class BodyLog:
    """Writes bodies to the log, one record each."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets

    def write(self, request_id: str, what: str, body: bytes) -> None:
        """Log a body under what it is."""
        for secret in self._secrets:
            body = body.replace(secret, MASK)
        text = body.decode("utf-8", "backslashreplace").translate(_CONTROLS)
        log.info("%s: %s: %s", request_id, what, text, extra={"colour": COLOURS.get(what.partition(" ")[0], "")})

    def pieces(self, request_id: str, what: str) -> Callable[[bytes], None]:
        """What logs a body piece by piece."""
        return lambda data: self.write(request_id, what, data)

    def watched(self, request_id: str, translated: Translated) -> Translated:
        """The same translation, its answer logged on both sides."""
        answer = translated.answer
        return replace(translated, answer=lambda *told: self._watched(request_id, answer, *told))

    def _watched(
        self,
        request_id: str,
        answer: Callable[[str, Mapping[str, str]], AnswerTranslator | None],
        media_type: str,
        fields: Mapping[str, str],
    ) -> AnswerTranslator | None:
        translator = answer(media_type, fields)
        return None if translator is None else _Watched(translator, self, request_id)


class _Watched:
    """An answer's translator whose bytes are logged as they pass."""

    def __init__(self, translator: AnswerTranslator, body_log: BodyLog, request_id: str) -> None:
        self._translator = translator
        self._log = body_log
        self._id = request_id
        self.media_type = translator.media_type
        self.live = translator.live

    @property
    def done(self) -> bool:
        return self._translator.done

    def feed(self, data: bytes) -> bytes:
        self._log.write(self._id, "answer of the target", data)
        return self._written(self._translator.feed(data))

    def end(self) -> bytes:
        return self._written(self._translator.end())

    def fail(self, event: object) -> bytes:
        return self._written(self._translator.fail(event))

    def _written(self, data: bytes) -> bytes:
        if data:
            self._log.write(self._id, "answer to the client", data)
        return data


class Coloured(logging.Formatter):
    """Colours the records of bodies, for people who watch."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, in its colour if it has one."""
        line = super().format(record)
        colour = getattr(record, "colour", "")
        return f"\x1b[{colour}m{line}\x1b[0m" if colour else line


def formatter() -> logging.Formatter:
    """What writes records to standard error: in colours where that is a terminal, unless NO_COLOR (no-color.org) is
    set."""
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return (Coloured if coloured else logging.Formatter)("%(levelname)s %(message)s")


def is_readable(media_type: str, content_encoding: str) -> bool:
    """Whether a body that passes is text that a person may read."""
    return media_type.startswith(READABLE) and content_encoding.lower() in ("", "identity")
