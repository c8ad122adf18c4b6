"""One cell of the grid: a client's request for a feature, through the proxy's translation, to a target and back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest, ProxyError
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.translate import DialectTranslation, Translated
from mooltiproxy.mapping.upstream_errors import read_error

from . import (
    client_anthropic,
    client_gemini,
    client_ollama,
    client_openai,
    client_responses,
    client_text,
    strict_anthropic,
    strict_gemini,
    strict_ollama,
    strict_openai,
    strict_responses,
    strict_tgi,
)
from .clients import Client, Seen
from .conversation import ASKED, HI_THERE, MESSAGE, TOLD, Asked, Feature, Told, Usage, streamings
from .shapes import need

CLIENTS = (
    client_openai.CLIENT,
    client_responses.CLIENT,
    client_anthropic.CLIENT,
    client_ollama.CHAT,
    client_gemini.CLIENT,
    client_text.COMPLETIONS,
    client_ollama.GENERATE,
    client_text.GENERATE,
)
TARGETS = (strict_openai, strict_responses, strict_anthropic, strict_ollama, strict_gemini, strict_tgi)
COUNTS = ("prompt", "answer", "cached", "reasoning")
UNSENT = {"tools": "tools", "thinks": "reasoning_effort", "images": "messages", "schema": "response_format"}
"""How the ledger names what a target was not told."""


@dataclass(frozen=True)
class Outcome:
    """What becomes of a cell: nothing is lost, the ledger names `lost`, or the field `refused` is refused.

    `unsaid` are counts that the target tells and the client's API has no place for.
    """

    lost: tuple[str, ...] = ()
    refused: str | None = None
    unsaid: tuple[str, ...] = ()


@cache
def outcomes(client: Client, target: ModuleType, feature: Feature) -> dict[bool, Outcome]:
    """What becomes of a cell, by whether it is streamed; raises AssertionError where that is none of the three."""
    return {stream: _outcome(client, target, feature, stream=stream) for stream in streamings(feature)}


def translation(client: Endpoint, target: ModuleType) -> DialectTranslation:
    """The translation of a pair; where both are about prompts, one to the target's chat stands behind it."""
    endpoints = target.DIALECT.endpoints
    chat = DialectTranslation(
        client, next(one for one in endpoints if one.kind == "chat"), target.CONFIG, "", path=chat_path(target)
    )
    text = next((one for one in endpoints if one.kind == "text"), None)
    if client.kind != "text" or text is None:
        return chat
    return DialectTranslation(client, text, target.CONFIG, "", path=text.paths[0], chat=chat)


def chat_path(target: ModuleType) -> str:
    """Where a target is asked for a chat."""
    return str(next(one.paths[0] for one in target.DIALECT.endpoints if one.kind == "chat"))


def _outcome(client: Client, target: ModuleType, feature: Feature, *, stream: bool) -> Outcome:
    pair = translation(client.endpoint_for(stream=stream), target)
    outside = client.outside_stream if stream else client.outside
    try:
        translated = pair.request(client.body(feature, stream=stream), outside)
    except BadRequest as refusal:
        need(bool(refusal.param), f"a refusal that names no field: {refusal}")
        return Outcome(refused=refusal.param)
    need(translated.streaming is stream, "whether it streams is lost")
    heard = target.hear(orjson.loads(translated.body), translated.path)
    asked = replace(ASKED[feature], streams=stream)
    check_heard(asked if target.STOPS else replace(asked, stop=()), heard, translated.dropped)
    if feature is Feature.ERROR:
        check_error(client, target)
        return Outcome(translated.dropped)
    return Outcome(translated.dropped, unsaid=_answered(client, target, feature, translated, stream=stream))


def _answered(
    client: Client, target: ModuleType, feature: Feature, translated: Translated, *, stream: bool
) -> tuple[str, ...]:
    """Send the target's answer back; gives the names of what the client's API has no place for."""
    told = TOLD.get(feature, HI_THERE)
    data, header = _answer(target, feature, told, translated.path or "", stream=stream)
    written = translate(client, translated, target.MEDIA_TYPE if stream else "application/json", [data], header)
    seen = client.read_stream(written) if stream else Seen(client.read(written))
    if feature is Feature.BROKEN:
        need(seen.error == MESSAGE, f"the error is lost: {seen}")
        need(seen.told.text == told.text, "the text before the error is lost")
        return ()
    need(seen.error is None, f"failed: {seen.error}")
    hung_up = stream and told.stop_string is not None and not target.STOPS
    check_seen(told, seen.told, target.TELLS - set(COUNTS) if hung_up else target.TELLS, client.knows)
    unsaid = target.TELLS - client.knows
    return tuple(name for name in COUNTS if name in unsaid) if feature is Feature.USAGE else ()


