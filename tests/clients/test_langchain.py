"""LangChain's ChatOpenAI with nothing but its base_url changed."""

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.clients.conftest import Served


def chat(served: Served) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{served.url}/v1", api_key=SecretStr(served.key), model="m", max_completion_tokens=20, temperature=0
    )


def test_invoke_answers_whole(served: Served) -> None:
    assert chat(served).invoke("Tell me about tea.").content


def test_stream_answers_in_pieces_that_make_the_same_text(served: Served) -> None:
    pieces = [str(piece.content) for piece in chat(served).stream("Tell me about tea.")]
    assert len(pieces) > 3
    assert "".join(pieces) == chat(served).invoke("Tell me about tea.").content
