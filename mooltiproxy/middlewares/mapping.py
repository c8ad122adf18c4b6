"""mapping: translates the request on its way in, and lays down for the forwarder how its answer is to be read."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from mooltiproxy.body_log import BodyLog, body_log, is_readable
from mooltiproxy.config.model import Config
from mooltiproxy.config.prompts import Library
from mooltiproxy.errors import EndpointMissing, UnsupportedMedia
from mooltiproxy.exchange import EXCHANGE, Exchange
from mooltiproxy.mapping.attachments import NOTHING, Attachment, AttachmentsNeeded
from mooltiproxy.mapping.bodies import loads_request
from mooltiproxy.mapping.chat_template import TargetTemplate, TemplateNeeded
from mooltiproxy.mapping.losses import shown
from mooltiproxy.mapping.neutral import Asked
from mooltiproxy.mapping.settings import Edit, accepted_languages
from mooltiproxy.mapping.signatures import without_foreign
from mooltiproxy.mapping.translate import Translated, Translation
from mooltiproxy.middlewares.rights import FORM
from mooltiproxy.routing import config_of
from mooltiproxy.upstream.forward import WHOLE_BODY

BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
MAX_READ = 8 * 1024 * 1024
"""Bytes of a body that passes up to which it is searched for what is another vendor's: longer ones are streamed."""
DROPPED = b"x-mooltiproxy-dropped"
KEEP_ALIVE = ("keep_alive", "options.keep_alive")
FOREIGN = "messages.signature"
"""What a target's own clients lose where they bring thoughts of another vendor's model."""

Fetch = Callable[[Sequence[str]], Awaitable[Mapping[str, Attachment]]]
"""Fetches images and documents by their URLs; raises BadRequest."""

Learn = Callable[[TargetTemplate], Awaitable[None]]
"""Asks a target for its chat template; raises UpstreamError."""


@dataclass(frozen=True, slots=True)
class Help:
    """What a translation may need that is not in the request: `fetch` gets what clients name by URL for targets that
    take no URLs, `learn` a target's own chat template, `library` has prompts."""

    fetch: Fetch
    learn: Learn
    library: Library


def mapping(config: Config, fetch: Fetch, learn: Learn) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware that writes `exchange.translated`; with `system.debug`, bodies are logged before and after."""
    needs = Help(fetch, learn, config.library)
    bodies = body_log(config)
    # With one API behind the proxy, clients have another vendor's thoughts at most from before a reload.
    longest = MAX_READ if len({target.speaks for target in config.targets.values()}) > 1 else WHOLE_BODY

    async def middleware(
        request: web.BaseRequest, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        unedited = await put_settings(exchange) if is_set(exchange) else None
        translation = exchange.route.entry.translation if exchange.route else None
        if translation is not None and takes(translation, request):
            translated = await translate(exchange, translation, needs)
            if exchange.route and exchange.route.entry.fallback and translated.elsewhere in exchange.route.missing:
                exchange.translated = translated
                raise EndpointMissing("the target does not have this path")
            exchange.translated = bodies.watched(exchange.id, translated) if bodies else translated
            tell(exchange, shown(lost(exchange, translated), exchange.losses))
            if bodies:
                bodies.write(exchange.id, "request of the client", await exchange.body())
                bodies.write(exchange.id, *what_follows(translation, translated))
            if translated.reply is not None and not starts_server(exchange):
                return web.Response(body=translated.reply.body, content_type=translated.reply.media_type)
        elif translation is None and is_read(exchange, longest):
            forget_foreign(exchange, await exchange.body())
        if bodies and exchange.translated is None:
            await watch(exchange, bodies)
        if unedited is None:
            return await handler(request)
        try:
            return await handler(request)
        except EndpointMissing:
            exchange.replace_body(unedited)  # it goes another way now
            raise

    return middleware


async def watch(exchange: Exchange, bodies: BodyLog) -> None:
    """Log what passes untouched, as far as it is text."""
    request = exchange.request
    readable = is_readable(request.content_type, request.headers.get("Content-Encoding", ""))
    if readable and (body := await exchange.body()):
        bodies.write(exchange.id, "request of the client (passes)", body)
    exchange.watch = bodies.pieces(exchange.id, "answer of the target (passes)")


def what_follows(translation: Translation, translated: Translated) -> tuple[str, bytes]:
    """What the log calls the body that a translated request becomes, and the body."""
    if translated.reply is not None:
        return "answer of the proxy itself", translated.reply.body
    return f"request to the target ({translation.description})", translated.body


def is_read(exchange: Exchange, longest: int) -> bool:
    """Whether a request that passes has a body that is worth a look: plain JSON to an API, and no upload."""
    request, route = exchange.request, exchange.route
    if route is None or route.entry.dialect is None or not 0 < (request.content_length or 0) <= longest:
        return False
    plain = request.headers.get("Content-Encoding", "identity").lower() == "identity"
    return plain and request.content_type == "application/json"


def forget_foreign(exchange: Exchange, body: bytes) -> None:
    """Leave out of a body that passes what the proxy has marked as another vendor's, and name it."""
    own = without_foreign(body)
    if own is not body:
        exchange.replace_body(own)
        tell(exchange, shown((FOREIGN,), exchange.losses))


