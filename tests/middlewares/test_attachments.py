"""Images and documents that clients name by URL, on their way to targets that want the bytes."""

import base64
from typing import Any

import orjson
import pytest

from tests.servers.proxy import proxy
from tests.servers.scripted import answer, answering, upstream

PDF = b"%PDF-1.7 ..."
PDF_URL = f"data:application/pdf;base64,{base64.b64encode(PDF).decode()}"


async def heard(media_type: str, speaks: str, **system: Any) -> tuple[int, Any]:
    """The status, and what a target got of an Anthropic client's document by URL."""
    async with (
        upstream(answering(answer(PDF, media_type=media_type))) as files,
        upstream(answering(answer(b"{}"))) as up,
    ):
        document = {"type": "document", "title": "Report", "source": {"type": "url", "url": f"{files.url}/a"}}
        body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": [document]}]}
        config = {"targets": {"default": "one", "one": {"url": up.url, "speaks": speaks}}, "system": system}
        async with proxy(config) as running:
            async with running.client.post("/v1/messages", json=body) as response:
                await response.read()
                return response.status, orjson.loads(up.requests[-1].body) if up.requests else None


async def test_a_pdf_by_url_is_fetched_for_a_chat_server() -> None:
    _, got = await heard("application/pdf", "openai", private_images=True)
    assert got["messages"][0]["content"] == [{"type": "file", "file": {"filename": "Report", "file_data": PDF_URL}}]


@pytest.mark.parametrize("speaks", ["openai", "ollama"])
async def test_a_text_by_url_is_told_as_text(speaks: str) -> None:
    _, got = await heard("text/plain", speaks, private_images=True)
    assert got["messages"][0]["content"] == f"<document>\nReport\n\n{PDF.decode()}\n</document>\n"


async def test_a_pdf_is_refused_where_there_are_no_documents() -> None:
    assert await heard("application/pdf", "ollama", private_images=True) == (400, None)


async def test_a_private_address_is_refused() -> None:
    assert await heard("application/pdf", "openai") == (400, None)
