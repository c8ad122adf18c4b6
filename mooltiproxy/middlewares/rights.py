"""What a key may ask: targets, endpoints and models. Each check raises Forbidden that names what is missing.

Names of models are those that the target will read, so nothing is looked for in bytes: a body that may be read in two
ways is refused, or written anew so that there is one.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from mooltiproxy.config.model import Key
from mooltiproxy.errors import Forbidden
from mooltiproxy.exchange import Exchange
from mooltiproxy.mapping.bodies import loads_request
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.json_edit import keys_of, model_of, with_model
from mooltiproxy.routing import MAX_NAME, Route

DENIED = "permission_denied"
PLAIN = ("", "identity")
FORM = "application/x-www-form-urlencoded"
UTF8 = ("utf-8", "utf8", "us-ascii")
ELSEWHERE = frozenset({"models", "fallbacks", "input_file_id"})
"""Fields in which some gateways take further models, to ask when the first one fails, and that of a file full of
requests."""
DEEPER = (
    ("tools", "model"),
    ("requests", "model"),
    ("requests", "params", "model"),
    ("generateContentRequest", "model"),
    ("parameters", "adapter_id"),
)
"""Where bodies name models that work beside the first one: a tool's, those of several requests in one, and TGI's."""
_DEEPER = frozenset(place[0] for place in DEEPER)
_PREFIX = "models/"
"""What Gemini's bodies have before a model's name."""


def check_target(key: Key | None, name: str) -> None:
    """A key may be for some targets only."""
    if key is not None and key.targets is not None and name not in key.targets:
        raise Forbidden(f"this key may not ask target {name}", code=DENIED)


def check_endpoint(key: Key | None, endpoint: Endpoint | None, method: str) -> None:
    """A key may be for some endpoints only; what no API has is none of them, nor is what an endpoint does by another
    method than its own (`DELETE /v1/models/NAME`)."""
    if key is None or key.endpoints is None:
        return
    if not key.may_use(endpoint):
        what = f"`{endpoint.label}`" if endpoint is not None else "this path, which is no endpoint of an API"
        raise Forbidden(f"this key may not use {what}", code=DENIED)
    if endpoint is not None and method != endpoint.method and (method, endpoint.method) != ("HEAD", "GET"):
        raise Forbidden(f"this key may use `{endpoint.label}` by {endpoint.method} only", code=DENIED)


async def check_model(key: Key, exchange: Exchange, route: Route, asked: str | None, fields: Sequence[str]) -> None:
    """A key may be for some models only. `asked` is the name in the path or in the body, `fields` are where bodies have
    it. What counts is the name under `models:` that it comes to, else the client's own; where the client names none,
    what the route asks for in its stead. Only whether the target lives may be asked without any."""
    if route.model is not None and route.model.name:
        name = route.model.name
    else:
        name = route.path_model or asked or (route.model.upstream_name if route.model is not None else "")
    if not name and route.entry.endpoint is not None and route.entry.endpoint.kind == "health":
        return
    _check_name(key, name)
    for field, value in parse_qsl(exchange.query, keep_blank_values=True):
        if field.casefold() in fields:
            _check_name(key, value)
    if exchange.request.body_exists:
        await _settle_body(key, exchange, asked, fields)


def _check_name(key: Key, name: str) -> None:
    if not key.may_name(name):
        what = f"ask for model {name[:MAX_NAME]}" if name else "ask without naming a model: it is for some models only"
        raise Forbidden(f"this key may not {what}", param="model", code=DENIED)


async def _settle_body(key: Key, exchange: Exchange, asked: str | None, fields: Sequence[str]) -> None:
    """Leave no other model in the body than one that the key may ask for, however its target reads it."""
    if not is_plain_json(exchange.request) or (exchange.request.charset or "utf-8").lower() not in UTF8:
        raise Forbidden("this key is for some models only, and what this body asks for cannot be read", code=DENIED)
    body = await exchange.body()
    name = model_of(body, fields)
    if name is None:
        return
    names = keys_of(body)
    further = {one for one in names if one in ELSEWHERE or one in _DEEPER and names.count(one) > 1}
    other = next((one for one in names if one in further or one not in fields and one.casefold() in fields), None)
    if other is not None:
        message = f"this key is for some models only, and `{other}` may name another: leave it out"
        raise Forbidden(message, param=other, code=DENIED)
    if name and name != asked:  # the path has named another
        _check_name(key, name.removeprefix(_PREFIX))
    for deeper in _deeper(loads_request(body)):
        _check_name(key, deeper.removeprefix(_PREFIX))
    if sum(one in fields for one in names) > 1:
        exchange.replace_body(with_model(body, name, fields))


def _deeper(body: Any) -> Iterator[str]:
    """The models that a body names where `DEEPER` says."""
    for *place, field in DEEPER:
        found = [body]
        for name in place:
            values = [one.get(name) for one in found if isinstance(one, dict)]
            found = [one for value in values for one in (value if isinstance(value, list) else [value])]
        named = [one.get(field) for one in found if isinstance(one, dict)]
        yield from (one for one in named if isinstance(one, str))


def is_plain_json(request: web.BaseRequest) -> bool:
    """Whether a body is JSON that can be read as it is: by its media type, whatever the parameters."""
    media_type = request.content_type
    is_json = media_type == "application/json" or media_type.endswith("+json")
    return is_json and request.headers.get("Content-Encoding", "") in PLAIN


def hides_json(request: web.BaseRequest) -> bool:
    """Whether a body may be JSON without saying so: curl -d calls it a form, and some clients say nothing."""
    media_type = request.content_type if "Content-Type" in request.headers else FORM
    return request.method == "POST" and media_type == FORM and request.headers.get("Content-Encoding", "") in PLAIN
