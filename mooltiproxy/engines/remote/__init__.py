"""Engines with an API: servers that run already, somewhere, and load and unload models when they are told.

Each has a driver (see `engines/driver.py`) in a file of its own; what they have in common is in `common.py`.
"""

from collections.abc import Mapping

from mooltiproxy.engines.remote.common import Remote
from mooltiproxy.engines.remote.llama_cpp import LlamaCpp
from mooltiproxy.engines.remote.ollama import Ollama
from mooltiproxy.engines.remote.tabbyapi import TabbyAPI
from mooltiproxy.engines.remote.vllm import VLLM

DRIVERS: Mapping[str, type[Remote]] = {
    "llama.cpp": LlamaCpp,
    "ollama": Ollama,
    "tabbyapi": TabbyAPI,
    "vllm": VLLM,
}
"""By what `run.engine` says. Each is made of a session, the plan of the target, its `run`, and the model's name there;
one object for each run."""

__all__ = ["DRIVERS", "Remote"]
