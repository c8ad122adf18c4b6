"""A proxy process in front of a toy TGI process, with a configuration file of the seed's form."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.clients.node import install
from tests.servers.proxy_process import KEY, free_port, running_proxy
from tests.servers.toy import Toy, running_toy

SEED_CONFIG = """\
system:
  ssl: false
  debug: true
  port: {port}
  timeout: 30
  masterkey: not-used-because-the-environment-wins

cerbere:
  max_tries: 5
  whitelist:
    - 127.0.0.1
  blacklist: []

targets:
  default: streaming
  streaming:
    url: {toy}
    mapping:
      /health:
      /info:
      /generate:
      /generate_stream:
      /completions:
        path: /generate
        in: textReqOpenAItoTGI
        out: textAnsTGItoOpenAI
        stream: textStreamTGItoOpenAI
      /chat/completions:
        path: /generate
        in: chatReqOpenAItoTGI
        out: chatAnsTGItoOpenAI
        stream: chatStreamTGItoOpenAI
        prompter: fromTemplate
        template: HumanResponse
  seed:
    url: {toy}
    preserveMethod: true
    mapping:
      /completions:
        path: /generate
        in: textReqOpenAItoTGI
        out: textAnsTGItoOpenAI
      /chat/completions:
        path: /generate
        in: chatReqOpenAItoTGI
        out: chatAnsTGItoOpenAI
        prompter: llama2_chat

templates:
  HumanResponse:
    preprompt: "### SYSTEM:\\n"
    start: ""
    system: "\\n### SYSTEM:\\n"
    user: "\\n### HUMAN:\\n"
    assistant: "\\n### RESPONSE:\\n"
"""


class Served(NamedTuple):
    """The proxy's root URL and key, and the toy server behind it."""

    url: str
    key: str
    toy: Toy


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("proxy")
    port = free_port()
    with running_toy("--delay", "0.002") as toy:
        with running_proxy(folder, SEED_CONFIG.format(port=port, toy=toy.url)):
            yield Served(f"http://127.0.0.1:{port}", KEY, toy)


@pytest.fixture(scope="session")
def npm_packages() -> None:
    """Node, and what the scripts in javascript/ import."""
    install()