def tell(exchange: Exchange, told: tuple[str, ...]) -> None:
    """Name losses in the answer's header and in the log, behind those that are told already."""
    if told:
        exchange.dropped = (*exchange.dropped, *told)
        exchange.headers[:] = [field for field in exchange.headers if field[0] != DROPPED]
        exchange.headers.append((DROPPED, header_value(exchange.dropped)))


def starts_server(exchange: Exchange) -> bool:
    """Whether the target's server is started by the proxy, which then loads, unloads, and keeps it alive itself."""
    return exchange.route is not None and exchange.route.target.run is not None


def lost(exchange: Exchange, translated: Translated) -> tuple[str, ...]:
    """What the target cannot be told, and nobody else heeds."""
    return tuple(name for name in translated.dropped if name not in KEEP_ALIVE or not starts_server(exchange))


def is_set(exchange: Exchange) -> bool:
    """Whether `models:` says something of a request whose body goes on as the client wrote it."""
    route = exchange.route
    if route is None or route.model is None or route.model.settings is None or route.entry.passing is None:
        return False
    return exchange.request.method not in BODILESS


async def put_settings(exchange: Exchange) -> bytes:
    """Put the model's settings into a body that passes; gives the body without. Raises UnsupportedMedia, BadRequest."""
    route, body = exchange.route, await exchange.body()
    edit = edit_of(exchange, await json_body(exchange))
    if route is not None and route.entry.passing is not None and edit is not None:
        exchange.replace_body(edit.edited(body, route.entry.passing, config_of(route)))
        tell(exchange, shown(tuple(edit.dropped), exchange.losses))
    return body


def edit_of(exchange: Exchange, body: Any) -> Edit | None:
    """The settings of the route's model for this request; raises BadRequest."""
    model = exchange.route.model if exchange.route else None
    if model is None or model.settings is None:
        return None
    return model.settings.edit(body, exchange.request.headers.get("Accept-Language", ""), datetime.now().astimezone())


def takes(translation: Translation, request: web.BaseRequest) -> bool:
    """Whether this request is one to translate: it has a body, or needs none."""
    return request.can_read_body or request.method not in BODILESS or translation.bodiless and request.method == "GET"


async def translate(exchange: Exchange, translation: Translation, needs: Help) -> Translated:
    """The translated request; raises UnsupportedMedia, BadRequest, UpstreamError for a template that cannot be had."""
    if translation.bodiless:
        return translation.request(None, asked(exchange, needs.library))
    body = await json_body(exchange)
    fetched: Mapping[str, Attachment] = NOTHING
    while True:
        try:
            return translation.request(body, asked(exchange, needs.library), fetched, edit_of(exchange, body))
        except AttachmentsNeeded as needed:
            fetched = await needs.fetch(needed.urls)
        except TemplateNeeded as needed_template:
            await needs.learn(needed_template.template)


async def json_body(exchange: Exchange) -> Any:
    """The parsed body; raises UnsupportedMedia, BadRequest."""
    request = exchange.request
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("a body that is to be translated must not be compressed (Content-Encoding)")
    media_type = request.content_type
    body = await exchange.body()
    # curl -d sends JSON as a form; a body without any type counts as application/octet-stream.
    lenient = media_type in (FORM, "application/octet-stream") and body.lstrip()[:1] in (b"{", b"[")
    if media_type != "application/json" and not media_type.endswith("+json") and not lenient:
        raise UnsupportedMedia(f"this endpoint takes application/json, not {media_type}")
    return loads_request(body)


def asked(exchange: Exchange, library: Library) -> Asked:
    """What the request says outside its body, the model by the name that its target knows."""
    route = exchange.route
    model = None
    if route is not None and route.path_model is not None:
        model = route.model.upstream_name if route.model else route.path_model

    def prompt(name: str, language: str | None) -> str | None:
        accepted = accepted_languages(exchange.request.headers.get("Accept-Language", ""))
        return library.find(name, [language, *accepted] if language else accepted)

    return Asked(exchange.path, model, dict(parse_qsl(exchange.query)), prompt, route.alias if route else None)


def header_value(names: tuple[str, ...]) -> bytes:
    """What was dropped, as one header value: ASCII, no line ends."""
    text = "; ".join(names).encode("ascii", "replace")
    return bytes(byte for byte in text if 32 <= byte < 127)[:1000]
