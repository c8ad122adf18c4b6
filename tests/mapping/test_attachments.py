import base64

import pytest

from mappers.anthropic.messages import endpoint as anthropic
from mappers.gemini import chat as gemini
from mappers.ollama.chat import endpoint as ollama
from mappers.openai.chat import endpoint as openai
from mappers.openai.responses import endpoint as responses
from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.attachments import NOTHING, PDF, Attachment, AttachmentsNeeded, put_attachments
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.neutral import Document, Image, Part, Request, Text, ToolResult, Turn

URL = "https://example.com/a"
DATA = base64.b64encode("Grüße".encode()).decode()
CAT = Image(url=URL)
REPORT = Document(url=URL, name="Report")


def put(part: Part, target: Endpoint, **found: str) -> Part:
    """The part in the place of this one, where its URL leads to `found`."""
    request = Request(turns=[Turn("user", [part])])
    fetched = {URL: Attachment(found["media_type"], DATA)} if found else NOTHING
    put_attachments(request, fetched, target)
    return request.turns[0].parts[0]


@pytest.mark.parametrize(
    ("part", "target"), [(CAT, gemini), (CAT, ollama), (REPORT, gemini), (REPORT, ollama), (REPORT, openai)]
)
def test_what_a_target_cannot_fetch_is_asked_for(part: Part, target: Endpoint) -> None:
    with pytest.raises(AttachmentsNeeded) as caught:
        put(part, target)
    assert caught.value.urls == (URL,)


@pytest.mark.parametrize(
    ("part", "target"), [(CAT, openai), (CAT, anthropic), (REPORT, anthropic), (REPORT, responses)]
)
def test_what_a_target_fetches_itself_is_left_to_it(part: Part, target: Endpoint) -> None:
    assert put(part, target) == part


@pytest.mark.parametrize("target", [gemini, openai])
def test_a_pdf_takes_the_place_of_its_url(target: Endpoint) -> None:
    assert put(REPORT, target, media_type=PDF) == Document(PDF, DATA, name="Report")


@pytest.mark.parametrize("target", [openai, ollama])
def test_a_text_becomes_text_below_its_title_where_documents_are_no_texts(target: Endpoint) -> None:
    assert put(REPORT, target, media_type="text/markdown") == Text("<document>\nReport\n\nGrüße\n</document>\n")
    assert put(Document("text/plain", DATA), target) == Text("<document>\nGrüße\n</document>\n")


def test_a_text_stays_a_document_where_it_may_be_one() -> None:
    document = Document("text/plain", DATA, name="Report")
    assert put(document, gemini) == put(document, anthropic) == document


def test_a_document_in_a_result_is_fetched_too() -> None:
    request = Request(turns=[Turn("tool", [ToolResult("c1", [Document(url=URL)])])])
    with pytest.raises(AttachmentsNeeded):
        put_attachments(request, NOTHING, ollama)
    put_attachments(request, {URL: Attachment("text/plain", DATA)}, ollama)
    assert request.turns[0].parts == [ToolResult("c1", [Text("<document>\nGrüße\n</document>\n")])]


@pytest.mark.parametrize(("part", "found"), [(CAT, PDF), (Document(PDF, url=URL), "image/png")])
def test_one_kind_is_not_taken_for_the_other(part: Part, found: str) -> None:
    with pytest.raises(BadRequest, match="is no image|neither a PDF nor a text"):
        put(part, gemini, media_type=found)


@pytest.mark.parametrize("url", ["gs://bucket/a.pdf", "https://generativelanguage.googleapis.com/v1beta/files/a"])
def test_files_at_google_are_left_to_gemini(url: str) -> None:
    assert put(Document(url=url), gemini) == Document(url=url)


def test_what_nobody_has_named_may_be_an_image() -> None:
    assert put(Document(url=URL), gemini, media_type="image/png") == Image("image/png", DATA)


def test_a_film_is_not_fetched() -> None:
    film = Document("video/mp4", url=URL)
    assert put(film, gemini) == film


def test_two_mentions_of_a_url_are_fetched_once() -> None:
    request = Request(turns=[Turn("user", [Document(url=URL), Document(url=URL)])])
    with pytest.raises(AttachmentsNeeded) as caught:
        put_attachments(request, NOTHING, gemini)
    assert caught.value.urls == (URL,)
