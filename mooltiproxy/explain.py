"""What would become of a request, told step by step by the code of the live path; nothing is sent."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import parse_qsl

import orjson

from mooltiproxy.catalogue.answers import is_merged, is_told
from mooltiproxy.catalogue.live import sources
from mooltiproxy.config.model import Config
from mooltiproxy.errors import BadRequest, ProxyError
from mooltiproxy.mapping.answers import MEDIA_TYPES
from mooltiproxy.mapping.attachments import AttachmentsNeeded
from mooltiproxy.mapping.bodies import loads_request
from mooltiproxy.mapping.chat_template import TemplateNeeded
from mooltiproxy.mapping.dialect import Reply
from mooltiproxy.mapping.framing import BOM
from mooltiproxy.mapping.json_edit import model_of, with_model
from mooltiproxy.mapping.losses import shown
from mooltiproxy.mapping.neutral import Asked
from mooltiproxy.mapping.settings import Edit
from mooltiproxy.mapping.signatures import without_foreign
from mooltiproxy.mapping.translate import Translated
from mooltiproxy.middlewares.bearer_auth import key_apart
from mooltiproxy.routing import Route, Router, asking, config_of, split_target
from mooltiproxy.upstream.request import Plan, path_at_target, request_head

MASK = b"***"


@dataclass(frozen=True, slots=True)
class Question:
    """A request to explain: a client path (with its query), perhaps a target's and a model's name, and a body."""

    path: str
    target: str | None = None
    model: str | None = None
    body: bytes | None = None
    answer: bytes | None = None


@dataclass(slots=True)
class _Case:
    """A question after routing: where it goes, with what body, and what `models:` says of it."""

    route: Route
    path: str
    query: str
    body: bytes | None
    edit: Edit | None


def explain(config: Config, question: Question) -> Iterator[str]:
    """The lines to print; raises ProxyError for what the proxy would refuse."""
    router = Router(config)
    full_path, _, query = question.path.partition("?")
    query, _ = key_apart(query)
    prefix, path = split_target(full_path)
    body = _body(question)
    reply = router.reply(path, prefix or question.target) if body is None else None
    if reply is not None:
        yield _of_ourselves(reply)
        return
    is_named = (prefix or question.target) is not None
    about = None if is_named else router.about_models(path, "GET" if body is None else "POST")
    if about is not None and is_merged(config, about):
        yield from _of_all(config)
        return
    case = _routed(router, path, query, prefix or question.target, body)
    if about is not None and is_told(config, about, case.route):
        yield "answer       of the proxy itself: what the file says of the model, and what its target lists"
        return
    yield from _way(config, case.route)
    try:
        translated = _translation(config, case)
    except (AttachmentsNeeded, TemplateNeeded) as needed:
        yield from _fetched(needed)
        return
    yield from _changes(case, translated)
    if translated is not None and translated.reply is not None:
        yield _of_ourselves(translated.reply)
        return
    yield from _request(case.route, translated, query, case.body)
    if question.answer is not None:
        yield from _answer(router, path, translated, question.answer)


def _routed(router: Router, path: str, query: str, target: str | None, body: bytes | None) -> _Case:
    """What routing makes of it, and what is put into a body that passes."""
    fields = router.model_fields(path)
    model = router.model_in(path) or (model_of(body, fields) if body and router.wants_model else None)
    route = router.route(path, target, model)
    if route.model is not None and body and route.path_model is None:
        body = asking(body, route.model, fields)
    if route.entry.translation is None and route.entry.dialect and body is not None:
        body = without_foreign(body)
    edit = _edit(route, body)
    if edit is not None and body is not None and route.entry.passing is not None:
        body = edit.edited(body, route.entry.passing, config_of(route))
    return _Case(route, path, query, body, edit)


def _of_all(config: Config) -> Iterator[str]:
    """A list that no target is asked for alone."""
    asked = ", ".join(source.target for source in sources(config)) or "none"
    yield "answer       of the proxy itself: the names of models, its own servers, and what targets tell"
    yield f"asked        {asked}"


def _way(config: Config, route: Route) -> Iterator[str]:
    """Which target, through what."""
    translation = route.entry.translation
    yield f"target       {route.target.name}: {route.target.url}"
    yield f"middlewares  {', '.join(config.middlewares)}"
    yield f"mapping      {translation.description if translation else 'none: bytes pass untouched'}"
    other = route.entry.fallback
    while other is not None and other.translation is not None:
        yield f"otherwise    {other.translation.description}, once the target has answered 404 or 405"
        other = other.fallback


def _translation(config: Config, case: _Case) -> Translated | None:
    """The translated request, None where it passes; raises AttachmentsNeeded, TemplateNeeded."""
    translation, body = case.route.entry.translation, case.body
    if translation is None or not (translation.bodiless or body is not None):
        return None
    asked = Asked(
        case.path,
        _path_model(case.route),
        dict(parse_qsl(case.query)),
        prompt=lambda name, language: config.library.find(name, [language or ""]),
        alias=case.route.alias,
    )
    parsed = None if translation.bodiless else loads_request(body or b"")
    return translation.request(parsed, asked, edit=case.edit)


def _fetched(needed: AttachmentsNeeded | TemplateNeeded) -> Iterator[str]:
    """What the proxy would have to ask for first."""
    if isinstance(needed, AttachmentsNeeded):
        yield f"fetched      {' '.join(needed.urls)}"
        yield "             first, which explain does not do: put the data into the body to see the request"
    else:
        yield f"fetched      {' or '.join(needed.template.paths)} of the target, for its chat template"
        yield "             first, which explain does not do: name a template to see the request"


def _changes(case: _Case, translated: Translated | None) -> Iterator[str]:
    """What is set, and what is lost."""
    edit = case.edit
    if edit is not None:
        yield f"settings     {', '.join(edit.applied) or 'none'}"
    if translated is not None or edit is not None:
        cut = edit.dropped if edit is not None and case.route.entry.passing is not None else []
        lost = (*cut, *(translated.dropped if translated else ()))
        yield f"dropped      {'; '.join(shown(lost, case.route.target.losses)) or 'nothing'}"


def _edit(route: Route, body: bytes | None) -> Edit | None:
    """What `models:` says of the request, if anything."""
    settings = route.model.settings if route.model else None
    if settings is None or body is None:
        return None
    return settings.edit(loads_request(body), "", datetime.now().astimezone())


def _of_ourselves(reply: Reply) -> str:
    return f"answer       of the proxy itself: {reply.body.decode().strip()}"


def _body(question: Question) -> bytes | None:
    """The body, with the model that the command line names put into it."""
    body = question.body
    if question.model is None:
        return body
    value = loads_request(body or b"{}")
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    if body and "model" in value:
        return with_model(body, question.model)
    return orjson.dumps(value | {"model": question.model})


def _path_model(route: Route) -> str | None:
    if route.path_model is None:
        return None
    return route.model.upstream_name if route.model else route.path_model


def _request(route: Route, translated: Translated | None, query: str, body: bytes | None) -> Iterator[str]:
    plan = Plan.of(replace(route.target, key=MASK.decode() if route.target.key else None), route.entry.dialect)
    path = path_at_target(route, plan.origin, translated, query)
    sent = translated.body if translated else body or b""
    method = "POST" if body is not None else "GET"
    head = request_head(plan, plan.origin, path, method, [], translated, sent, None)
    yield ""
    text = (head.replace(b"\r\n", b"\n") + sent).decode("utf-8", "backslashreplace")
    yield from ("> " + line for line in text.removesuffix("\n").split("\n"))


def _answer(router: Router, path: str, translated: Translated | None, recorded: bytes) -> Iterator[str]:
    """What a client gets for a recorded answer, an error of the target's included."""
    yield ""
    written = recorded if translated is None else _translated(router, path, translated, recorded)
    yield from ("< " + line for line in written.decode("utf-8", "backslashreplace").split("\n"))


def _translated(router: Router, path: str, translated: Translated, recorded: bytes) -> bytes:
    translator = translated.answer(media_type_of(recorded), {})
    if translator is None:
        return recorded
    written = b""
    try:
        written += translator.feed(recorded)
        return written + translator.end()
    except ProxyError as error:
        dialect = router.dialect_of(path)
        if translator.live and written:
            return written + translator.fail(dialect.write_stream_error(error, "explained"))
        return b"%d " % error.status + orjson.dumps(dialect.write_error(error, "explained"))


def media_type_of(recorded: bytes) -> str:
    """What a recorded answer is: server-sent events, JSON lines or JSON, by how it begins."""
    start = recorded.removeprefix(BOM).lstrip()
    if start.startswith((b"data:", b"event:", b"id:", b"retry:", b":")):
        return "text/event-stream"
    lines = [line for line in start.splitlines() if line.strip()]
    if len(lines) > 1 and all(line.startswith(b"{") and line.rstrip().endswith(b"}") for line in lines):
        return MEDIA_TYPES["ndjson"]
    return MEDIA_TYPES["json"]
