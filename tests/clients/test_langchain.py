"""LangChain's ChatOpenAI with nothing but its base_url changed."""

from collections.abc import Iterator

import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.clients.conftest import Served


@pytest.fixture(scope="module")
def chat(served: Served) -> Iterator[ChatOpenAI]:
    model = ChatOpenAI(
        base_url=f"{served.url}/v1", api_key=SecretStr(served.key), model="m", max_completion_tokens=20, temperature=0
    )
    yield model
    model.root_client.close()


def test_invoke_answers_whole(chat: ChatOpenAI) -> None:
    assert chat.invoke("Tell me about tea.").content


def test_stream_answers_in_pieces_that_make_the_same_text(chat: ChatOpenAI) -> None:
    pieces = [str(piece.content) for piece in chat.stream("Tell me about tea.")]
    assert len(pieces) > 3
    assert "".join(pieces) == chat.invoke("Tell me about tea.").content
