"""`GET /api/tags`, `POST /api/show` and `GET /api/ps`: the models of a server, one of them, and those in memory."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest, NotFound, UpstreamBroken
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.model_names import known_as
from mooltiproxy.mapping.neutral import NOWHERE, Asked, ModelInfo, ModelsAnswer, ModelsRequest
from mooltiproxy.mapping.times import rfc3339, unix_seconds

CAPABILITIES = ("completion", "tools")
"""What is said of a model of which nothing is known: clients that work with tools ask no model that lacks the word,
and a target that knows none says so itself."""

FOR_EVER = "2318-01-01T00:00:00Z"
"""When a model leaves the memory that nobody will unload: servers say such a time for a `keep_alive` below 0."""

_PARAMETERS = {"max_tokens": "num_predict", "repetition_penalty": "repeat_penalty"}
"""What Ollama calls settings that have another name elsewhere."""

_DETAILS = ("format", "family", "parameter_size", "quantization_level")


def read_tags_request(body: Any, asked: Asked = NOWHERE) -> ModelsRequest:
    """The question for all models; it has no body."""
    return ModelsRequest()


def read_show_request(body: Any, asked: Asked = NOWHERE) -> ModelsRequest:
    """The question for one model; raises BadRequest where none is named."""
    fields = Fields(body)
    model = fields.text(fields.first("model", "name"))
    if not model:
        raise fields.wrong("model", "the name of a model")
    fields.flag("verbose")
    return ModelsRequest(model, fields.leftovers())


def write_tags_request(request: ModelsRequest, config: Config) -> Written:
    """The list is asked for also where one model is meant: it is found among them."""
    return Written({}, tuple(sorted(request.extra)))


def write_show_request(request: ModelsRequest, config: Config) -> Written:
    """The question for one model; raises BadRequest where none is named."""
    if not request.model:
        raise BadRequest("model: this endpoint of the target tells of one model, name it", param="model")
    return Written({"model": request.model}, tuple(sorted(request.extra)))


def read_tags(body: Any, request: ModelsRequest) -> ModelsAnswer:
    """A target's models, or the one that was asked for; raises UpstreamBroken, NotFound."""
    models = _object(body).get("models")
    if not isinstance(models, list):
        raise UpstreamBroken("the target's answer has no models")
    infos = [_read_info(_name_of(model), model) for model in models if isinstance(model, dict) and _name_of(model)]
    return ModelsAnswer(infos if request.model is None else [_one(infos, request.model)])


def read_show(body: Any, request: ModelsRequest) -> ModelsAnswer:
    """What a target tells of a model; raises UpstreamBroken."""
    info = _read_info(request.model or "", _object(body))
    facts = body.get("model_info")
    if isinstance(facts, dict):
        info.context = _context(facts)
    return ModelsAnswer([info])


def _object(body: Any) -> dict[str, Any]:
    raise_failure(body)
    if not isinstance(body, dict):
        raise UpstreamBroken("the target's answer is no JSON object")
    return body


def _name_of(model: Mapping[str, Any]) -> str:
    name = model.get("model") or model.get("name")
    return name if isinstance(name, str) else ""


def _read_info(name: str, model: Mapping[str, Any]) -> ModelInfo:
    details, capabilities = model.get("details"), model.get("capabilities")
    return ModelInfo(
        id=name,
        created=unix_seconds(model.get("modified_at")),
        context=_integer(details.get("context_length")) if isinstance(details, dict) else None,
        size=_integer(model.get("size")),
        digest=model["digest"] if isinstance(model.get("digest"), str) else None,
        details=details if isinstance(details, dict) else None,
        capabilities=tuple(map(str, capabilities)) if isinstance(capabilities, list) else None,
    )


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _context(facts: Mapping[str, Any]) -> int | None:
    return next((_integer(value) for name, value in facts.items() if name.endswith(".context_length")), None)


