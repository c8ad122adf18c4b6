"""What `models:` says of requests: for clients of every API, in front of targets of the same and of another one."""

from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from mooltiproxy.discovery import discover
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.settings import Injection, PromptTexts, Settings, Values, accepted_languages
from tests.servers.proxy import proxy
from tests.servers.scripted import Received, answer, answering, upstream

SETTINGS: dict[str, Any] = {
    "name": "big-model",
    "defaults": {"temperature": 0.5, "top_p": 0.9},
    "overrides": {"top_k": 7},
    "max_tokens": 100,
    "system": "Be brief.",
    "prefix": "<",
    "suffix": ">",
    "inject": [{"role": "assistant", "content": "Mind the gap.", "at": "start"}],
}
WHOLE = {
    "openai": {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]},
    "anthropic": {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "model": "big-model"},
    "ollama": {"message": {"role": "assistant", "content": "Hi"}, "done": True, "done_reason": "stop"},
    "gemini": {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]},
    "tgi": {"generated_text": "Hi", "details": {"finish_reason": "eos_token", "generated_tokens": 1}},
}
CHAT = "/v1/chat/completions"
CLIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": (CHAT, {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 500}),
    "responses": ("/v1/responses", {"model": "m", "input": "Hello", "max_output_tokens": 500}),
    "anthropic": (
        "/v1/messages",
        {
            "model": "m",
            "max_tokens": 500,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        },
    ),
    "ollama": (
        "/api/chat",
        {
            "model": "m",
            "stream": False,
            "messages": [{"role": "user", "content": "Hello"}],
            "options": {"num_predict": 500},
        },
    ),
    "gemini": (
        "/v1beta/models/m:generateContent",
        {"contents": [{"parts": [{"text": "Hello"}]}], "generationConfig": {"maxOutputTokens": 500}},
    ),
}


def config(url: str, speaks: str, settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    target = {"url": url, "speaks": speaks}
    return {"targets": {"default": "one", "one": target}, "models": {"m": {"target": "one", **settings}}, **more}


async def sent(
    client: str, speaks: str, settings: dict[str, Any], changes: dict[str, Any] | None = None, **headers: str
) -> tuple[dict[str, Any], str, dict[str, Any], Received]:
    """The body that the target got, what was dropped, the answer, and the whole request."""
    path, body = CLIENTS[client]
    whole = WHOLE[speaks]
    if (client, speaks) == ("responses", "openai"):
        whole = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
    async with (
        upstream(answering(answer(orjson.dumps(whole)))) as up,
        proxy(config(up.url, speaks, settings)) as running,
    ):
        async with running.client.post(path, json={**body, **(changes or {})}, headers=headers) as response:
            assert response.status == 200, await response.text()
            received = up.requests[-1]
            dropped = response.headers.get("x-mooltiproxy-dropped", "")
            return orjson.loads(received.body), dropped, await response.json(), received


OPENAI_TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "assistant", "content": "Mind the gap."},
    {"role": "user", "content": "<Hello>"},
]


@pytest.mark.parametrize("client", ["openai", "anthropic", "ollama", "gemini"])
async def test_every_client_gets_its_settings_at_an_openai_target(client: str) -> None:
    body, dropped, _, _ = await sent(client, "openai", SETTINGS)
    assert body["messages"] == OPENAI_TURNS
    assert (body["model"], body["max_tokens"]) == ("big-model", 100)
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.5, 0.9, 7)
    assert dropped == "clamped max_tokens 500->100"


@pytest.mark.parametrize("client", list(CLIENTS))
async def test_every_client_gets_its_settings_at_an_anthropic_target(client: str) -> None:
    body, dropped, _, _ = await sent(client, "anthropic", SETTINGS)
    assert body["system"] == "Be brief."
    said = [(message["role"], _text(message["content"])) for message in body["messages"]]
    assert said[-2:] == [("assistant", "Mind the gap."), ("user", "<Hello>")]
    assert (body["max_tokens"], body["temperature"], body["top_p"], body["top_k"]) == (100, 0.5, 0.9, 7)
    assert "clamped max_tokens 500->100" in dropped


