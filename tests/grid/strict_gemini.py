"""A strict server of Gemini's generateContent, without its sockets."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from mappers.gemini import dialect
from mooltiproxy.mapping.framing import encode_sse

from .conversation import MESSAGE, Asked, Call, Told, pieces_of
from .shapes import at_least, between, check, filled, is_base64, matching, need

NAME = "gemini"
DIALECT = dialect
CONFIG = {"url": "https://generativelanguage.googleapis.com/v1beta"}
MEDIA_TYPE = "text/event-stream"
TELLS = frozenset(("prompt", "answer", "cached", "reasoning", "ids", "thought"))
STOPS = True

FUNCTION_NAME = matching(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
BLOB = {"mimeType": matching(r"\w+/[\w.+-]+"), "data": is_base64, "displayName?": str}
RESPONSE = {"id?": str, "name": FUNCTION_NAME, "response": dict, "parts?": [{"inlineData": BLOB}]}
PART = (
    {"text": str, "thought?": bool, "thoughtSignature?": is_base64},
    {"inlineData": BLOB},
    {"fileData": {"mimeType?": str, "fileUri": str}},
    {"functionCall": {"id?": str, "name": FUNCTION_NAME, "args?": dict}, "thoughtSignature?": is_base64},
    {"functionResponse": RESPONSE},
)
DECLARATION = {"name": FUNCTION_NAME, "description?": str, "parametersJsonSchema?": dict}
CALLING = {"mode": ("AUTO", "ANY", "NONE", "VALIDATED"), "allowedFunctionNames?": [FUNCTION_NAME]}
THINKING = {
    "includeThoughts?": bool,
    "thinkingBudget?": at_least(-1),
    "thinkingLevel?": ("MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"),
}
GENERATION = {
    "temperature?": between(0, 2),
    "topP?": between(0, 1),
    "topK?": at_least(1),
    "candidateCount?": between(1, 8, int),
    "maxOutputTokens?": at_least(1),
    "stopSequences?": [filled],
    "seed?": between(-(2**31), 2**31 - 1, int),
    "presencePenalty?": between(-2, 1.9999),
    "frequencyPenalty?": between(-2, 1.9999),
    "responseLogprobs?": bool,
    "logprobs?": between(0, 20, int),
    "responseMimeType?": ("text/plain", "application/json"),
    "responseJsonSchema?": dict,
    "thinkingConfig?": THINKING,
}
REQUEST = {
    "contents": [{"role": ("user", "model"), "parts": [PART]}],
    "systemInstruction?": {"parts": [{"text": filled}]},
    "tools?": [{"functionDeclarations": [DECLARATION]}],
    "toolConfig?": {"functionCallingConfig": CALLING},
    "generationConfig?": GENERATION,
}


def hear(body: Any, path: str) -> Asked:
    """What a request asks; raises Refused as the service would refuse it."""
    streams = path == "/v1beta/models/m1:streamGenerateContent?alt=sse"
    need(streams or path == "/v1beta/models/m1:generateContent", f"404 {path}")
    check(body, REQUEST)
    config = body.get("generationConfig", {})
    thinking = config.get("thinkingConfig", {})
    need(not {"thinkingBudget", "thinkingLevel"} <= thinking.keys(), "a thinking budget and a level")
    need("responseJsonSchema" not in config or "responseMimeType" in config, "a schema without its media type")
    need("logprobs" not in config or config.get("responseLogprobs") is True, "logprobs without responseLogprobs")
    need(len(config.get("stopSequences", ())) <= 5, "more than five stop sequences")
    declarations = [one for tool in body.get("tools", ()) for one in tool["functionDeclarations"]]
    need("toolConfig" not in body or bool(declarations), "a choice without tools")
    return Asked(
        **_hear_contents(body["contents"]),
        system=_text_of(body.get("systemInstruction", {"parts": []})["parts"]),
        tools={one["name"]: one.get("parametersJsonSchema") for one in declarations},
        schema=config.get("responseJsonSchema"),
        stop=tuple(config.get("stopSequences", ())),
        max_tokens=config.get("maxOutputTokens"),
        temperature=config.get("temperature"),
        thinks=thinking.get("includeThoughts", False),
        streams=streams,
    )


def _text_of(parts: Sequence[Mapping[str, Any]]) -> str:
    return "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))


def _hear_contents(contents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is said; refuses contents of one role in a row, and results that are not those of the calls before them."""
    need(contents[0]["role"] == "user", "the first content must be the user's")
    said, images, calls, results = [], [], [], []
    waiting: list[Mapping[str, Any]] = []
    before = None
    for content in contents:
        need(content["role"] != before, "two contents of one role in a row")
        need(bool(content["parts"]), "a content without parts")
        before = content["role"]
        found = [part["functionResponse"] for part in content["parts"] if "functionResponse" in part]
        places = [(one["name"], one.get("id")) for one in found]
        need(places == [(one["name"], one.get("id")) for one in waiting], "the number of function responses is wrong")
        results += [
            (call["args"].get("city", ""), _result_of(one["response"]))
            for call, one in zip(waiting, found, strict=True)
        ]
        waiting = [part["functionCall"] for part in content["parts"] if "functionCall" in part]
        need(not waiting or before == "model", "calls of the user")
        calls += [call["args"].get("city", "") for call in waiting]
        text = _text_of(content["parts"])
        if text:
            said.append(("assistant" if before == "model" else "user", text))
        images += [part["inlineData"]["data"] for part in content["parts"] if "inlineData" in part]
    listed = {"said": tuple(said), "images": tuple(images), "calls": tuple(calls), "results": tuple(results)}
    return dict(listed)


