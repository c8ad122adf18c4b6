"""Images and documents of a request: what has to be fetched for a target that takes no URLs, documents as text."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.media import host_of
from mooltiproxy.mapping.neutral import Document, Image, Part, Request, Text, ToolResult

PDF = "application/pdf"


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a URL led to: its media type, in lower case and without parameters, and its bytes in base64."""

    media_type: str
    data: str


NOTHING: Mapping[str, Attachment] = {}


class AttachmentsNeeded(Exception):
    """The target cannot fetch images or documents itself: these URLs have to be fetched for it."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        super().__init__(f"{len(urls)} attachments")
        self.urls = urls


def put_attachments(request: Request, fetched: Mapping[str, Attachment], target: Endpoint) -> None:
    """Put what was fetched in the place of its URL, where the target wants bytes, and texts in the place of documents
    where it wants that; raises AttachmentsNeeded for what is missing, BadRequest for what cannot be used."""
    if target.takes_image_urls and target.documents == "url":
        return
    places = [parts for turn in request.turns for parts in _part_lists(turn.parts)]
    wanted = dict.fromkeys(_url(part) for parts in places for part in parts if _is_wanted(part, target))
    missing = tuple(url for url in wanted if url not in fetched)
    if missing:
        raise AttachmentsNeeded(missing)
    for parts in places:
        parts[:] = [_put(part, fetched, target) for part in parts]


def _part_lists(parts: list[Part]) -> Iterator[list[Part]]:
    yield parts
    for part in parts:
        if isinstance(part, ToolResult):
            yield part.parts


def _is_wanted(part: Part, target: Endpoint) -> bool:
    """Whether this is at a URL that the target cannot follow; what is said to be neither PDF nor text (a film) is not
    wanted."""
    if isinstance(part, Image):
        return not target.takes_image_urls and _is_elsewhere(part.url, target)
    if isinstance(part, Document) and target.documents != "url":
        return _is_readable(part.media_type or PDF) and _is_elsewhere(part.url, target)
    return False


def _is_elsewhere(url: str | None, target: Endpoint) -> bool:
    """Whether there is a URL, and not one of the target's own."""
    return url is not None and url.startswith(("http://", "https://")) and host_of(url) not in target.image_hosts


def _url(part: Part) -> str:
    return part.url or "" if isinstance(part, Image | Document) else ""


def _is_readable(media_type: str) -> bool:
    return media_type == PDF or media_type.startswith("text/")


def _put(part: Part, fetched: Mapping[str, Attachment], target: Endpoint) -> Part:
    found = fetched.get(_url(part)) if _is_wanted(part, target) else None
    if found is not None and isinstance(part, Image):
        if not found.media_type.startswith("image/"):
            raise BadRequest("what the image's URL leads to is no image", param="messages")
        return replace(part, media_type=found.media_type, data=found.data, url=None)
    if found is not None and isinstance(part, Document):
        if part.media_type is None and found.media_type.startswith("image/"):
            return Image(found.media_type, found.data)
        if not _is_readable(found.media_type):
            raise BadRequest("what the document's URL leads to is neither a PDF nor a text", param="messages")
        part = replace(part, media_type=found.media_type, data=found.data, url=None)
    return _as_text(part) if isinstance(part, Document) and target.documents in ("pdf", "text") else part


def _as_text(document: Document) -> Part:
    """A document that is text as a part of text, set off from what else is said; any other as it is."""
    if document.data is None or not (document.media_type or "").startswith("text/"):
        return document
    text = base64.b64decode(document.data).decode("utf-8", "replace")
    titled = f"{document.name}\n\n{text}" if document.name else text
    return Text(f"<document>\n{titled}\n</document>\n")