@pytest.mark.parametrize("client", list(CLIENTS))
async def test_every_client_gets_its_settings_at_an_ollama_target(client: str) -> None:
    body, dropped, _, _ = await sent(client, "ollama", SETTINGS)
    assert body["messages"] == OPENAI_TURNS
    wanted = {"num_predict": 100, "temperature": 0.5, "top_p": 0.9, "top_k": 7}
    assert wanted.items() <= body["options"].items()
    assert dropped == "clamped max_tokens 500->100"


@pytest.mark.parametrize("client", list(CLIENTS))
async def test_every_client_gets_its_settings_at_a_gemini_target(client: str) -> None:
    body, dropped, _, received = await sent(client, "gemini", SETTINGS)
    assert "/models/big-model:generateContent" in received.line
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [part["text"] for part in body["contents"][-1]["parts"]] == ["<Hello>"]
    assert body["contents"][-2] == {"role": "model", "parts": [{"text": "Mind the gap."}]}
    wanted = {"maxOutputTokens": 100, "temperature": 0.5, "topP": 0.9, "topK": 7}
    assert wanted.items() <= body["generationConfig"].items()
    assert "clamped max_tokens 500->100" in dropped


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


async def test_a_responses_request_that_passes_gets_its_settings() -> None:
    body, dropped, _, _ = await sent("responses", "openai", SETTINGS)
    assert body["instructions"] == "Be brief."
    assert body["input"] == OPENAI_TURNS[1:]
    assert (body["max_output_tokens"], body["temperature"], body["top_p"]) == (100, 0.5, 0.9)
    assert dropped == "clamped max_tokens 500->100; top_k"


@pytest.mark.parametrize("speaks", ["openai", "ollama", "anthropic"])
async def test_the_clients_own_values_go_before_defaults_and_behind_overrides(speaks: str) -> None:
    settings = {"defaults": {"temperature": 0.5, "stop": ["x"]}, "overrides": {"top_p": 0.3}}
    body, _, _, _ = await sent("openai", speaks, settings, {"temperature": 0.25, "top_p": 0.9})
    said = body.get("options", body)
    assert (said["temperature"], said["top_p"]) == (0.25, 0.3)
    assert said.get("stop", said.get("stop_sequences")) == ["x"]


@pytest.mark.parametrize("client", list(CLIENTS))
@pytest.mark.parametrize("speaks", ["openai", "anthropic"])
async def test_a_system_prompt_of_the_client_stays_and_gets_the_time(client: str, speaks: str) -> None:
    fields: dict[str, dict[str, Any]] = {
        "responses": {"instructions": "Sing."},
        "anthropic": {"system": "Sing."},
        "gemini": {"systemInstruction": {"parts": [{"text": "Sing."}]}},
    }
    messages = [{"role": "system", "content": "Sing."}, {"role": "user", "content": "Hello"}]
    said = fields.get(client, {"messages": messages})
    body, _, _, _ = await sent(client, speaks, {"system": "Be brief.", "system_time": True}, said)
    words = orjson.dumps(body).decode()
    assert words.index("Current time: ") < words.index("Today: 20") < words.index("Sing.")
    assert "Be brief." not in words


async def test_bytes_of_what_is_not_set_stay_as_they_are() -> None:
    body = (
        b'{ "model": "m", "seed": 1.0, "x": [1e3, {"temperature": 3}],\n "messages":[{"role":"user","content":"Hi"}] }'
    )
    async with upstream(answering(answer())) as up:
        async with proxy(config(up.url, "openai", {"overrides": {"temperature": 1}})) as running:
            async with running.client.post(CHAT, data=body, headers={"content-type": "application/json"}):
                pass
        assert up.requests[0].body == body.removesuffix(b"}") + b',"temperature":1}'


@pytest.mark.parametrize("model", ["plain", "other"])
async def test_a_model_without_settings_is_passed_on_byte_by_byte(model: str) -> None:
    body = b'{"messages" :[], "x": 1.0, "model": "%b"}' % model.encode()
    async with upstream(answering(answer())) as up:
        data = config(up.url, "openai", SETTINGS)
        data["models"]["plain"] = {"target": "one"}
        async with proxy(data) as running:
            async with running.client.post(CHAT, data=body, headers={"content-type": "application/json"}):
                pass
        assert up.requests[0].body == body


