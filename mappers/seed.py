"""Mappers by the names they have always had, for mapping entries that name their functions."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Endpoint, asks_at
from mooltiproxy.mapping.gather import failure_error
from mooltiproxy.mapping.neutral import NOWHERE, Failure, Request, StreamEvent
from mooltiproxy.mapping.spoken.reading import listened, listening

from . import tgi
from .openai import chat, completions

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def identity(ip: Any, cfg: Mapping[str, Any] = _NOTHING) -> Any:
    """Give back what came in."""
    return ip


def textReqOpenAItoTGI(ip: Any, cfg: Mapping[str, Any] = _NOTHING) -> Any:
    """Turn an OpenAI completions request into one for TGI's /generate."""
    return _request(completions.endpoint, tgi.text_endpoint, ip, cfg)


def chatReqOpenAItoTGI(ip: Any, cfg: Mapping[str, Any] = _NOTHING) -> Any:
    """Turn an OpenAI chat request into one for TGI's /generate, with the prompter and template of the entry."""
    return _request(chat.endpoint, tgi.chat_endpoint, ip, cfg)


def textAnsTGItoOpenAI(ip: Any, cfg: Mapping[str, Any] = _NOTHING) -> Any:
    """Turn an answer of TGI's /generate into an OpenAI completion."""
    return _answer(completions.endpoint, tgi.text_endpoint, ip, cfg)


def chatAnsTGItoOpenAI(ip: Any, cfg: Mapping[str, Any] = _NOTHING) -> Any:
    """Turn an answer of TGI's /generate into an OpenAI chat completion."""
    return _answer(chat.endpoint, tgi.chat_endpoint, ip, cfg)


@asks_at({"/generate": "/generate_stream"})
def textStreamTGItoOpenAI(ip: Any, cfg: Mapping[str, Any], state: dict[str, Any]) -> Iterable[Any]:
    """Turn one event of TGI's /generate_stream into chunks of an OpenAI completion."""
    return _stream(completions.endpoint, tgi.text_endpoint, ip, cfg, state)


@asks_at({"/generate": "/generate_stream"})
def chatStreamTGItoOpenAI(ip: Any, cfg: Mapping[str, Any], state: dict[str, Any]) -> Iterable[Any]:
    """Turn one event of TGI's /generate_stream into chunks of an OpenAI chat completion."""
    return _stream(chat.endpoint, tgi.chat_endpoint, ip, cfg, state)


def _request(client: Endpoint, target: Endpoint, ip: Any, cfg: Mapping[str, Any]) -> Any:
    """The target's body. Within a proxied request `cfg` learns what was dropped and which stops the template has."""
    request = client.read_request(ip, NOWHERE)
    written = target.write_request(request, cfg)
    if isinstance(cfg.get("dropped"), list):
        cfg["dropped"].extend(written.dropped)
    if isinstance(cfg.get("notes"), dict):
        cfg["notes"].update(template_stops=request.template_stops, spoken=request.spoken)
    elif request.spoken is not None and request.tools:
        raise BadRequest("tools: nobody is there to read calls from the answer's text", param="tools")
    return written.body


def _asked(client: Endpoint, cfg: Mapping[str, Any]) -> Request:
    """The request that is being answered, as far as `cfg` knows it: by hand, it knows nothing."""
    try:
        request: Request = client.read_request(cfg.get("request"), NOWHERE)
    except BadRequest:
        request = Request()
    sent = cfg.get("mapped")
    parameters = sent.get("parameters") if isinstance(sent, dict) else None
    stops = parameters.get("stop") if isinstance(parameters, dict) else None
    notes = cfg.get("notes")
    noted = notes.get("template_stops") if isinstance(notes, dict) else None
    request.template_stops = tuple(noted or stops or ())
    request.spoken = notes.get("spoken") if isinstance(notes, dict) else None
    fields = cfg.get("headers")
    request.answer_fields = fields if isinstance(fields, Mapping) else {}
    return request


def _answer(client: Endpoint, target: Endpoint, ip: Any, cfg: Mapping[str, Any]) -> Any:
    request = _asked(client, cfg)
    return client.write_answer(listened(target.read_answer(ip, request), request), request)


def _stream(
    client: Endpoint, target: Endpoint, ip: Any, cfg: Mapping[str, Any], state: dict[str, Any]
) -> Iterable[Any]:
    if "reader" not in state:
        request = _asked(client, cfg)
        assert target.stream_reader is not None
        assert client.stream_writer is not None
        state["reader"] = listening(target.stream_reader(request), request)
        state["writer"] = client.stream_writer(request)
    reader, writer = state["reader"], state["writer"]
    if ip is None:
        return [*_written(writer.write, reader.end()), *writer.end()]
    chunks = _written(writer.write, reader.read(ip))
    state["done"] = reader.done
    return chunks


def _written(write: Callable[[list[StreamEvent]], list[Any]], events: list[StreamEvent]) -> list[Any]:
    for event in events:
        if isinstance(event, Failure):
            raise failure_error(event)
    return write(events)
