"""The bodies of translated requests in the log (`system.debug`): as they came, as they went, with secrets masked."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mooltiproxy.config.model import Config
from mooltiproxy.mapping.answers import AnswerTranslator
from mooltiproxy.mapping.translate import Translated

log = logging.getLogger("mooltiproxy.bodies")

MASK = b"***"


def body_log(config: Config) -> "BodyLog | None":
    """The log that `system.debug` asks for; it masks every key that the configuration holds."""
    if not config.system.debug:
        return None
    keys = [config.system.masterkey, *(target.key for target in config.targets.values())]
    return BodyLog([key.encode() for key in keys if key])


class BodyLog:
    """Writes bodies to the log, one line each."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets

    def write(self, request_id: str, what: str, body: bytes) -> None:
        """Log a body under what it is."""
        for secret in self._secrets:
            body = body.replace(secret, MASK)
        log.info("%s: %s: %s", request_id, what, body.decode("utf-8", "backslashreplace"))

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