def _one(models: Iterable[ModelInfo], name: str) -> ModelInfo:
    """The model of this name, which may leave out the usual tag, or have one that the target does not know."""
    found = {model.id: model for model in models}
    known = known_as(name, found)
    if known is not None:
        return found[known]
    raise NotFound(f"model '{name}' not found", code="model_not_found", param="model")


def write_tags(answer: ModelsAnswer, request: ModelsRequest) -> dict[str, Any]:
    """The list of models for a client."""
    return {"models": [_write_tag(model) for model in answer.models]}


def _write_tag(model: ModelInfo) -> dict[str, Any]:
    """Clients tell models apart by their digest: where the target has none, the name makes it."""
    return {
        "name": model.id,
        "model": model.id,
        "modified_at": rfc3339(model.created),
        "size": model.size or 0,
        "digest": model.digest or hashlib.sha256(model.id.encode()).hexdigest(),
        "details": _write_details(model),
        "capabilities": list(CAPABILITIES if model.capabilities is None else model.capabilities),
    }


def write_ps(answer: ModelsAnswer, request: ModelsRequest) -> dict[str, Any]:
    """The models in memory, for a client: what a target lists, it answers for without being told to load it first."""
    return {"models": [_write_running(model) for model in answer.models]}


def _write_running(model: ModelInfo) -> dict[str, Any]:
    tag = _write_tag(model)
    names = ("name", "model", "size", "digest", "details")
    running = {name: tag[name] for name in names}
    running["expires_at"] = FOR_EVER if model.expires is None else rfc3339(int(model.expires))
    running["size_vram"] = tag["size"] if model.vram is None else model.vram
    return running if model.context is None else {**running, "context_length": model.context}


def write_show(answer: ModelsAnswer, request: ModelsRequest) -> dict[str, Any]:
    """What is known of a model, for a client; raises NotFound where the target has told nothing of it."""
    model = answer.models[0] if len(answer.models) == 1 else _one(answer.models, request.model or "")
    return {
        "modelfile": "",
        "parameters": _write_parameters(model.parameters),
        "template": model.template,
        **({"system": model.system} if model.system else {}),
        "details": _write_details(model),
        "model_info": _write_facts(model),
        "capabilities": list(CAPABILITIES if model.capabilities is None else model.capabilities),
        "modified_at": rfc3339(model.created),
    }


def _write_parameters(parameters: Mapping[str, Any]) -> str:
    """Name and value on a line each, one for each value of a list, as a Modelfile has them (docs.ollama.com/modelfile,
    PARAMETER)."""
    values = [(name, value if isinstance(value, list) else [value]) for name, value in parameters.items()]
    lines = [(name, value) for name, several in values for value in several]
    return "\n".join(f"{_PARAMETERS.get(name, name):<30} {_quoted(value)}" for name, value in lines)


def _quoted(value: Any) -> str:
    return orjson.dumps(value).decode()


def _write_details(model: ModelInfo) -> dict[str, Any]:
    return {**dict.fromkeys(_DETAILS, ""), "families": None, **(model.details or {})}


def _write_facts(model: ModelInfo) -> dict[str, Any]:
    """Agents look for the context's length under the name of the architecture."""
    family = (model.details or {}).get("family")
    architecture = family if isinstance(family, str) and family else "unknown"
    facts: dict[str, Any] = {"general.architecture": architecture, "general.basename": model.id}
    return facts if model.context is None else {**facts, f"{architecture}.context_length": model.context}


tags_endpoint = Endpoint(
    kind="models",
    name="tags",
    paths=("/api/tags",),
    read_request=read_tags_request,
    write_request=write_tags_request,
    read_answer=read_tags,
    write_answer=write_tags,
    keepalive=b"",
    method="GET",
)
ps_endpoint = replace(tags_endpoint, kind="running", name="ps", paths=("/api/ps",), write_answer=write_ps)
show_endpoint = Endpoint(
    kind="model",
    name="show",
    paths=("/api/show",),
    read_request=read_show_request,
    write_request=write_show_request,
    read_answer=read_show,
    write_answer=write_show,
    keepalive=b"",
)