async def test_text_completions_get_settings_but_no_system_prompt() -> None:
    for path, speaks in (("/v1/completions", "openai"), ("/v1/completions", "tgi"), ("/generate", "tgi")):
        asked = {"inputs": "Once"} if path == "/generate" else {"prompt": "Once"}
        async with upstream(answering(answer(orjson.dumps(WHOLE[speaks])))) as up:
            async with proxy(config(up.url, speaks, SETTINGS)) as running:
                async with running.client.post(path, json={"model": "m", **asked}):
                    pass
            body = orjson.loads(up.requests[0].body)
        assert body.get("prompt", body.get("inputs")) == "Once"
        said = body.get("parameters", body)
        assert (said["temperature"], said["top_p"], said["top_k"]) == (0.5, 0.9, 7)


async def test_a_default_for_the_length_of_text_goes_before_the_one_of_the_api() -> None:
    async with upstream(answering(answer(orjson.dumps(WHOLE["tgi"])))) as up:
        async with proxy(config(up.url, "tgi", {"defaults": {"max_tokens": 77}})) as running:
            async with running.client.post("/v1/completions", json={"model": "m", "prompt": "Once"}):
                pass
        assert orjson.loads(up.requests[0].body)["parameters"]["max_new_tokens"] == 77


async def test_settings_of_servers_of_open_models_reach_them_and_are_named_elsewhere() -> None:
    settings = {"defaults": {"min_tokens": 5, "chat_template_kwargs": {"enable_thinking": False}}}
    for client in ("openai", "anthropic"):
        body, dropped, _, _ = await sent(client, "openai", settings)
        assert (body["min_tokens"], body["chat_template_kwargs"]) == (5, {"enable_thinking": False})
        assert dropped == ""
    body, dropped, _, _ = await sent("openai", "anthropic", settings)
    assert "min_tokens" not in body
    assert dropped == "min_tokens; chat_template_kwargs"


async def test_messages_are_put_in_where_they_are_wanted() -> None:
    turns = [{"role": role, "content": str(at)} for at, role in enumerate(("system", "user", "assistant", "user"))]
    inject = [{"role": "user", "content": str(at), "at": at} for at in ("start", 1, -1, "end", 99)]
    for client in ("openai", "ollama"):
        body, _, _, _ = await sent(client, "openai", {"inject": inject}, {"messages": turns})
        said = [message["content"] for message in body["messages"]]
        assert said == ["0", "start", "1", "1", "2", "-1", "3", "end", "99"]


@pytest.mark.parametrize("client", ["anthropic", "gemini"])
async def test_the_system_speaks_later_as_the_user_where_the_api_wants_it_first(client: str) -> None:
    body, dropped, _, _ = await sent(client, client, {"inject": {"role": "system", "content": "Now!", "at": "end"}})
    last = (body.get("messages") or body["contents"])[-1]
    assert last["role"] == "user"
    assert "<system>\nNow!\n</system>" in orjson.dumps(last).decode().replace("\\n", "\n")
    assert dropped == "messages.system"


async def test_an_answer_that_is_translated_has_the_name_that_the_client_asked_for() -> None:
    _, _, whole, _ = await sent("openai", "ollama", {"name": "big-model"})
    assert whole["model"] == "m"


PATTERNS = {
    "*": {"target": "one", "name": "any"},
    "llama-*": {"target": "one", "name": "meta/*"},
    "llama-3-*": {"target": "one"},
    "llama-3-8b": {"target": "one", "name": "exact"},
}
NAMED = [("qwen", "any"), ("llama-2", "meta/2"), ("llama-3-70b", "llama-3-70b"), ("llama-3-8b", "exact")]


@pytest.mark.parametrize(("asked", "upstream_name"), NAMED)
async def test_the_pattern_that_says_most_of_a_name_counts_but_for_the_name_itself(
    asked: str, upstream_name: str
) -> None:
    async with upstream(answering(answer())) as up:
        data = {**config(up.url, "openai", {}), "models": PATTERNS}
        async with proxy(data) as running, running.client.post(CHAT, json={"model": asked, "messages": []}):
            pass
        assert orjson.loads(up.requests[0].body)["model"] == upstream_name


