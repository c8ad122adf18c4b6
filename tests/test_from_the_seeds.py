"""The examples of docs/from-the-seeds.md at work: settings of users of the five projects, before scripted targets."""

import asyncio
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

from tests.servers.proxy import BEARER, KEY, proxy
from tests.servers.proxy_process import free_port
from tests.servers.scripted import Peer, Received, Script, answer, upstream

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs/from-the-seeds.md"
HISTORY = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "Tea?"},
]
CHAT = "/v1/chat/completions"
PREFIX, SUFFIX = "\n\n### Instruction:\n", "\n\n### Response:\n"
MODEL_FILE = """\
model:
  model_name: example_model_name
  max_seq_len: 32768
  cache_mode: Q4
template:
  system_time: True
  system: You are a helpful assistant.
  top_p: 0.8
  top_k: 20
  temperature: 0.7
"""
MODELS_CONFIG = """\
{"google_models": {"google/gemma-3-12b-it": {"api_host": "URL/v1", "api_token": "", "api_type": "vllm",
                                             "input_size": 4096, "model_path": ""}},
 "active_models": {"google_models": ["google/gemma-3-12b-it"]}}
"""


def example(heading: str, language: str, position: int = 0) -> str:
    """An example of the document: the one at this position among those of a language below a heading."""
    section = DOCUMENT.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return str(re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)[position])


def configuration(heading: str, position: int = 0, **urls: str) -> dict[str, Any]:
    """A configuration of the document, its targets being these."""
    data: dict[str, Any] = yaml.safe_load(example(heading, "yaml", position))
    names = set(data["targets"]) - {"default"}
    assert names == urls.keys()
    for name, url in urls.items():
        data["targets"][name]["url"] = url
    return data


def command(heading: str) -> tuple[dict[str, str], list[str]]:
    """A command of the document: the variables before it, and its words."""
    words = shlex.split(example(heading, "sh"))
    start = words.index("mooltiproxy")
    return dict(word.split("=", 1) for word in words[:start]), words[start + 1 :]


def chatting(text: str = "Milk.") -> Script:
    """A server of OpenAI's API: models, and chats that are answered with a text, or with the same in a stream."""

    async def script(peer: Peer, received: Received) -> None:
        if received.line.startswith("GET "):
            await peer.send(answer(b'{"object": "list", "data": [{"id": "gemma", "object": "model"}]}'))
        elif received.body and orjson.loads(received.body).get("stream"):
            chunks: list[dict[str, Any]] = [
                {"delta": {"role": "assistant", "content": text}},
                {"delta": {}, "finish_reason": "stop"},
            ]
            events = [orjson.dumps({"choices": [{"index": 0, **one}]}) for one in chunks]
            body = b"".join(b"data: %b\n\n" % event for event in [*events, b"[DONE]"])
            await peer.send(answer(body, media_type="text/event-stream"))
        else:
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            await peer.send(answer(orjson.dumps({"choices": [choice]})))

    return script


async def completing(peer: Peer, received: Received) -> None:
    """A server of TGI's API."""
    is_question = received.line.startswith("POST /generate ")
    await peer.send(answer(b'{"generated_text": " Milk."}' if is_question else b'{"model_id": "llama"}'))


