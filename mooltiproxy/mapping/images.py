"""Images that clients name by URL, for targets that take none: which are needed, and where they go."""

from collections.abc import Iterator, Mapping

from mooltiproxy.mapping.media import host_of
from mooltiproxy.mapping.neutral import Image, Part, Request, ToolResult

NO_IMAGES: Mapping[str, Image] = {}


class ImagesNeeded(Exception):
    """The target cannot fetch images itself: these URLs have to be fetched for it."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        super().__init__(f"{len(urls)} images")
        self.urls = urls


def put_images(request: Request, images: Mapping[str, Image], hosts: frozenset[str]) -> None:
    """Put fetched images in the place of their URLs, but for those at `hosts`; raises ImagesNeeded for missing ones."""
    places = [parts for turn in request.turns for parts in _part_lists(turn.parts)]
    wanted = {
        part.url: None
        for parts in places
        for part in parts
        if isinstance(part, Image) and part.url is not None and part.url.startswith(("http://", "https://"))
        if host_of(part.url) not in hosts
    }
    missing = tuple(url for url in wanted if url not in images)
    if missing:
        raise ImagesNeeded(missing)
    for parts in places:
        parts[:] = [images.get(part.url or "", part) if isinstance(part, Image) else part for part in parts]


def _part_lists(parts: list[Part]) -> Iterator[list[Part]]:
    yield parts
    for part in parts:
        if isinstance(part, ToolResult):
            yield part.parts