def _result_of(response: Mapping[str, Any]) -> str:
    return str(response.get("result", response))


def _usage(told: Told) -> dict[str, Any]:
    usage = told.usage
    return {
        "promptTokenCount": usage.prompt,
        "cachedContentTokenCount": usage.cached,
        "candidatesTokenCount": (usage.answer or 0) - (usage.reasoning or 0),
        "thoughtsTokenCount": usage.reasoning,
        "totalTokenCount": (usage.prompt or 0) + (usage.answer or 0),
    }


def _call(call: Call) -> dict[str, Any]:
    """A call; older models give no ids."""
    function = {"name": call.name, "args": {"city": call.city}}
    return {"functionCall": {"id": call.id, **function} if call.id else function}


def _response(told: Told, parts: list[dict[str, Any]], *, ends: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if ends:
        candidate["finishReason"] = "MAX_TOKENS" if told.finish == "length" else "STOP"
    return {"candidates": [candidate], "usageMetadata": _usage(told), "modelVersion": "m1-2026", "responseId": "r1"}


def answer(told: Told, path: str) -> tuple[bytes, dict[str, str]]:
    """A whole answer, with header fields."""
    parts = [{"text": told.thought, "thought": True}] if told.thought else []
    parts += [{"text": told.text}] if told.text else []
    return orjson.dumps(_response(told, [*parts, *map(_call, told.calls)], ends=True)), {}


def stream(told: Told, path: str) -> list[bytes]:
    """The events of a streamed answer."""
    parts = [{"text": piece, "thought": True} for piece in pieces_of(told.thought)]
    parts += [{"text": piece} for piece in pieces_of(told.text)]
    parts += map(_call, told.calls)
    last = len(parts) - 1
    return [encode_sse(_response(told, [part], ends=at == last)) for at, part in enumerate(parts)]


def error() -> bytes:
    """The body of a 429."""
    return orjson.dumps({"error": {"code": 429, "message": MESSAGE, "status": "RESOURCE_EXHAUSTED", "details": []}})


def broken(path: str) -> list[bytes]:
    """A stream that fails behind its first text."""
    parts = [{"text": piece} for piece in pieces_of("Hi")]
    events = [_response(Told("Hi"), [part], ends=False) for part in parts]
    return [*map(encode_sse, events), encode_sse({"error": {"code": 500, "message": MESSAGE, "status": "INTERNAL"}})]