@asynccontextmanager
async def serving(
    folder: Path, *options: str, **environ: str
) -> AsyncIterator[tuple[aiohttp.ClientSession, list[str]]]:
    """`mooltiproxy serve` in an empty folder: a client for it, and the lines of its log so far."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MOOLTIPROXY_")}
    variables = {**clean, "MOOLTIPROXY_KEY": KEY, "PYTHONPATH": str(ROOT), **environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mooltiproxy", "serve", *options),
        cwd=folder,
        env=variables,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    lines: list[str] = []
    listening = asyncio.get_running_loop().create_future()

    async def read() -> None:
        assert process.stderr is not None
        while line := (await process.stderr.readline()).decode():
            lines.append(line)
            if "listening on " in line and not listening.done():
                listening.set_result(line.rpartition(" ")[2].strip())
        if not listening.done():
            listening.set_exception(AssertionError("".join(lines)))

    reading = asyncio.create_task(read())
    try:
        async with aiohttp.ClientSession(base_url=await asyncio.wait_for(listening, 20), headers=BEARER) as client:
            yield client, lines
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading


async def asked(client: aiohttp.ClientSession, path: str, body: Any, **fields: str) -> tuple[int, Any]:
    async with client.post(path, json=body, headers=fields) as response:
        return response.status, await response.json()


def sent(received: Received) -> Any:
    return orjson.loads(received.body)


def contents(received: Received) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in sent(received)["messages"]]


async def test_a_file_of_the_original_mooltiproxy() -> None:
    async with (
        upstream(completing) as target,
        proxy(configuration("mooltiproxy", cheepo=target.url)) as running,
    ):
        body = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tea?"}]}
        status, told = await asked(running.client, "/chat/completions", body, target="cheepo")
        assert (status, told["choices"][0]["message"]["content"]) == (200, "Milk.")
        assert sent(target.requests[0])["inputs"] == "Be kind.\nUSER: Tea?\nASSISTANT: "
        async with running.client.get("/models") as response:
            assert await response.json() == {"model_id": "llama"}
        assert target.requests[1].line.startswith("GET /info ")


async def test_interstitials_variables_around_the_users_last_words(tmp_path: Path) -> None:
    variables, words = command("interstitial_API")
    assert words == ["serve"]
    async with upstream(chatting()) as target:
        variables |= {"DESTINATION_API": target.url, "LOCAL_PORT": str(free_port())}
        async with serving(tmp_path, **variables) as (client, _):
            assert str(client._base_url).endswith(f":{variables['LOCAL_PORT']}")
            status, told = await asked(client, CHAT, {"model": "gpt-4", "messages": HISTORY})
            assert (status, told["choices"][0]["message"]["content"]) == (200, "Milk.")
            await asked(client, CHAT, {"messages": HISTORY})
    for received in target.requests:
        assert contents(received) == [("user", "Hello"), ("assistant", "Hi"), ("user", f"{PREFIX}Tea?{SUFFIX}")]
        assert sent(received)["model"] == "wizard-vicuna"


async def test_interstitials_variables_as_messages_of_the_system(tmp_path: Path) -> None:
    async with upstream(chatting()) as target:
        variables = {"DESTINATION_API": target.url, "PROMPT_INJECTOR": "system", "LOCAL_PORT": str(free_port())}
        async with serving(tmp_path, **variables) as (client, _):
            assert (await asked(client, CHAT, {"model": "m", "messages": HISTORY}))[0] == 200
    assert contents(target.requests[0])[2:] == [("system", PREFIX), ("user", "Tea?"), ("system", SUFFIX)]
    assert sent(target.requests[0])["model"] == "m"


async def test_interstitials_settings_in_a_file() -> None:
    async with (
        upstream(chatting()) as target,
        proxy(configuration("interstitial_API", local=target.url)) as running,
    ):
        await asked(running.client, CHAT, {"model": "gpt-4", "messages": HISTORY})
    around = [f"{PREFIX}Hello{SUFFIX}", "Hi", f"{PREFIX}Tea?{SUFFIX}"]
    assert [content for _, content in contents(target.requests[0])] == around
    assert sent(target.requests[0])["model"] == "wizard-vicuna"


async def test_interstitials_messages_in_a_file() -> None:
    async with (
        upstream(chatting()) as target,
        proxy(configuration("interstitial_API", 1, local=target.url)) as running,
    ):
        await asked(running.client, CHAT, {"model": "m", "messages": HISTORY})
    assert contents(target.requests[0])[2:] == [("system", PREFIX), ("user", "Tea?"), ("system", SUFFIX)]


async def test_tabbyapi_proxys_files_of_models(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/example.yml").write_text(MODEL_FILE)
    async with (
        upstream(chatting()) as target,
        proxy(configuration("TabbyAPI Proxy", tabby=target.url), tmp_path) as running,
    ):
        question = {"model": "example", "messages": HISTORY[-1:], "temperature": 0.1}
        status, told = await asked(running.client, "/api/chat", {**question, "stream": False})
        assert (status, told["message"]["content"]) == (200, "Milk.")
        await asked(running.client, CHAT, question)
    for received in target.requests:
        body = sent(received)
        assert (body["model"], body["top_p"], body["top_k"]) == ("example_model_name", 0.8, 20)
        assert body["messages"][0]["content"].startswith("Current time: ")
        assert body["messages"][0]["content"].endswith("\n\nYou are a helpful assistant.")
    assert sent(target.requests[1])["temperature"] == 0.1


async def test_llmgws_options(tmp_path: Path) -> None:
    _, words = command("LLMGW")
    async with upstream(chatting()) as target:
        for option, value in {"--bindport": free_port(), "--aihostport": target.port}.items():
            words[words.index(option) + 1] = str(value)
        async with serving(tmp_path, *words[1:]) as (client, lines):
            assert (await asked(client, CHAT, {"messages": HISTORY}))[0] == 200
    logged = "".join(lines)
    assert "request of the client" in logged
    assert "Milk." in logged
    assert "\x1b" not in logged


async def test_llmgws_defaults_and_bounds() -> None:
    async with upstream(chatting()) as target, proxy(configuration("LLMGW", vllm=target.url)) as running:
        await asked(running.client, CHAT, {"messages": HISTORY})
        body = sent(target.requests[0])
        assert (body["model"], body["max_tokens"]) == ("TheBloke/Mistral-7B-Instruct-v0.2-AWQ", 128)
        for temperature in (0, 1.1):
            status, told = await asked(running.client, CHAT, {"messages": HISTORY, "temperature": temperature})
            assert status == 400
            assert told["error"]["type"] == "invalid_request_error"
            assert "temperature: expected 0.1 to 1" in told["error"]["message"]
        await asked(running.client, CHAT, {"messages": HISTORY, "temperature": 0.7, "max_tokens": 100})
    assert len(target.requests) == 2
    assert (sent(target.requests[1])["temperature"], sent(target.requests[1])["max_tokens"]) == (0.7, 100)


async def test_llm_proxy_apis_endpoints() -> None:
    gemma = {"model_name": "google/gemma-3-12b-it", "user_last_statement": "Tea?"}
    async with (
        upstream(chatting()) as target,
        proxy(configuration("llm-proxy-api", vllm=f"{target.url}/v1")) as running,
    ):
        client = running.client
        status, told = await asked(client, "/api/conversation_with_model", {**gemma, "stream": False})
        assert (status, told["response"]) == (200, "Milk.")
        await asked(client, "/api/conversation_with_model", {**gemma, "stream": False, "language": "en"})
        own = {**gemma, "stream": False, "system_prompt": "Be brief.", "max_new_tokens": 9}
        await asked(client, "/api/extended_conversation_with_model", own)
        async with client.post("/api/chat", json={"model": gemma["model_name"], "messages": HISTORY}) as response:
            assert response.content_type == "text/event-stream"
            assert b"Milk." in await response.read()
        async with client.get("/api/ping") as response:
            assert await response.json() == {"status": True, "body": "pong"}
        async with client.get("/api/tags") as response:
            named = [model["name"] for model in (await response.json())["models"]]
            assert named == ["google/gemma-3-12b-it", "gemma"]
        async with client.post("/api/passthrough/lora", json={"a": 1}) as response:
            assert response.status == 200
        status, told = await asked(client, "/api/conversation_with_model", {})
        assert (status, told["error"]) == (400, "bad_request")
        assert "model_name, user_last_statement" in told["details"]
    polish, english, given, chat = target.requests[:4]
    assert contents(polish)[0][0] == contents(english)[0][0] == "system"
    assert contents(polish)[0][1].startswith("Jesteś ")
    assert contents(english)[0][1].startswith("You are ")
    assert contents(given)[0] == ("system", "Be brief.")
    assert (sent(given)["max_tokens"], sent(given)["model"]) == (9, gemma["model_name"])
    assert sent(chat)["stream"] is True
    assert target.requests[-1].line.startswith("POST /v1/lora ")


async def test_llm_proxy_apis_variables_and_its_models(tmp_path: Path) -> None:
    async with upstream(chatting()) as target:
        (tmp_path / "models-config.json").write_text(MODELS_CONFIG.replace("URL", target.url))
        variables = {
            "LLM_PROXY_API_MINIMUM": "1",
            "LLM_PROXY_API_MODELS_CONFIG": "models-config.json",
            "LLM_PROXY_API_EP_PREFIX": "/llm",
            "LLM_PROXY_API_SERVER_PORT": str(free_port()),
        }
        async with serving(tmp_path, **variables) as (client, _):
            body = {"model_name": "google/gemma-3-12b-it", "user_last_statement": "Tea?", "stream": False}
            status, told = await asked(client, "/llm/conversation_with_model", body)
            assert (status, told["response"]) == (200, "Milk.")
    assert target.requests[0].line.startswith(f"POST {CHAT} ")
    assert contents(target.requests[0])[0][1].startswith("Jesteś ")


async def test_several_servers_at_one_address() -> None:
    async with (
        upstream(chatting("chat")) as chat,
        upstream(chatting("coder")) as coder,
        proxy(configuration("Several servers at one address", chat=chat.url, coder=coder.url)) as running,
    ):

        async def who(path: str, model: str, **fields: str) -> str:
            _, told = await asked(running.client, path, {"model": model, "messages": HISTORY}, **fields)
            return str(told["choices"][0]["message"]["content"])

        assert await who(CHAT, "anything") == "chat"
        assert await who(f"/to/coder{CHAT}", "anything") == "coder"
        assert await who(CHAT, "qwen-coder") == "coder"
        assert await who(CHAT, "anything", target="coder") == "coder"


def test_every_example_of_the_document_is_run_here() -> None:
    examples = re.findall(r"^```(?:yaml|sh)$", DOCUMENT.read_text(), re.MULTILINE)
    runs = re.findall(r'(?:configuration|command)\("', Path(__file__).read_text())
    assert len(examples) == len(runs)
