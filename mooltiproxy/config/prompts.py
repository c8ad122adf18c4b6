"""The prompt library: `<language>/<name>.prompt` in the folder of `prompts:`, over the one that is built in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mooltiproxy.errors import ConfigError, Problem
from mooltiproxy.mapping.settings import PromptTexts

BUILT_IN = Path(__file__).parent.parent / "prompts"
SUFFIX = ".prompt"
FOLDER = "prompts"
LANGUAGE = "en"
MAX_SIZE = 1024 * 1024
"""Bytes of one prompt."""


@dataclass(frozen=True, slots=True)
class Library:
    """The texts of prompts by name and language; `language` is that of clients that want none of a prompt's."""

    language: str = LANGUAGE
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def named(self, name: str) -> PromptTexts | None:
        """A prompt in all its languages, the default one first; None where there is no such prompt in that one."""
        texts = self.texts.get(name, {})
        if self.language not in texts:
            return None
        return PromptTexts({self.language: texts[self.language], **texts})

    def find(self, name: str, languages: Sequence[str]) -> str | None:
        """A prompt in the first of these languages that it is there in, or the default one."""
        found = self.named(name)
        return found.best(languages) if found else None

    @property
    def names(self) -> list[str]:
        """The prompts that are there in the default language."""
        return sorted(name for name, texts in self.texts.items() if self.language in texts)

    @property
    def languages(self) -> set[str]:
        """The languages of all prompts."""
        return {language for texts in self.texts.values() for language in texts}


def read_library(folder: Path | None, language: str = LANGUAGE) -> Library:
    """The built-in prompts and those of the folder, which go first; raises ConfigError with every file at fault."""
    texts: dict[str, dict[str, str]] = {}
    problems: list[Problem] = []
    for root in (BUILT_IN, *([folder] if folder else [])):
        for file in sorted(root.glob(f"*/*{SUFFIX}")):
            try:
                texts.setdefault(file.stem, {})[file.parent.name.lower()] = _text_of(file)
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return Library(language.lower(), texts)


def _text_of(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_SIZE + 1)
        text = data.decode("utf-8-sig").strip()
    except OSError as error:
        raise _wrong(file, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _wrong(file, "not UTF-8: save the file with that encoding", line) from None
    if not text or len(data) > MAX_SIZE:
        raise _wrong(file, f"expected a prompt's text, at most {MAX_SIZE} bytes of it", 1)
    return text


def _wrong(file: Path, message: str, line: int = 0) -> ConfigError:
    return ConfigError(Problem(message, line=line, file=str(file)))
