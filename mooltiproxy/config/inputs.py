"""What a configuration was read from, so that another process can read the very same."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mooltiproxy.config.auto import Probe
from mooltiproxy.config.document import text_of
from mooltiproxy.mapping.dialect import Dialect


@dataclass(frozen=True, slots=True)
class Inputs:
    """The text of the file, None without one, and what targets with `speaks: auto` have answered: url, key, APIs.
    `store` is where several processes count together if the file names no place for that, "" for none."""

    text: str | None = field(default=None, repr=False)
    spoken: list[tuple[str, str | None, Sequence[str]]] = field(default_factory=list, repr=False)
    store: str = ""

    @classmethod
    def of(cls, file: Path | None) -> "Inputs":
        """Those of a file as it is now; raises ConfigError where it cannot be read."""
        return cls(text_of(file) if file else None)

    def probe(self, ask: Probe) -> Probe:
        """Asks whom nobody has asked so far."""

        def asked(url: str, key: str | None, dialects: Iterable[Dialect]) -> Sequence[str]:
            for known_url, known_key, spoken in self.spoken:
                if (known_url, known_key) == (url, key):
                    return spoken
            self.spoken.append((url, key, ask(url, key, dialects)))
            return self.spoken[-1][2]

        return asked
