"""Lists of models with the names that the configuration gives, before those that the target tells."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import orjson

from mooltiproxy.mapping.answers import MEDIA_TYPES, AnswerTranslator, Whole
from mooltiproxy.mapping.attachments import NOTHING, Attachment
from mooltiproxy.mapping.bodies import dumps
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.neutral import Asked, ModelInfo, ModelsAnswer, ModelsRequest
from mooltiproxy.mapping.settings import Edit
from mooltiproxy.mapping.translate import Translated, Translation

_PAGES = ("after_id", "before_id", "pageToken")
"""What a query has that asks for another page than the first."""


def is_later_page(query: Mapping[str, str]) -> bool:
    """Whether a client asks for another page than the first."""
    return any(name in query for name in _PAGES)


def place_in(listing: Any) -> str | None:
    """Under what name a list of models stands in this body; None where there is none."""
    found = listing.items() if isinstance(listing, dict) else ()
    return next((name for name, value in found if isinstance(value, list)), None)


def name_of(entry: Any) -> Any:
    """What an entry of such a list is called there."""
    return (entry.get("id") or entry.get("name")) if isinstance(entry, dict) else None


def page(endpoint: Endpoint, models: Sequence[ModelInfo], raw: Sequence[Any]) -> dict[str, Any]:
    """One page with all these models in the form of this endpoint's clients; what is in `raw` at a model's place stands
    there as it is, where it is not None."""
    body: dict[str, Any] = endpoint.write_answer(ModelsAnswer(list(models)), ModelsRequest())
    place = place_in(body)
    if place is not None:
        body[place] = [ours if theirs is None else theirs for ours, theirs in zip(body[place], raw, strict=True)]
    return body


class Listed:
    """A client's list of models, asked for at the target's `path`; `inner` translates the target's, None where that
    speaks the client's API."""

    bodiless = True

    def __init__(self, client: Endpoint, path: str, inner: Translation | None, names: Sequence[str]) -> None:
        self._client = client
        self._path = path
        self._inner = inner
        self._names = names
        self.description = f"{inner.description if inner else 'untouched'}, with the names of models"

    def request(
        self, body: Any, asked: Asked, fetched: Mapping[str, Attachment] = NOTHING, edit: Edit | None = None
    ) -> Translated:
        """Ask the target for its list; raises as `inner` does."""
        if self._inner is not None:
            whole = self._inner.request(body, asked, fetched, edit)
        else:
            query = f"?{urlencode(asked.query)}" if asked.query else ""
            whole = Translated(b"", _untouched, method="GET", path=self._path + query)
        if is_later_page(asked.query):
            return whole
        return replace(whole, answer=lambda media_type, fields: self._answer(whole, media_type, fields))

    def _answer(self, whole: Translated, media_type: str, fields: Mapping[str, str]) -> AnswerTranslator:
        translator = whole.answer(media_type, fields)

        def finish(body: Any) -> bytes:
            if translator is not None:
                body = orjson.loads(translator.feed(dumps(body)) + translator.end())
            return dumps(self._with_names(body))

        return Whole(MEDIA_TYPES["json"], finish)

    def _with_names(self, listing: Any) -> Any:
        """The target's list with our entries before its own, as far as it has none of that name."""
        ours = self._client.write_answer(ModelsAnswer([ModelInfo(name) for name in self._names]), ModelsRequest())
        place = place_in(ours)
        theirs = listing.get(place) if place and isinstance(listing, dict) else None
        if place is None or not isinstance(theirs, list):
            return listing  # an error, or what TGI tells: that is one model and no list
        known = {name_of(entry) for entry in theirs}
        entries = [*(entry for entry in ours[place] if name_of(entry) not in known), *theirs]
        first = {"first_id": name_of(entries[0])} if entries and "first_id" in listing else {}
        return {**listing, place: entries, **first}


def _untouched(media_type: str, fields: Mapping[str, str]) -> None:
    """No translator."""
