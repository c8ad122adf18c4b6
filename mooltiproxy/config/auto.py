"""`speaks: auto`: a target is asked what it speaks, where somebody who may ask is at hand."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mooltiproxy.config.document import Document
from mooltiproxy.errors import Problem, UpstreamError
from mooltiproxy.mapping.dialect import Dialect

AUTO = "auto"
Probe = Callable[[str, str | None, Iterable[Dialect]], Sequence[str]]
"""Asks the server at a url, with its key, which of these dialects it speaks, the best first; raises UpstreamError."""

_UNASKED = "openai"


def find_out(
    document: Document, probe: Probe | None, dialects: Iterable[Dialect], environ: Mapping[str, str]
) -> list[Problem]:
    """Put what the servers answer in the place of `auto`; the warnings for those that were not asked.

    A server that cannot be asked is one of the document's problems.
    """
    warnings = []
    for name, target in _automatic(document.data):
        where = ("targets", name, "speaks")
        if "run" in target:
            text = "expected the API that the server has: with `run:` it is not there to be asked"
            target["speaks"] = _UNASKED
            document.problems.append(document.problem(where, text))
            continue
        if "tls" in target:
            target["speaks"] = _UNASKED
            text = "expected the API that the server has: one with `tls:` is not asked"
            document.problems.append(document.problem(where, text))
            continue
        if probe is None:
            target["speaks"] = _UNASKED
            warnings.append(document.problem(where, f"the target is not asked here: it is taken to speak {_UNASKED}"))
            continue
        try:
            target["speaks"] = list(probe(str(target.get("url")), _key(target, environ), dialects))
        except (UpstreamError, ValueError) as error:
            target["speaks"] = _UNASKED
            text = f"what it speaks cannot be found out: {error}; start it first, or name the API"
            document.problems.append(document.problem(where, text))
    return warnings


def _key(target: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """The target's key as the file has it, which nothing has checked yet."""
    found = target.get("key") or environ.get(str(target.get("envkey")), "")
    return found if isinstance(found, str) and found.isascii() and found.isprintable() and found else None


def _automatic(data: Any) -> list[tuple[str, dict[str, Any]]]:
    targets = data.get("targets") if isinstance(data, dict) else None
    return [
        (name, target)
        for name, target in (targets.items() if isinstance(targets, dict) else ())
        if isinstance(target, dict) and target.get("speaks") in (AUTO, [AUTO])
    ]
