"""The names of models: what may stand for `{model}` in a path, what a tag behind one means, and that some APIs want
one."""

from collections.abc import Container

from mooltiproxy.errors import BadRequest

_PIECE = r"\.*[A-Za-z0-9_:@+-][A-Za-z0-9._:@+-]*"

MODEL_NAME = f"{_PIECE}(?:/{_PIECE})*"
"""A model's name as a regular expression: it may hold slashes, but no piece that is empty or all dots, for these would
lead to another path."""

LATEST = ":latest"
"""What a name without a tag means where names have tags."""


def without_tag(name: str) -> str:
    """A name without what stands behind its last colon; a colon before a slash belongs to a host."""
    before, colon, tag = name.rpartition(":")
    return before if colon and before and tag and "/" not in tag else name


def known_as(name: str, names: Container[str]) -> str | None:
    """What a name is called among those that are known: as it is, with the usual tag, or without its own."""
    for spelling in (name, name + LATEST, without_tag(name)):
        if spelling in names:
            return spelling
    return None


def required_model(model: str | None) -> str:
    """The model that a target must be told; raises BadRequest where the client named none."""
    if not model:
        remedy = "send its name, or name one for this target under `models:` in the proxy's configuration"
        raise BadRequest(f"model: this target must be told which model to ask: {remedy}", param="model")
    return model
