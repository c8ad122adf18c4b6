"""Environment variables of the projects that this one grew from."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mooltiproxy.config.model import Config
from mooltiproxy.config.shapes import Where
from mooltiproxy.errors import ConfigError, Problem

LLM_PROXY_API = "LLM_PROXY_API_"
_PREFIX = f"{LLM_PROXY_API}EP_PREFIX"
_LANGUAGE = f"{LLM_PROXY_API}DEFAULT_EP_LANGUAGE"
_PLACES: Mapping[str, Where] = {
    f"{LLM_PROXY_API}TIMEOUT": ("system", "timeout"),
    f"{LLM_PROXY_API}EXTERNAL_TIMEOUT": ("system", "timeout"),
    f"{LLM_PROXY_API}SERVER_HOST": ("system", "host"),
    f"{LLM_PROXY_API}SERVER_PORT": ("system", "port"),
    f"{LLM_PROXY_API}PROMPTS_DIR": ("prompts", "dir"),
    _LANGUAGE: ("prompts", "language"),
    _PREFIX: ("rest", "prefix"),
}
_DEFAULTS = {_PREFIX: "/api", _LANGUAGE: "pl"}
"""What counts where LLM_PROXY_API_MINIMUM says that the variables are there for llm-proxy-api."""
DESTINATION = "destination"
EVERY = "*"
_ENDPOINTS = {"ENDPOINT_COMPLETIONS": "/v1/chat/completions", "ENDPOINT_MODELS": "/v1/models"}
_WORDS = {"MESSAGE_PREFIX": "\n\n### Instruction:\n", "MESSAGE_SUFFIX": "\n\n### Response:\n"}
_PORT = 3456
_TIMEOUT = {"connect": 30, "first_byte": 600, "idle": 600}
_NO = ("", "0", "false", "no", "f", "n", "off")


def llm_proxy_api(environ: Mapping[str, str]) -> Iterator[tuple[str, Where, str]]:
    """What llm-proxy-api's variables set: each with its place in the file and its value, as text."""
    said = {name: value.strip() for name, value in environ.items() if value.strip()}
    defaults = _DEFAULTS if _is_set(said, "MINIMUM") else {}
    for name, place in _PLACES.items():
        value = said.get(name, defaults.get(name, ""))
        if value:
            yield name, place, f"/{value.strip('/')}" if name == _PREFIX else value
    if _is_set(said, "IN_DEBUG"):
        yield f"{LLM_PROXY_API}IN_DEBUG", ("system", "debug"), "true"


def models_config(environ: Mapping[str, str]) -> Path | None:
    """The models-config.json that llm-proxy-api would read, where a variable names it."""
    said = environ.get(f"{LLM_PROXY_API}MODELS_CONFIG", "").strip()
    return Path(said) if said else None


def _is_set(said: Mapping[str, str], name: str) -> bool:
    return said.get(LLM_PROXY_API + name, "").lower() not in _NO


def interstitial(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """The configuration that interstitial_API's variables stand for; None where they name no server.

    Raises ConfigError for a PROMPT_INJECTOR that it does not know.
    """
    url = environ.get("DESTINATION_API", "").strip()
    if not url:
        return None
    mapping = {path: said for name, path in _ENDPOINTS.items() if (said := environ.get(name) or path) != path}
    model = {"target": DESTINATION, "name": environ.get("MODEL_OVERRIDE", "").strip() or EVERY, **_words(environ)}
    return {
        "system": {"port": environ.get("LOCAL_PORT") or _PORT, "timeout": dict(_TIMEOUT)},
        "targets": {"default": DESTINATION, DESTINATION: {"url": url, "speaks": "openai", "mapping": mapping}},
        "models": {EVERY: model},
    }


def _words(environ: Mapping[str, str]) -> dict[str, Any]:
    """What stands before and behind the user's last words: around them, or as messages of the system."""
    injector = environ.get("PROMPT_INJECTOR", "").strip()
    before, behind = (environ.get(name, words).replace("\\n", "\n") for name, words in _WORDS.items())
    if injector == "user":
        return {"prefix": before, "suffix": behind}
    if injector == "system":
        return {
            "inject": [{"role": "system", "content": words, "at": at} for words, at in ((before, -1), (behind, "end"))]
        }
    if injector:
        raise ConfigError(Problem("expected user, system or nothing", file="PROMPT_INJECTOR"))
    return {}


def only_last(config: Config) -> Config:
    """The same configuration, with words around the user's last message and no others, as interstitial_API has it."""
    every = config.models[EVERY]
    if every.settings is None:
        return config
    settings = replace(every.settings, around_last=True)
    return replace(config, models={**config.models, EVERY: replace(every, settings=settings)})