POLISH, ENGLISH = "Jesteś pomocnym asystentem.", "You are a helpful assistant."
LANGUAGES = [
    ({"language": "pl"}, "", POLISH),
    ({}, "de, pl-PL;q=0.8, en;q=0.5", POLISH),
    ({"language": "en"}, "pl", ENGLISH),
    ({"language": "fr"}, "pl;q=0", ENGLISH),
    ({}, "fr", ENGLISH),
]


@pytest.mark.parametrize(("said", "accepted", "text"), LANGUAGES)
@pytest.mark.parametrize("speaks", ["openai", "anthropic"])
async def test_a_prompt_of_the_library_is_in_the_language_of_the_client(
    said: dict[str, Any], accepted: str, text: str, speaks: str
) -> None:
    headers = {"accept-language": accepted} if accepted else {}
    body, dropped, _, _ = await sent("openai", speaks, {"prompt": "helpful"}, said, **headers)
    assert "language" not in body
    assert text in (body["system"] if speaks == "anthropic" else body["messages"][0]["content"])
    assert "language" not in dropped


async def test_ollamas_generate_is_a_chat_unless_it_is_raw() -> None:
    path, asked = "/api/generate", {"model": "m", "prompt": "Hello", "stream": False}
    for extra, prompt in (({}, "<Hello>"), ({"raw": True}, "Hello")):
        async with upstream(answering(answer(orjson.dumps({"response": "Hi", "done": True})))) as up:
            async with proxy(config(up.url, "ollama", SETTINGS)) as running:
                async with running.client.post(path, json={**asked, **extra}) as response:
                    assert response.headers.get("x-mooltiproxy-dropped", "") == ("" if extra else "messages.inject")
            body = orjson.loads(up.requests[0].body)
        assert (body["prompt"], body.get("system")) == (prompt, None if extra else "Be brief.")
        assert body["options"] == {"num_predict": 100, "temperature": 0.5, "top_p": 0.9, "top_k": 7}


async def test_tokens_are_counted_of_what_would_be_sent() -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    async with upstream(answering(answer(b'{"input_tokens": 9}'))) as up:
        async with proxy(config(up.url, "anthropic", SETTINGS)) as running:
            async with running.client.post("/v1/messages/count_tokens", json=asked):
                pass
        body = orjson.loads(up.requests[0].body)
    assert body["messages"][-1]["content"] == "<Hello>"
    assert body.keys() == {"model", "messages", "system"}


async def test_functions_of_a_mapping_get_a_body_with_its_settings() -> None:
    entry = {"path": "/generate", "in": "chatReqOpenAItoTGI", "out": "chatAnsTGItoOpenAI"}
    async with upstream(answering(answer(orjson.dumps(WHOLE["tgi"])))) as up:
        data = config(up.url, "openai", SETTINGS)
        data["targets"]["one"] = {"url": up.url, "mapping": {"/chat/completions": entry}}
        async with proxy(data) as running:
            async with running.client.post(CHAT, json=CLIENTS["openai"][1]) as response:
                assert response.headers["x-mooltiproxy-dropped"] == "clamped max_tokens 500->100"
        body = orjson.loads(up.requests[0].body)
    assert body["inputs"].startswith("Be brief.") and "<Hello>" in body["inputs"]
    assert (body["parameters"]["temperature"], body["parameters"]["max_new_tokens"]) == (0.5, 100)


@pytest.mark.parametrize("losses", [{"sampling": "reject"}, {"sampling": "allow"}])
async def test_a_limit_is_a_loss_of_the_class_sampling(losses: dict[str, str]) -> None:
    async with upstream(answering(answer(orjson.dumps(WHOLE["openai"])))) as up:
        data = config(up.url, "openai", {"max_tokens": 100})
        data["targets"]["one"]["losses"] = losses
        async with proxy(data) as running:
            async with running.client.post(CHAT, json=CLIENTS["openai"][1]) as response:
                assert response.status == (400 if losses["sampling"] == "reject" else 200)
                assert "x-mooltiproxy-dropped" not in response.headers


