"""LangChain's ChatAnthropic and ChatOllama in front of a server that has OpenAI's chat completions and nothing else."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import orjson
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from pydantic import SecretStr

from tests.servers.openai_chat import ARGUMENTS, TEXT, openai_chat
from tests.servers.proxy import BEARER, KEY, Proxy, proxy
from tests.servers.scripted import Upstream, upstream

QUESTION = "Tell me about tea."
Made = Callable[[Proxy], AbstractAsyncContextManager[BaseChatModel]]


@tool
def weather(city: str) -> str:
    """Weather of a city."""
    return f"20 in {city}"


@asynccontextmanager
async def anthropic(running: Proxy) -> AsyncIterator[BaseChatModel]:
    model = ChatAnthropic(
        model_name="m1", base_url=running.url, api_key=SecretStr(KEY), max_retries=0, timeout=10, stop=None
    )
    yield model
    model._client.close()
    await model._async_client.close()


@asynccontextmanager
async def ollama(running: Proxy) -> AsyncIterator[BaseChatModel]:
    model = ChatOllama(model="m1", base_url=running.url, client_kwargs={"headers": BEARER})
    with model._client:
        async with model._async_client:
            yield model


@asynccontextmanager
async def served(made: Made, folder: Path) -> AsyncIterator[tuple[BaseChatModel, Upstream]]:
    async with upstream(openai_chat) as target:
        own = {"url": target.url, "speaks": "openai", "endpoints": ["chat"]}
        async with proxy({"targets": {"default": "one", "one": own}}, folder) as running, made(running) as model:
            yield model, target


everyone = pytest.mark.parametrize("made", [anthropic, ollama])


@everyone
async def test_invoke_answers_whole(made: Made, tmp_path: Path) -> None:
    async with served(made, tmp_path) as (model, _):
        told = await model.ainvoke(QUESTION)
    assert told.text == TEXT
    assert isinstance(told, AIMessage) and told.usage_metadata
    assert (told.usage_metadata["input_tokens"], told.usage_metadata["output_tokens"]) == (12, 3)


@everyone
async def test_stream_answers_in_pieces(made: Made, tmp_path: Path) -> None:
    async with served(made, tmp_path) as (model, _):
        pieces = [piece.text async for piece in model.astream(QUESTION)]
    assert "".join(pieces) == TEXT
    assert len([piece for piece in pieces if piece]) == 2


@everyone
@pytest.mark.parametrize("streams", [False, True])
async def test_a_tool_is_called_and_its_result_sent_back(made: Made, tmp_path: Path, streams: bool) -> None:
    question = HumanMessage("Weather in Paris?")
    async with served(made, tmp_path) as (model, target):
        able = model.bind_tools([weather])
        asked: AIMessage | AIMessageChunk
        if streams:
            pieces = [piece async for piece in able.astream([question])]
            asked = sum(pieces[1:], pieces[0])
        else:
            asked = await able.ainvoke([question])
        (call,) = asked.tool_calls
        result = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"] or "")
        told = await able.ainvoke([question, asked, result])
    assert (call["name"], call["args"]) == ("weather", ARGUMENTS)
    assert told.text == TEXT
    _, said, last = orjson.loads(target.requests[-1].body)["messages"]
    assert (last["role"], last["content"]) == ("tool", "20 in Paris")
    assert [made_call["id"] for made_call in said["tool_calls"]] == [last["tool_call_id"]]
