"""The chain that every request runs through, in order: one ordinary aiohttp middleware a file.

`middlewares:` in the configuration reorders them, leaves some out, or adds a user's own as `file:function`.
"""

import importlib.util
import sys
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from mooltiproxy.bans import Bans
from mooltiproxy.catalogue.answers import Catalogue
from mooltiproxy.config.model import Config
from mooltiproxy.errors import ConfigError, Problem
from mooltiproxy.keyring import Keyring
from mooltiproxy.limits.ledger import Counts
from mooltiproxy.limits.rules import RuleBook
from mooltiproxy.middlewares.access_log import AccessLog, access_log
from mooltiproxy.middlewares.bearer_auth import bearer_auth
from mooltiproxy.middlewares.cors import cors
from mooltiproxy.middlewares.ip_rules import ip_rules
from mooltiproxy.middlewares.mapping import mapping
from mooltiproxy.middlewares.rate_limit import metered, rate_limit
from mooltiproxy.middlewares.routing import routing
from mooltiproxy.middlewares.security_headers import security_headers
from mooltiproxy.routing import Router
from mooltiproxy.upstream.fetch import AttachmentFetcher
from mooltiproxy.upstream.templates import TemplateFetcher

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Middleware = Callable[[web.BaseRequest, Handler], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What middlewares are made from: the configuration, and the state that outlives it."""

    config: Config
    keyring: Keyring
    router: Router
    catalogue: Catalogue
    bans: Bans
    log: AccessLog
    endpoints: dict[str, Handler]
    open_paths: Collection[str]
    attachments: AttachmentFetcher
    templates: TemplateFetcher
    rules: RuleBook
    counts: Counts


MIDDLEWARES: dict[str, Callable[[Parts], Middleware]] = {
    "access_log": lambda parts: access_log(parts.log),
    "security_headers": lambda parts: security_headers(),
    "cors": lambda parts: cors(parts.config.system.cors),
    "ip_rules": lambda parts: ip_rules(parts.config, parts.bans, parts.router, parts.endpoints),
    "bearer_auth": lambda parts: bearer_auth(parts.keyring, parts.bans, parts.router, parts.open_paths),
    "rate_limit": lambda parts: rate_limit(
        parts.rules, parts.counts, parts.router, parts.config.registry.dialects, parts.open_paths
    ),
    "routing": lambda parts: routing(parts.router, parts.catalogue, parts.endpoints),
    "mapping": lambda parts: mapping(parts.config, parts.attachments.fetch, parts.templates.fetch),
}


def build_chain(parts: Parts, forward: Handler) -> Handler:
    """The chain as one handler: the first name of `middlewares:` is outermost, the forwarder is the end, behind what
    counts tokens."""
    handler = metered(parts.config, parts.rules, parts.counts, parts.router, forward)
    for name in reversed(parts.config.middlewares):
        if name == "rate_limit" and not parts.rules.has_clients:
            continue  # it has nothing to count
        factory = MIDDLEWARES.get(name)
        middleware = factory(parts) if factory else _users_own(parts.config.folder, name)
        handler = _bound(middleware, handler)
    return handler


def _bound(middleware: Middleware, handler: Handler) -> Handler:
    return lambda request: middleware(request, handler)


def _users_own(folder: Path, name: str) -> Middleware:
    """The function of a `file:function` beside the configuration file; raises ConfigError."""
    stem, _, function_name = name.partition(":")
    file = folder / f"{stem}.py"
    where = Problem("", path=("middlewares", name), file=str(file))
    spec = importlib.util.spec_from_file_location(f"mooltiproxy_user_{stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything
        raise ConfigError(_problem(where, f"cannot be loaded: {type(error).__name__}: {error}")) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(_problem(where, f"has no function {function_name}"))
    return function  # type: ignore[no-any-return]


def _problem(where: Problem, message: str) -> Problem:
    return Problem(message, where.path, where.line, where.file)
