"""What servers of each API tell of their one model, `m1`, and its vectors; a script answers all else."""

from collections.abc import Mapping
from typing import Any

import orjson

from tests.servers.scripted import Peer, Received, Script, answer

CONTEXT = 8192
VECTOR = [0.5, 0.25]
_OPENAI = {"id": "m1", "object": "model", "created": 1794694400, "owned_by": "us", "max_model_len": CONTEXT}
_ANTHROPIC = {
    "type": "model",
    "id": "m1",
    "display_name": "M 1",
    "created_at": "2026-11-14T22:13:20Z",
    "max_input_tokens": CONTEXT,
    "max_tokens": 4096,
}
_GEMINI = {
    "name": "models/m1",
    "version": "001",
    "displayName": "M 1",
    "inputTokenLimit": CONTEXT,
    "outputTokenLimit": 4096,
    "supportedGenerationMethods": ["generateContent", "countTokens"],
    "thinking": True,
}
_DETAILS = {
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "8B",
    "quantization_level": "Q4",
}
_CAPABILITIES = ["completion", "tools"]
_TAG = {
    "name": "m1:latest",
    "model": "m1:latest",
    "modified_at": "2026-11-14T22:13:20.5Z",
    "size": 5,
    "digest": "0" * 64,
}
_SHOWN = {"model_info": {"general.architecture": "llama", "llama.context_length": CONTEXT}, "details": _DETAILS}


def _openai_vectors(body: Any) -> dict[str, Any]:
    vectors = [{"object": "embedding", "index": at, "embedding": VECTOR} for at in range(len(body["input"]))]
    return {"object": "list", "data": vectors, "model": "m1", "usage": {"prompt_tokens": 2, "total_tokens": 2}}


def _gemini_vectors(body: Any) -> dict[str, Any]:
    return {"embeddings": [{"values": VECTOR} for _ in body["requests"]]}


MODELS: Mapping[str, Mapping[str, Any]] = {
    "openai": {"GET /v1/models": {"object": "list", "data": [_OPENAI]}, "POST /v1/embeddings": _openai_vectors},
    "anthropic": {"GET /v1/models": {"data": [_ANTHROPIC], "has_more": False}, "GET /v1/models/m1": _ANTHROPIC},
    "gemini": {
        "GET /v1beta/models": {"models": [_GEMINI]},
        "GET /v1beta/models/m1": _GEMINI,
        "POST /v1beta/models/m1:batchEmbedContents": _gemini_vectors,
    },
    "ollama": {
        "GET /api/tags": {"models": [{**_TAG, "details": _DETAILS, "capabilities": _CAPABILITIES}]},
        "POST /api/show": {**_SHOWN, "capabilities": _CAPABILITIES, "modified_at": _TAG["modified_at"]},
    },
    "tgi": {"GET /info": {"model_id": "m1", "max_input_tokens": CONTEXT - 1, "max_total_tokens": CONTEXT}},
}


def telling_models(name: str, otherwise: Script) -> Script:
    """The script of a server of this API that tells of its models, and does all else as the other script says."""

    async def script(peer: Peer, received: Received) -> None:
        method, path, _ = received.line.split()
        told = MODELS[name].get(f"{method} {path.partition('?')[0]}")
        if told is None:
            await otherwise(peer, received)
        else:
            await peer.send(answer(orjson.dumps(told(orjson.loads(received.body)) if callable(told) else told)))

    return script