async def test_thinking_that_is_set_gets_room_where_the_api_wants_it_in_the_limit() -> None:
    settings = {"name": "claude-3-7-sonnet", "defaults": {"reasoning_effort": "low"}}
    body, dropped, _, _ = await sent("anthropic", "anthropic", settings)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    assert (body["max_tokens"], dropped) == (1524, "clamped max_tokens 500->1524")
    asked = {"thinking": {"type": "disabled"}}
    body, _, _, _ = await sent("anthropic", "anthropic", settings, asked)
    assert (body["thinking"], body["max_tokens"]) == ({"type": "disabled"}, 500)


async def test_a_compressed_body_does_not_evade_what_is_set() -> None:
    async with upstream(answering(answer())) as up, proxy(config(up.url, "gemini", SETTINGS)) as running:
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        async with running.client.post(CLIENTS["gemini"][0], data=b"x", headers=headers) as response:
            assert response.status == 415


async def test_a_stream_that_passes_gets_its_settings() -> None:
    body, _, _, _ = await sent("openai", "openai", SETTINGS, {"stream": True})
    assert (body["stream"], body["messages"]) == (True, OPENAI_TURNS)


async def test_settings_are_put_in_once_where_a_target_turns_out_to_lack_the_endpoint() -> None:
    async def script(peer: Any, received: Received) -> None:
        missing = "/responses" in received.line
        await peer.send(answer(b"{}", status="404 Not Found") if missing else answer(orjson.dumps(WHOLE["openai"])))

    async with upstream(script) as up, proxy(config(up.url, "openai", SETTINGS)) as running:
        path, body = CLIENTS["responses"]
        async with running.client.post(path, json=body) as response:
            assert response.status == 200
        assert orjson.loads(up.requests[-1].body)["messages"] == OPENAI_TURNS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "user", "system", "text", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "parts", "text", "type", "effort", "topP"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
FIELDS = (
    "messages input prompt contents system instructions systemInstruction options generationConfig parameters".split()
)
bodies = st.dictionaries(
    st.sampled_from([*FIELDS, "system_instruction", "temperature", "max_tokens", "raw", "reasoning", "top_k"]),
    json_values,
)
ENDPOINTS = [
    endpoint for dialect in discover(None).dialects.values() for endpoint in dialect.endpoints if endpoint.form
]
EVERYTHING = Settings(
    defaults=Values({"temperature": 0.5, "top_p": 0.9}, {"min_tokens": 3}),
    overrides=Values({"top_k": 7, "stop": ("x",)}),
    max_tokens=100,
    system=PromptTexts({"": "Be brief."}),
    system_time=True,
    prefix="<",
    suffix=">",
    inject=(Injection("system", "y", 0), Injection("user", "z", -1)),
)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: f"{one.label} {one.paths[0] if one.paths else ''}")
@effort(max_examples=30)
@given(body=bodies)
def test_settings_go_into_whatever_a_client_sends(endpoint: Endpoint, body: dict[str, Any]) -> None:
    written = orjson.dumps(body)
    edit = EVERYTHING.edit(orjson.loads(written), "", datetime.now().astimezone())
    edited = orjson.loads(edit.edited(written, endpoint, {"url": "http://127.0.0.1", "path": "/", "model": "m"}))
    assert {name for name in body if name not in edited} <= {"system_instruction"}  # it has another spelling now


@given(st.text(max_size=40))
def test_any_accept_language_is_read(value: str) -> None:
    PromptTexts({"en": "x"}).best(accepted_languages(value))


def test_languages_come_in_the_order_of_their_weights() -> None:
    assert accepted_languages("de;q=0.5, *, pl, en;q=0.9, fr;q=0, it;q=x") == ["pl", "en", "de"]


@pytest.mark.parametrize("client", ["openai", "anthropic", "ollama"])
async def test_messages_that_are_no_list_reach_the_target_as_they_are(client: str) -> None:
    path, body = CLIENTS[client]
    async with upstream(answering(answer(b"{}"))) as up:
        async with proxy(config(up.url, client, {"system": "Be brief."})) as running:
            async with running.client.post(path, json={**body, "messages": {"role": "user"}}) as response:
                await response.read()
    assert orjson.loads(up.requests[0].body)["messages"] == {"role": "user"}
