"""`mooltiproxy demo`: the toy TGI server, the proxy before it, and one question asked through the OpenAI protocol."""

import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from mooltiproxy.demo.processes import Child, Children, Interrupts
from mooltiproxy.errors import MooltiError

QUESTION = "Tell me about the lighthouse."
NEXT_QUESTION = "What does the dog do?"
START_TIMEOUT = 30.0
ANSWER_TIMEOUT = 30.0
LISTENING = "listening on "
CONFIG = """\
system: {{host: 127.0.0.1, port: {port}, drain: 1}}
targets:
  default: toy
  toy:
    url: {toy}
    mapping:
      /chat/completions:
        path: /generate
        in: chatReqOpenAItoTGI
        out: chatAnsTGItoOpenAI
        stream: chatStreamTGItoOpenAI
        prompter: fromTemplate
        template: HumanResponse
      /completions:
        path: /generate
        in: textReqOpenAItoTGI
        out: textAnsTGItoOpenAI
        stream: textStreamTGItoOpenAI
templates:
  HumanResponse: {{preprompt: "", start: "", system: "", user: "\\n### HUMAN:\\n", assistant: "\\n### RESPONSE:\\n"}}
"""
HOW_TO_GO_ON = """\

Go on with curl:

  {curl}

or with Python (pip install openai):

  from openai import OpenAI

  client = OpenAI(base_url="{base_url}", api_key="{key}")
  messages = [{{"role": "user", "content": "{question}"}}]
  for chunk in client.chat.completions.create(model="toy", messages=messages, temperature=0, stream=True):
      print(chunk.choices[0].delta.content or "", end="", flush=True)
"""


def run_demo() -> int:
    """Run it and give back the exit code; raises MooltiError if a part does not start or answer.

    In a terminal both processes stay until Ctrl-C. They are ended on every way out.
    """
    interrupts = Interrupts()
    with interrupts.installed(), TemporaryDirectory(prefix="mooltiproxy-demo-") as folder:
        with Children(Path(folder), interrupts) as children:
            key = secrets.token_hex(16)
            toy = _start_toy(children)
            port = _free_port()
            _start_proxy(children, Path(folder), toy, port, key)
            print(f"A toy model server that speaks TGI listens on {toy}, mooltiproxy on http://127.0.0.1:{port}.")
            _ask(port, key)
            print(_how_to_go_on(port, key))
            _stay(children)
    return 0


def _start_toy(children: Children) -> str:
    """Start the toy server; its address."""
    command = [sys.executable, "-m", "mooltiproxy.demo", "--delay", "0.03"]
    toy = children.start("toy server", command, _environment())
    toy.wait_until(lambda: LISTENING in toy.output and toy.output.endswith("\n"), START_TIMEOUT)
    return toy.output.strip().rpartition(LISTENING)[2]


def _start_proxy(children: Children, folder: Path, toy: str, port: int, key: str) -> Child:
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(port=port, toy=toy), encoding="utf-8")
    command = [sys.executable, "-m", "mooltiproxy", "serve", "--config", str(config)]
    proxy = children.start("proxy", command, {**_environment(), "MOOLTIPROXY_KEY": key})
    proxy.wait_until(lambda: _answers(port), START_TIMEOUT)
    return proxy


def _environment() -> dict[str, str]:
    """Ours without the settings of another proxy."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MOOLTIPROXY_")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _body(question: str) -> str:
    message = {"role": "user", "content": question}
    return orjson.dumps({"model": "toy", "stream": True, "temperature": 0, "messages": [message]}).decode()


def _ask(port: int, key: str) -> None:
    """Ask the question and print the answer as it arrives."""
    print(f"\nQuestion: {QUESTION}\nAnswer:   ", end="", flush=True)
    for text in _answer(port, key):
        print(text, end="", flush=True)
    print()


def _answer(port: int, key: str) -> Iterator[str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", _body(QUESTION), headers)
        yield from _deltas(connection.getresponse())
    except (OSError, HTTPException) as error:
        raise MooltiError(f"the answer broke off: {error!r}") from error
    finally:
        connection.close()


def _deltas(response: HTTPResponse) -> Iterator[str]:
    """The pieces of text in an OpenAI chat stream (platform.openai.com/docs/api-reference/chat-streaming)."""
    if response.status != 200:
        raise MooltiError(f"the proxy answered {response.status}: {response.read().decode(errors='replace')}")
    for line in response:
        data = line.decode().removeprefix("data:").strip()
        if data == "[DONE]":
            return
        chunk = orjson.loads(data) if data else {}
        if "error" in chunk:
            raise MooltiError(f"the answer broke off: {chunk['error']}")
        for choice in chunk.get("choices", ()):
            yield choice["delta"].get("content") or ""
    raise MooltiError("the answer broke off: the stream has no end")


def _how_to_go_on(port: int, key: str) -> str:
    base_url = f"http://127.0.0.1:{port}/v1"
    curl = (
        f"curl -N {base_url}/chat/completions -H 'Authorization: Bearer {key}'"
        f" -H 'Content-Type: application/json' -d '{_body(NEXT_QUESTION)}'"
    )
    return HOW_TO_GO_ON.format(curl=curl, base_url=base_url, key=key, question=NEXT_QUESTION)


def _stay(children: Children) -> None:
    """Wait for Ctrl-C where someone can press it."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("This is not a terminal, so both end now; run it in one, and they stay until Ctrl-C.", flush=True)
        return
    print("Both run until Ctrl-C.", flush=True)
    try:
        while True:
            children.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        print("\nEnding both.", flush=True)