def _answer(
    target: ModuleType, feature: Feature, told: Told, path: str, *, stream: bool
) -> tuple[bytes, dict[str, str]]:
    """The bytes of a target's answer, and its header fields."""
    if feature is Feature.BROKEN:
        return b"".join(target.broken(path)), {}
    if stream:
        return b"".join(target.stream(told, path)), {}
    data, header = target.answer(told, path)
    return data, header


def translate(
    client: Client, translated: Translated, media_type: str, pieces: list[bytes], header: Mapping[str, str]
) -> bytes:
    """A client's bytes for these of a target, an error in the midst included."""
    translator = translated.answer(media_type, header)
    assert translator is not None
    written = b""
    try:
        for piece in pieces:
            written += translator.feed(piece)
            if translator.done:
                break
        return written + translator.end()
    except ProxyError as error:
        need(translator.live and bool(written), f"failed before it began: {error}")
        return written + translator.fail(client.dialect.write_stream_error(error, "req_1"))


def check_error(client: Client, target: ModuleType) -> None:
    """A target's status 429 and its message reach the client, in the form of its own dialect."""
    error = read_error(429, "application/json", target.error())
    body = orjson.dumps(client.dialect.write_error(error, "req_1"))
    need(error.status == 429, "the status is lost")
    need(client.read_error(error.status, body) == MESSAGE, "the message is lost")


def check_heard(asked: Asked, heard: Asked, dropped: tuple[str, ...]) -> None:
    """The target was told everything, or the ledger names what it was not told."""
    stops = heard.stop[: len(asked.stop)] if heard.prompt is not None else heard.stop  # a template has its own
    need(stops == asked.stop, f"stop: {heard.stop} was heard for {asked.stop}")
    for name in ("images", "tools", "schema", "calls", "results", "streams"):
        wanted, got = getattr(asked, name), getattr(heard, name)
        need(got == wanted or not got and UNSENT.get(name) in dropped, f"{name}: {got!r} was heard for {wanted!r}")
    for name in ("max_tokens", "temperature"):
        wanted, got = getattr(asked, name), getattr(heard, name)
        need(wanted in (None, got), f"{name}: {got!r} was heard for {wanted!r}")
    need(heard.thinks or not asked.thinks or UNSENT["thinks"] in dropped, "thinking is lost")
    if heard.prompt is None:
        need((asked.system, asked.said) == (heard.system, heard.said), f"{heard.said} was heard, {heard.system}")
    else:
        check_prompt([text for text in (asked.system, *(text for _, text in asked.said)) if text], heard.prompt)


def check_prompt(texts: list[str], prompt: str) -> None:
    """All texts are part of the prompt, in their order."""
    at = 0
    for text in texts:
        found = prompt.find(text, at)
        need(found >= 0, f"{text!r} is not part of {prompt!r}")
        at = found + len(text)


def check_seen(told: Told, seen: Told, tells: frozenset[str], knows: frozenset[str]) -> None:
    """The client got everything that its API has a place for."""
    need(seen.text == told.text, f"{seen.text!r} was understood for {told.text!r}")
    need(seen.finish == told.finish, f"{seen.finish} was understood for {told.finish}")
    need([(call.city, call.name) for call in seen.calls] == [(call.city, call.name) for call in told.calls], "calls")
    check_ids(told, seen, tells, knows)
    thought = told.thought if {"thought"} <= tells & knows else ""
    need(seen.thought == thought, f"the thought is lost: {seen.thought!r}")
    stop = told.stop_string if {"stop_string"} <= tells & knows else None
    need(seen.stop_string == stop, f"the stop string is lost: {seen.stop_string!r}")
    check_usage(told.usage, seen.usage, tells, knows)


def check_ids(told: Told, seen: Told, tells: frozenset[str], knows: frozenset[str]) -> None:
    """Every call has its own id: the target's, where it gives one."""
    if "ids" not in knows:
        return
    ids = [call.id for call in seen.calls]
    need(all(ids) and len(set(ids)) == len(ids), f"strange ids {ids}")
    if "ids" in tells:
        need(all(call.id in (None, got) for call, got in zip(told.calls, ids, strict=True)), f"the ids are lost: {ids}")


def check_usage(told: Usage, seen: Usage, tells: frozenset[str], knows: frozenset[str]) -> None:
    """Every count that both sides know is the same; one that nobody told is absent, or 0 where it must be there."""
    for name in COUNTS:
        wanted: Any = getattr(told, name)
        got = getattr(seen, name)
        if name in tells & knows:
            need(got == wanted, f"{name}: {got} was understood for {wanted}")
        elif name not in tells:
            need(got in (None, 0), f"{name}: {got} was made up")
