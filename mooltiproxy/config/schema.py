"""The configuration file, key by key, as voluptuous schemas; `json_schema` is made from the same."""

import inspect
import re
import ssl
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voluptuous import Invalid, Marker, MultipleInvalid, Optional, Required

from mooltiproxy.config.limits import concurrent, limits, price, whole_limits
from mooltiproxy.config.model import TLS
from mooltiproxy.config.options import model_name, options, position
from mooltiproxy.config.pairs import fitting_pairs, names_one_way
from mooltiproxy.config.prompts import Library
from mooltiproxy.config.run import fitting_target, run, sizes
from mooltiproxy.config.shapes import Checked, Entries, ListOf, Section, SectionOr, Shape, attempted
from mooltiproxy.config.target_tls import target_tls
from mooltiproxy.config.templates import CONTROL_TOKENS, fitting_templates, one_template, template_word
from mooltiproxy.config.validators import (
    Json,
    Word,
    bounds,
    certificate_name,
    client_path,
    expected,
    expiry,
    flag,
    host,
    key,
    key_name,
    limit,
    matching,
    network,
    one_of,
    origin,
    piece,
    plain_name,
    port,
    seconds,
    size,
    suggestion,
    target_name,
    target_path,
    text,
    url_or_port,
    variable_name,
    whole_number,
    workers,
)
from mooltiproxy.discovery import Found
from mooltiproxy.mapping import losses
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.mapping.translate import endpoint_at

MIDDLEWARES = ("access_log", "security_headers", "cors", "ip_rules", "bearer_auth", "rate_limit", "routing", "mapping")
"""The built-in middlewares in their default order."""

