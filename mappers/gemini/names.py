"""The names of models and of functions as the API takes them."""

import re

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.model_names import MODEL_NAME, required_model
from mooltiproxy.mapping.tool_names import NameRule

MODELS = "/v1beta/models"
_OLDER = re.compile(r"gemini-[12](?:\D|$)")
FUNCTIONS = NameRule(re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}"), re.compile(r"[^A-Za-z0-9_.:-]"))
"""The names of functions. The service takes 128 characters by now; 64 are what every model takes."""


def plain_model(name: str | None) -> str | None:
    """A model's name without the collection that it may be written with (`models/x`)."""
    return name.removeprefix("models/") if name else None


def model_path(model: str | None, method: str = "") -> str:
    """Where a method of a model is asked; raises BadRequest for no name and for one that no path can hold."""
    name = required_model(plain_model(model))
    if not re.fullmatch(MODEL_NAME, name):
        raise BadRequest("model: this cannot be the name of a model", param="model")
    return f"{MODELS}/{name}:{method}" if method else f"{MODELS}/{name}"


def is_older(model: str | None) -> bool:
    """Whether a model is of the generations before Gemini 3: they think by budget, and sign no calls."""
    return bool(_OLDER.search(model or ""))


def is_newer(model: str | None) -> bool:
    """Whether a model is a Gemini of generation 3 or later, as `gemini-flash-latest` is by now."""
    return "gemini" in (model or "") and not is_older(model)
