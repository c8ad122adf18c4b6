"""The names of models: what may stand for `{model}` in a path, and that some APIs want one."""

from mooltiproxy.errors import BadRequest

_PIECE = r"\.*[A-Za-z0-9_:@+-][A-Za-z0-9._:@+-]*"

MODEL_NAME = f"{_PIECE}(?:/{_PIECE})*"
"""A model's name as a regular expression: it may hold slashes, but no piece that is empty or all dots, for these would
lead to another path."""


def required_model(model: str | None) -> str:
    """The model that a target must be told; raises BadRequest where the client named none."""
    if not model:
        remedy = "send its name, or name one for this target under `models:` in the proxy's configuration"
        raise BadRequest(f"model: this target must be told which model to ask: {remedy}", param="model")
    return model