_ORDER = (
    ("ip_rules", "bearer_auth", "finds the address that a wrong key counts for"),
    ("ip_rules", "rate_limit", "finds the address that limits count for"),
    ("bearer_auth", "rate_limit", "finds the key that limits count for"),
    ("bearer_auth", "routing", "finds the key whose rights count"),
    ("routing", "mapping", "finds what is to be mapped"),
)
"""Of two middlewares the one that must stand first, the other, and what the first is for."""
_CERTIFICATES = {"cert": "certificates/cert.pem", "key": "certificates/key.pem"}
_MISSING_FILE = "expected a file's path, it is missing"
_HASH = "sha256:[0-9a-f]{64}"
_STORE = "memory|sqlite:.+|rediss?://.+|unix://.+"
STORE_FAILURES = ("open", "closed")
_USERS_OWN = re.compile(r"([A-Za-z_][A-Za-z0-9_]*):([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class Known:
    """What the names in a file may refer to. None is not known: any name is taken, as for the JSON Schema."""

    folder: Path | None = None
    environ: Mapping[str, str] | None = None
    mappers: Mapping[str, Found] | None = None
    prompters: Mapping[str, Found] | None = None
    dialects: Mapping[str, Dialect] | None = None
    templates: Mapping[str, bool] | None = None
    targets: Collection[str] | None = None
    endpoints: Collection[str] | None = None
    library: Library | None = None


def schema(known: Known) -> Section:
    """The whole file."""
    return Section(
        {
            Optional("system", description="The proxy itself"): system(known),
            Optional("cerbere", description="The gate: rules by IP address"): cerbere(),
            Required("targets", msg="expected `targets:`, it is missing", description="The servers to ask"): Entries(
                target_name,
                target(known),
                fixed={
                    Required(
                        "default",
                        msg="expected the name of a target, it is missing",
                        description="The target of requests that name none",
                    ): one_of("target", known.targets)
                },
            ),
            Optional("limits", description="What each key, or each address, may use"): whole_limits(),
            Optional("keys", description="Keys of clients beside the master key, by name"): Entries(
                key_name, client_key(known)
            ),
            Optional("keys_file", description="Further keys as they are, in a file such as TabbyAPI's"): text,
            Optional("models", description="Names that clients ask for, and which target has them"): Entries(
                model_name, model(known)
            ),
            Optional("models_dir", description="A folder of TabbyAPI-Proxy's files, a model each"): SectionOr(
                models_dir(known), text
            ),
            Optional("prompts", description="The prompt library"): prompts(known),
            Optional("rest", description="The endpoints of llm-proxy-api (off)"): rest(),
            Optional("templates", description="Prompt templates: five pieces, or chat templates"): Entries(
                plain_name, one_template(known.folder)
            ),
            Optional("middlewares", description="The chain, outermost first; your own as file:function"): Chain(
                middleware(known)
            ),
        }
    )


def system(known: Known) -> Section:
    """`system:`"""
    return Section(
        {
            Optional("host", description="Address to listen on (127.0.0.1: this machine only)"): host,
            Optional("port", description="Port to listen on (8000); 0 takes a free one"): port,
            Optional("ssl", description="true: certificates/cert.pem, key.pem beside the file; or a section"): Checked(
                SectionOr(tls(), flag), lambda value: certificates(value, known.folder)
            ),
            Optional("debug", description="Log bodies before and after mapping (false)"): flag,
            Optional("timeout", description="Limit of each phase of a request to a target (30), 0: none"): SectionOr(
                timeouts(), limit
            ),
            Optional("masterkey", description="For testing only: better set MOOLTIPROXY_KEY in the environment"): key,
            Optional("drain", description="Time that open answers may take after SIGTERM (30)"): seconds,
            Optional("max_body", description="Largest request body (64MiB)"): size,
            Optional("cors", description='Origins whose pages may call the proxy (["*"])'): ListOf(origin),
            Optional("private_images", description="Fetch attachments from private addresses too (false)"): flag,
            Optional("watch", description="Reload when the file, or one that it is made of, has changed (false)"): flag,
            Optional("workers", description="Processes that serve: a number, or auto, one for each core (1)"): workers,
            Optional(
                "store", description="Where limits, usage and bans are counted: memory, sqlite:FILE, redis://..."
            ): (store(known.folder)),
            Optional("store_failure", description="While it is down: open, or closed to what has limits (open)"): (
                one_of("policy", STORE_FAILURES)
            ),
            Optional("budget", description="What `run.memory` may be in all: a size, or ram, gpu, gpu0 ..."): sizes,
        }
    )


def tls() -> Section:
    """`system.ssl`, in its long form."""
    return Section(
        {
            Required("cert", msg=_MISSING_FILE, description="The certificate with its chain, PEM"): text,
            Required("key", msg=_MISSING_FILE, description="Its private key, PEM, without a password"): text,
            Optional("client_ca", description="Clients must have a certificate signed by one of these, PEM"): text,
        }
    )


def timeouts() -> Section:
    """`system.timeout`, in its long form."""
    return Section(
        {
            Optional("connect", description="To open a connection (30)"): limit,
            Optional("first_byte", description="From the request to the answer's first byte (30)"): limit,
            Optional("idle", description="Between two reads of an answer (30)"): limit,
            Optional("total", description="For the whole answer (none)"): limit,
        }
    )


def cerbere() -> Section:
    """`cerbere:`"""
    return Section(
        {
            Optional("max_tries", description="Wrong keys before an address is banned (3)"): whole_number(1),
            Optional(
                "ban", description="How long, doubled each time; 0: for good, in memory until restart (0)"
            ): seconds,
            Optional("forget", description="Time in which half of the tries are forgotten, 0: never (1h)"): seconds,
            Optional("ipv6_prefix", description="Addresses of IPv6 count by networks of so many bits (64)"): (
                whole_number(1, 128)
            ),
            Optional("whitelist", description="Addresses and networks that are never banned"): ListOf(network),
            Optional("blacklist", description="Addresses and networks that are refused"): ListOf(network),
            Optional("trusted_proxies", description="Only these are believed in X-Forwarded-For"): ListOf(network),
        }
    )


def target(known: Known) -> Section:
    """One entry of `targets:`"""
    return Section(
        {
            Required(
                "url", msg="expected the target's address, it is missing", description="Root or API base"
            ): url_or_port,
            Optional("envkey", description="Environment variable that holds the target's key"): variable(known),
            Optional("key", description="The target's key; better use envkey"): key,
            Optional("preserveMethod", description="Follow redirects with method and body kept (false)"): flag,
            Optional("speaks", description="APIs that the target has, or auto; all others are translated"): ListOf(
                one_of("dialect", known.dialects)
            ),
            Optional(
                "losses", description="What translation cannot carry: reject, warn or allow, by class"
            ): loss_policies,
            Optional(
                "keepalive", description="Silence after which a translated stream gets a sign of life (15)"
            ): limit,
            Optional(
                "endpoints", description="What of its APIs a target has; learned from its 404s when absent"
            ): ListOf(one_of("endpoint", known.endpoints)),
            Optional("mapping", description="Client paths, and what becomes of each"): Entries(
                client_path, SectionOr(entry(known), entry_word)
            ),
            Optional("tls", description="Who signs its certificate, and the one that it is shown"): target_tls(
                known.folder
            ),
            Optional("run", description="How its server is started, when it is asked"): run(
                known.folder, variable(known)
            ),
            Optional("concurrent", description="Requests that it is asked at a time; the others wait"): concurrent(),
            **_rendering(known),
        },
        check=lambda section: is_of_use(section, known),
    )


def client_key(known: Known) -> Section:
    """One entry of `keys:`"""
    return Section(
        {
            Optional("hash", description="SHA-256 of the key, as `mooltiproxy key new` prints it"): key_hash,
            Optional("envkey", description="Environment variable that holds the key"): variable(known),
            Optional("targets", description="The targets that it may ask (all)"): ListOf(
                one_of("target", known.targets)
            ),
            Optional(
                "certificate", description="Name of a client's certificate that is a key (CN=alice, DNS:host ...)"
            ): certificate_name,
            Optional("models", description="The models that it may ask for, by name or with a * (all)"): ListOf(
                model_name
            ),
            Optional("endpoints", description="What it may use: chat, embeddings, models ... (all)"): ListOf(
                one_of("endpoint", known.endpoints)
            ),
            Optional("expires", description="The last day, or the moment with its zone, until which it counts"): expiry,
            Optional("limits", description="What it may use, before the limits of all keys"): limits(per="key"),
            Optional("losses", description="What translation cannot carry, before what the target says"): loss_policies,
            Optional("admin", description="It may use the proxy's own endpoints, such as /-/status (false)"): flag,
        },
        check=has_one_key,
    )


def entry(known: Known) -> Section:
    """One path under `mapping:`, in its long form."""
    dialect = one_of("dialect", known.dialects)
    return Section(
        {
            Optional("path", description="Path at the target, below its url; the same when absent"): target_path,
            Optional("from", description="API of the clients; that which has their path when absent"): dialect,
            Optional("to", description="API of the target at this path: all is translated"): dialect,
            Optional("in", description="Mapper of requests"): function("mapper", known.mappers, "ip, cfg"),
            Optional("out", description="Mapper of answers"): function("mapper", known.mappers, "ip, cfg"),
            Optional("stream", description="Mapper of a streamed answer's events"): function(
                "mapper", known.mappers, "ip, cfg, state"
            ),
            **_rendering(known),
        },
        check=names_one_way,
    )


def model(known: Known) -> Section:
    """One entry of `models:`"""
    chat = endpoint_at(known.dialects or {}, "/v1/chat/completions")
    reader = chat[1].read_request if chat else None
    return Section(
        {
            Required("target", msg="expected a target, it is missing", description="The target that has it"): one_of(
                "target", known.targets
            ),
            Optional(
                "name", description="Its name there; the same when absent, * is what the name's * stood for"
            ): text,
            Optional("defaults", description="Settings of requests; what the client says goes first"): options(reader),
            Optional("overrides", description="Settings of requests that go before what the client says"): options(
                reader
            ),
            Optional("max_tokens", description="The most tokens that an answer may have (no limit)"): whole_number(1),
            Optional("temperature", description="The least and the most that clients may ask, else 400 (any)"): bounds,
            Optional("system", description="System prompt where the client sends none"): text,
            Optional("prompt", description="The same, by its name in the prompt library"): library_prompt(known),
            Optional("system_time", description="Begin the system prompt with date and time (false)"): flag,
            Optional("prefix", description="Before the words of each message of the user"): piece,
            Optional("suffix", description="Behind them"): piece,
            Optional("inject", description="Messages to put into each conversation"): ListOf(injection()),
            Optional("limits", description="What all its clients may use"): limits(per="all of them together"),
            Optional("price", description="What its tokens cost"): price(),
            Optional("memory", description="What its own server takes of system.budget (run.memory)"): sizes,
        },
        check=has_one_prompt,
    )


def injection() -> Section:
    """One entry of `inject:`"""
    return Section(
        {
            Required(
                "role", msg="expected system, user or assistant, it is missing", description="Who says it"
            ): one_of("role", ("system", "user", "assistant")),
            Required("content", msg="expected the message's text, it is missing", description="What is said"): text,
            Optional(
                "at", description="start (behind the system prompt), end, or before the message of this number (end)"
            ): position,
        }
    )


def models_dir(known: Known) -> Section:
    """`models_dir:`, in its long form."""
    return Section(
        {
            Required("dir", msg="expected a folder, it is missing", description="The folder"): text,
            Optional("target", description="The target that has these models (the default one)"): one_of(
                "target", known.targets
            ),
        }
    )


def prompts(known: Known) -> Section:
    """`prompts:`"""
    languages = None if known.library is None else known.library.languages
    return Section(
        {
            Optional("dir", description="Folder with LANGUAGE/NAME.prompt, beside the file (prompts/)"): text,
            Optional("language", description="For clients that want no other (en)"): one_of("language", languages),
        }
    )


def library_prompt(known: Known) -> Word:
    """The name of a prompt that the library has in the default language."""
    return one_of("prompt", None if known.library is None else known.library.names)


def rest() -> Section:
    """`rest:`"""
    return Section(
        {
            Required(
                "prefix",
                msg="expected the prefix of these endpoints, such as /rest, it is missing",
                description="What their paths begin with",
            ): Word(lambda value: client_path(value).rstrip("/"), client_path.json)
        }
    )


def _rendering(known: Known) -> dict[Marker, Shape]:
    return {
        Optional("prompter", description="Function that makes one prompt of messages (what the template needs)"): (
            function("prompter", known.prompters, "messages, cfg")
        ),
        Optional(
            "template", description="Template of prompts: a name, a file, a folder, or target (HumanResponse)"
        ): template_word(known.templates, known.folder),
        Optional("control_tokens", description="Words that only a template may write: break, refuse, keep"): one_of(
            "policy", CONTROL_TOKENS
        ),
        Optional("keep_bos", description="The target's tokenizer adds no BOS: leave the template's (false)"): flag,
    }


def function(what: str, found: Mapping[str, Found] | None, parameters: str) -> Word:
    """The name of a mapper or prompter that can be called with these parameters."""
    named = one_of(what, found)

    def check(value: Any) -> str:
        name = str(named(value))
        if found is not None and not _takes(found[name], parameters.count(",") + 1):
            raise Invalid(f"this {what} cannot be called as function({parameters}): see {found[name].file}")
        return name

    return Word(check, named.json)


def _takes(found: Found, count: int) -> bool:
    try:
        inspect.signature(found.function).bind(*range(count))
    except TypeError:
        return False
    return True


def variable(known: Known) -> Word:
    """The name of an environment variable that is set."""

    def check(value: Any) -> str:
        name = str(variable_name(value))
        if known.environ is not None and not known.environ.get(name, "").strip():
            raise Invalid("this environment variable is not set: set it to the key, or remove this")
        if known.environ is not None:
            key(known.environ[name])
        return name

    return Word(check, variable_name.json)


def _entry_word(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, str):
        raise expected(
            "nothing (the same path), another path, or a section {path, from, to, in, out, stream, ...}", value
        )
    return {} if value is None else {"path": target_path(value)}


def _key_hash(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(_HASH, value):
        raise Invalid("expected sha256: and 64 hexadecimal digits, as `mooltiproxy key new` prints them")
    return value


key_hash = Word(_key_hash, matching(_HASH))
loss_policies = Entries(one_of("class", losses.NAMES), one_of("policy", losses.POLICIES))

entry_word = Word(_entry_word, {"anyOf": [{"type": "null"}, target_path.json]})
"""A mapping entry in its short forms: nothing, or another path."""


def is_of_use(section: Mapping[str, Any], known: Known) -> Iterator[Invalid]:
    """A target needs `mapping` or `speaks`, or nobody can reach it; dialects of an entry must fit together."""
    if not section.get("mapping") and not section.get("speaks"):
        yield Invalid("expected `speaks:` (the API of the target) or entries under `mapping:`, both are missing")
    yield from fitting_target(section)
    if section.get("tls") and not str(section.get("url")).lower().startswith("https:"):
        yield Invalid("expected a `url` that begins with https:// beside it", ["tls"])
    if known.dialects is not None:
        yield from fitting_pairs(known.dialects, section)
    yield from fitting_templates(known.templates, section)


def has_one_prompt(section: Mapping[str, Any]) -> Iterator[Invalid]:
    """A model has one system prompt."""
    if "system" in section and "prompt" in section:
        yield Invalid("expected either `system` or `prompt`, both are there", ["prompt"])


def has_one_key(section: Mapping[str, Any]) -> Iterator[Invalid]:
    """An entry of `keys:` says in one way what the key is; a certificate may be one as well, or the only one."""
    said = [name for name in ("hash", "envkey") if name in section]
    if len(said) > 1 or not said and "certificate" not in section:
        yield Invalid("expected either `hash` (`mooltiproxy key new` makes one) or `envkey`, or else `certificate`")


def middleware(known: Known) -> Word:
    """A built-in middleware, or `file:function` in a Python file beside the configuration."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise expected("the name of a middleware", value)
        if value in MIDDLEWARES:
            return value
        own = _USERS_OWN.fullmatch(value)
        if own is None:
            raise Invalid(f"there is no such middleware, nor is it file:function{suggestion(value, MIDDLEWARES)}")
        if known.folder is not None and not (known.folder / f"{own[1]}.py").is_file():
            raise Invalid(f"there is no file {own[1]}.py beside the configuration file")
        return value

    return Word(check, matching("|".join((*MIDDLEWARES, _USERS_OWN.pattern))))


def store(folder: Path | None) -> Word:
    """`system.store`; a file's path is completed."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(_STORE, value):
            raise expected("memory, sqlite:FILE, or a URL of Redis such as redis://127.0.0.1:6379/0", value)
        kind, _, name = value.partition(":")
        if kind != "sqlite" or folder is None:
            return value
        file = folder / name
        if not file.parent.is_dir():
            raise Invalid("expected a file's path in a folder that is there")
        return f"sqlite:{file}"

    return Word(check, matching(_STORE))


class Chain(ListOf):
    """`middlewares:`, whose names also have an order."""

    def __call__(self, value: Any) -> Any:
        """The names; raises MultipleInvalid."""
        errors: list[Invalid] = []
        names = attempted(super().__call__, value, errors)
        written = value if isinstance(value, list) else [value]
        twice = [at for at, name in enumerate(written) if name in written[:at]]
        errors += [Invalid("this middleware is there twice", [at]) for at in twice]
        if names is not None:
            errors += _misplaced(names)
        if errors:
            raise MultipleInvalid(errors)
        return names


def _misplaced(names: tuple[str, ...]) -> Iterator[Invalid]:
    if "routing" not in names:
        yield Invalid("expected `routing` in the list: without it no request finds a target")
    for first, second, what in _ORDER:
        if first in names and second in names and (at := names.index(second)) < names.index(first):
            yield Invalid(f"expected `{second}` behind `{first}`, which {what}", [at])


def certificates(value: Any, folder: Path | None) -> TLS | None:
    """The files of `system.ssl`, tried; raises Invalid with what is wrong with them."""
    if value is False:
        return None
    files = _CERTIFICATES if value is True else value
    hint = "; `mooltiproxy cert new` writes certificates/cert.pem and key.pem" if value is True else ""
    paths = {name: (folder or Path()) / str(file) for name, file in files.items()}
    reasons = {name: unreadable(path) for name, path in paths.items()}
    errors = [Invalid(f"this file cannot be read: {why}{hint}", [name]) for name, why in reasons.items() if why]
    if errors:
        raise MultipleInvalid(errors)
    return _tried(TLS(paths["cert"], paths["key"], paths.get("client_ca")))


def unreadable(file: Path) -> str:
    """Why a file cannot be read, "" if it can."""
    try:
        with file.open("rb"):
            return ""
    except OSError as error:
        return error.strerror or "unknown"


def _tried(files: TLS) -> TLS:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "not PEM, or the key has a password"
        raise Invalid(f"cert and key cannot be used together: {reason}") from None
    try:
        if files.client_ca:
            context.load_verify_locations(files.client_ca)
    except ssl.SSLError:
        raise Invalid("expected certificates in PEM form", ["client_ca"]) from None
    return files


def _no_password() -> str:
    raise ValueError("the key has a password")


def json_schema() -> Json:
    """The JSON Schema (draft 2020-12) of the file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mooltiproxy configuration",
        **schema(Known()).json,
    }
