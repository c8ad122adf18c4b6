"""The command line: commands, what they print, and exit codes.

Exit codes: 0 ok, 1 the configuration or input is wrong, 2 wrong usage, 3 the address cannot be bound, 130 interrupted.
Each command imports what it needs when it runs, so that the others start at once.
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooltiproxy import __doc__ as summary
from mooltiproxy import __version__
from mooltiproxy.errors import ConfigError, MooltiError, Problem

if TYPE_CHECKING:
    from mooltiproxy.config.inputs import Inputs
    from mooltiproxy.config.model import Config
    from mooltiproxy.discovery import Found
    from mooltiproxy.mapping.chat_template import ChatTemplate
    from mooltiproxy.mapping.dialect import Dialect
    from mooltiproxy.running import Proxy

OK, WRONG, CANNOT_BIND, INTERRUPTED = 0, 1, 3, 130
CONFIG_FILE = Path("config.yaml")
CERTIFICATES = Path("certificates")
TEMPLATE = "config.template.yaml"
HTTPS = 443
TARGET = "target"
"""The name of the target that --target makes."""
NOTHING_TO_SERVE = (
    "there is no config.yaml here: write one with `mooltiproxy config new`, name one with --config, "
    "or name a server with --target URL"
)
BIND_ERRORS = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, errno.EAFNOSUPPORT}
EXAMPLES = """\
examples:
  mooltiproxy demo                                       see it work, with nothing else installed
  mooltiproxy serve --target http://127.0.0.1:8080       put it before a server; no file needed
  mooltiproxy config new && mooltiproxy check            write config.yaml, edit it, check it
  mooltiproxy serve                                      serve what ./config.yaml says
  mooltiproxy selftest http://127.0.0.1:8080             what can this server do?
  mooltiproxy cert new proxy.example.org                 make a certificate for `system.ssl: true`

`serve` wants a master key in the environment: export MOOLTIPROXY_KEY=...
exit codes: 0 ok, 1 the configuration or input is wrong, 2 wrong usage, 3 the address cannot be bound
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give back its exit code; raises SystemExit for --help, --version and wrong usage (2)."""
    options = _parser().parse_args(argv)
    options.given = argv
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has left; nothing more may be written at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WRONG
    except (MooltiError, OSError) as error:
        return _fail(_describe(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "mooltiproxy",
        description=summary,
        epilog=EXAMPLES,
        usage="mooltiproxy [-h] [--version] COMMAND ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mooltiproxy {__version__}")
    commands = parser.add_subparsers(prog="mooltiproxy", title="commands", metavar="COMMAND ...", required=True)
    _add_serve(commands)
    _add(commands, "demo", "show the proxy at work before a toy model server", _demo)
    _add_check(commands)
    _add_explain(commands)
    _add_plan(commands)
    _add_logs(commands)
    _add_bans(commands)
    _add_usage(commands)
    _add_selftest(commands)
    _add_import(commands)
    _add_key(commands)
    _add_cert(commands)
    _add_config(commands)
    for kind in ("mappers", "prompters"):
        _add(commands, kind, f"list the {kind} that a configuration can name", _list).set_defaults(kind=kind)
    _add(commands, "templates", "list the templates that a configuration can name", _list_templates)
    return parser


def _add(commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(run=run)
    return parser


def _add_serve(commands: Any) -> None:
    parser = _add(commands, "serve", "run the proxy", _serve)
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: ./config.yaml if it is there")
    parser.add_argument("--bindip", metavar="IP", help="listen on this address instead of system.host")
    parser.add_argument("--bindport", type=_port, metavar="N", help="listen on this port instead of system.port")
    parser.add_argument("--verbose", action="store_true", help="log more, with all requests and answers")
    target = parser.add_argument_group("one target, with or without a configuration file")
    target.add_argument("--target", metavar="URL", help="the default target; what it speaks is found out")
    target.add_argument("--aihost", metavar="H", help="the same, as a host (default: 127.0.0.1) ...")
    target.add_argument("--aihostport", type=_port, metavar="N", help="... and a port")
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # how a supervisor starts its workers
    parser.set_defaults(parser=parser)


def _add_check(commands: Any) -> None:
    parser = _add(commands, "check", "check a configuration file and print every mistake in it", _check)
    parser.add_argument("config", type=Path, nargs="?", default=CONFIG_FILE, metavar="CONFIG", help="(./config.yaml)")


def _add_explain(commands: Any) -> None:
    parser = _add(commands, "explain", "show what would be sent where, and what is lost; sends nothing", _explain)
    parser.add_argument("--config", type=Path, default=CONFIG_FILE, metavar="FILE", help="(./config.yaml)")
    parser.add_argument("--path", required=True, help="the path that the client asks for, as /v1/chat/completions")
    parser.add_argument("--target", metavar="T", help="the target that the client names")
    parser.add_argument("--model", metavar="M", help="the model that the client names, instead of the body's")
    parser.add_argument(
        "--answer", type=Path, metavar="FILE", help="a recorded answer: shows what the client would get"
    )
    parser.add_argument("body", type=Path, nargs="?", metavar="BODY.json", help="the client's body")


def _add_plan(commands: Any) -> None:
    parser = _add(commands, "plan", "show what a reload with another file would change; changes nothing", _plan)
    parser.add_argument("--config", type=Path, default=CONFIG_FILE, metavar="FILE", help="served now (./config.yaml)")
    parser.add_argument("new", type=Path, metavar="NEW.yaml", help="the file that is to take its place")


def _add_logs(commands: Any) -> None:
    parser = _add(commands, "logs", "show what a model server says that the running proxy has started", _logs)
    parser.add_argument("--follow", action="store_true", help="go on with what it will say, until Ctrl-C")
    parser.add_argument("--lines", type=_count, metavar="N", help="the last N lines; default: all that are kept")
    _add_place(parser)
    parser.add_argument("name", metavar="MODEL", help="a model of the file, or a target")


def _add_bans(commands: Any) -> None:
    text = "list, add or lift bans of the running proxy"
    parser = commands.add_parser("bans", help=text, description=f"{text.capitalize()}.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = _add(actions, "list", "show who is banned, and for how long yet", _bans)
    adding = _add(actions, "add", "ban an address", _bans)
    lifting = _add(actions, "lift", "lift a ban", _bans)
    for action, name in ((listing, "list"), (adding, "add"), (lifting, "lift")):
        action.set_defaults(action=name)
        _add_place(action)
    for action in (adding, lifting):
        action.add_argument("address", metavar="ADDRESS", help="of IPv6: its network is meant")
    adding.add_argument("--seconds", type=_any_seconds, default=0.0, metavar="N", help="how long; default: for good")


def _add_usage(commands: Any) -> None:
    parser = _add(commands, "usage", "show what keys have used of which models, by day", _usage)
    parser.add_argument("--day", metavar="DAY", help="as 2026-01-31, of UTC; default: today")
    parser.add_argument("--from", dest="first", metavar="DAY", help="the first of several days")
    parser.add_argument("--to", dest="last", metavar="DAY", help="the last of them; default: today")
    parser.add_argument("--json", action="store_true", help="as JSON")
    _add_place(parser)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="the file that the proxy serves (./config.yaml)")
    parser.add_argument("--url", metavar="URL", help="where it is, if not where the file says; needs no file")


def _add_selftest(commands: Any) -> None:
    parser = _add(commands, "selftest", "ask a live target what it can do", _selftest)
    parser.add_argument("--config", type=Path, metavar="FILE", help="(./config.yaml)")
    parser.add_argument("--model", metavar="M", help="the model to ask; default: one of its own")
    parser.add_argument("--timeout", type=_seconds, default=30.0, metavar="SECONDS", help="for each probe (30)")
    parser.add_argument("target", metavar="TARGET", help="a target of the configuration, or the url of a server")
    parser.set_defaults(parser=parser)


def _add_key(commands: Any) -> None:
    text = "make keys for clients, list them, take them back"
    parser = commands.add_parser("key", help=text, description=f"{text.capitalize()}.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    new = _add(actions, "new", "print a new key, and its entry for `keys:`", _key_new)
    new.add_argument("--write", action="store_true", help="write the entry into the file, and have the proxy reload")
    listing = _add(actions, "list", "show whose keys there are and what each may do", _key_list)
    listing.add_argument("--config", type=Path, default=CONFIG_FILE, metavar="FILE", help="(./config.yaml)")
    revoking = _add(actions, "revoke", "take a key out of its file, and have the proxy reload", _key_revoke)
    for action in (new, revoking):
        _add_place(action)
        action.add_argument("name", metavar="NAME", help="whose key it is; the log shows this name")


def _add_import(commands: Any) -> None:
    text = "turn a configuration of LiteLLM, llama-swap, TabbyAPI-Proxy or llm-proxy-api into ours, and print it"
    parser = _add(commands, "import", text, _import_file)
    parser.add_argument("file", type=Path, metavar="FILE", help="the file; the folder of TabbyAPI-Proxy")


def _add_cert(commands: Any) -> None:
    parser = commands.add_parser("cert", help="make a certificate", description="Make a certificate.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    new = _add(actions, "new", "write a self-signed pair, certificates/cert.pem and key.pem", _cert_new)
    new.add_argument("hosts", nargs="*", metavar="HOST", help="names and addresses; default: this machine only")


def _add_config(commands: Any) -> None:
    text = "write a configuration file, or print its schema"
    parser = commands.add_parser("config", help=text, description=f"{text.capitalize()}.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add(actions, "new", "write ./config.yaml, with every key explained", _config_new)
    _add(actions, "schema", "print the JSON Schema of the configuration file, for editors", _config_schema)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to a day")
    return seconds


def _any_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _fail(message: str, code: int = WRONG) -> int:
    print(message, file=sys.stderr)
    return code


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: cannot be used: {error.strerror}"
    return str(error)


def _serve(options: argparse.Namespace) -> int:
    from mooltiproxy.config.inputs import Inputs

    file = options.config or (CONFIG_FILE if CONFIG_FILE.exists() else None)
    target = _target(options)

    def configured(inputs: Inputs) -> "Config":
        read = None if inputs.text is None else options.config or CONFIG_FILE
        return _with_options(_configuration(read, target, inputs), options)

    def configuration() -> "tuple[Config, Inputs]":
        inputs = Inputs.of(file)
        return configured(inputs), inputs

    if options.worker is not None:
        from mooltiproxy.workers.worker import work

        return work(options.worker, configured, verbose=options.verbose)
    config, inputs = configuration()
    _warn(config.warnings)
    if not config.system.masterkey:
        return _fail(_no_master_key())
    try:
        if config.system.workers > 1:
            from mooltiproxy.workers.supervisor import supervise

            command = _this_command(options.given)
            return supervise(config, inputs, command, verbose=options.verbose, reload=configuration if file else None)
        from mooltiproxy.server import serve

        return serve(config, verbose=options.verbose, reload=(lambda: configuration()[0]) if file else None)
    except OSError as error:
        if not _is_bind_error(error):
            raise
        reason = os.strerror(error.errno) if error.errno in BIND_ERRORS else str(error.strerror)
        return _fail(f"cannot listen on {config.system.host} port {config.system.port}: {reason}", CANNOT_BIND)


def _this_command(given: Sequence[str] | None) -> list[str]:
    """What runs the same command in another process."""
    if given is None:
        return [sys.executable, *sys.orig_argv[1:]]
    return [sys.executable, "-m", "mooltiproxy", *given]


def _is_bind_error(error: OSError) -> bool:
    from socket import gaierror

    return error.errno in BIND_ERRORS or isinstance(error, gaierror)


def _target(options: argparse.Namespace) -> dict[str, Any] | None:
    """The target of the command line, if it names one, as a file would say it."""
    url = _target_url(options)
    return None if url is None else {"targets": {"default": TARGET, TARGET: {"url": url, "speaks": "auto"}}}


def _probe(url: str, key: str | None, dialects: "Iterable[Dialect]") -> tuple[str, ...]:
    """What a live server speaks of these."""
    from mooltiproxy.upstream.probe import probe

    return probe(url, key, dialects)


def _target_url(options: argparse.Namespace) -> str | None:
    """The url that --target or --aihost and --aihostport mean; ends the program (2) if they contradict each other."""
    url: str | None = options.target
    host, port = options.aihost, options.aihostport
    if url and (host or port is not None):
        options.parser.error("--target and --aihost or --aihostport exclude each other")
    if host and port is None:
        options.parser.error("--aihost wants --aihostport too")
    if port is None:
        return url
    host = host or "127.0.0.1"
    scheme = "https" if port == HTTPS else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{scheme}://{host}:{port}"


def _configuration(file: Path | None, target: dict[str, Any] | None, inputs: "Inputs") -> "Config":
    """The file's settings, with the target of the command line as the default one; raises ConfigError without both."""
    from mooltiproxy.config.load import from_data, load

    probe = inputs.probe(_probe)
    config = load(file, probe=probe, text=inputs.text) if file else None
    if target is None:
        config = config or _of_seeds()
        if config is None:
            raise ConfigError(Problem(NOTHING_TO_SERVE))
        return config
    alone = from_data(target, config.folder if config else Path(), probe=probe)
    if config is None:
        return alone
    return replace(config, targets={**config.targets, **alone.targets}, default_target=TARGET)


def _of_seeds() -> "Config | None":
    """The configuration that variables of other projects stand for, where there is no file; raises ConfigError."""
    from mooltiproxy.config.load import from_data
    from mooltiproxy.config.seed_variables import interstitial, models_config, only_last
    from mooltiproxy.importers.reading import import_file

    relay = interstitial(os.environ)
    if relay is not None:
        return only_last(from_data(relay, Path()))
    models = models_config(os.environ)
    return from_data(import_file(models, os.environ)[0].data, Path()) if models else None


def _with_options(config: "Config", options: argparse.Namespace) -> "Config":
    """The configuration with what the command line says instead; to be verbose is to log bodies, too."""
    host = config.system.host if options.bindip is None else options.bindip
    port = config.system.port if options.bindport is None else options.bindport
    debug = config.system.debug or options.verbose
    return replace(config, system=replace(config.system, host=host, port=port, debug=debug))


def _no_master_key() -> str:
    from secrets import token_hex

    return (
        "There is no master key, so the proxy would be open to everybody and does not start.\n"
        f"Set one in the environment, for example:\n\n  export MOOLTIPROXY_KEY={token_hex(24)}\n"
    )


def _warn(warnings: Iterable[Problem]) -> None:
    for problem in warnings:
        print(replace(problem, message=f"warning: {problem.message}"), file=sys.stderr)


def _demo(options: argparse.Namespace) -> int:
    from mooltiproxy.demo.run import run_demo

    return run_demo()


def _check(options: argparse.Namespace) -> int:
    from mooltiproxy.config.load import load

    try:
        config = load(options.config)
    except ConfigError as error:
        print(error)
        return WRONG
    for problem in config.warnings:
        print(replace(problem, message=f"warning: {problem.message}"))
    print(f"{options.config}: ok")
    return OK


def _key_new(options: argparse.Namespace) -> int:
    from mooltiproxy.key_command import add, check_name
    from mooltiproxy.keys import hash_of, new_key

    check_name(options.name)
    key = new_key()
    entry = f'{{hash: "{hash_of(key)}"}}'
    if options.write:
        add(options.config or CONFIG_FILE, options.name, entry)
    print(f"The key, shown this once:\n\n    {key}\n")
    if options.write:
        print(f"wrote its entry into {options.config or CONFIG_FILE}")
        _have_reloaded(options)
    else:
        print(f"Its entry in the configuration:\n\nkeys:\n  {options.name}: {entry}")
    return OK


def _key_list(options: argparse.Namespace) -> int:
    from mooltiproxy.config.load import load
    from mooltiproxy.key_command import rows

    _print_table(rows(load(options.config)))
    return OK


def _key_revoke(options: argparse.Namespace) -> int:
    from mooltiproxy.key_command import revoke

    file = options.config or CONFIG_FILE
    entry = revoke(file, options.name)
    print(f"took {options.name} out of {entry.file}")
    if entry.file == file:
        return _have_reloaded(options)
    print("a proxy that runs takes that up within three seconds")
    return OK


def _have_reloaded(options: argparse.Namespace) -> int:
    """Have the running proxy take up what was written, or say how that is done; WRONG where one runs and does not."""
    from mooltiproxy.gate_commands import reload
    from mooltiproxy.running import CannotAsk, NobodyAsked

    try:
        proxy = _running(options)
        changes = reload(proxy)
    except (CannotAsk, ConfigError) as reason:
        print(f"a proxy that runs does not know that yet: send its process SIGHUP\n{reason}", file=sys.stderr)
        return OK if isinstance(reason, NobodyAsked) else WRONG
    print(f"the proxy at {proxy.url} has reloaded:")
    for line in changes:
        print(f"  {line}")
    return OK


def _cert_new(options: argparse.Namespace) -> int:
    from mooltiproxy.certs import write_pair

    for file in write_pair(CERTIFICATES, options.hosts):
        print(f"wrote {file}")
    return OK


def _explain(options: argparse.Namespace) -> int:
    from mooltiproxy.config.load import load
    from mooltiproxy.explain import Question, explain

    body = options.body.read_bytes() if options.body else None
    answer = options.answer.read_bytes() if options.answer else None
    for line in explain(load(options.config), Question(options.path, options.target, options.model, body, answer)):
        print(line)
    return OK


def _plan(options: argparse.Namespace) -> int:
    from mooltiproxy.config.load import load
    from mooltiproxy.plan import plan

    try:
        after = load(options.new, folder=options.config.parent)
    except ConfigError as error:
        print(error)
        return WRONG
    before = load(options.config)
    _warn([*before.warnings, *after.warnings])
    for line in plan(before, after):
        print(line)
    return OK


def _logs(options: argparse.Namespace) -> int:
    from mooltiproxy.logs_command import Wanted, show_logs

    def write(piece: bytes) -> None:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()

    show_logs(_running(options), Wanted(options.name, options.lines, options.follow), write)
    return OK


def _running(options: argparse.Namespace) -> "Proxy":
    """The proxy that --config and --url mean; raises ConfigError, CannotAsk."""
    from mooltiproxy.config.load import load
    from mooltiproxy.running import Proxy

    if options.config or not options.url:
        proxy = Proxy.of(load(options.config or CONFIG_FILE))
    else:
        proxy = Proxy(key=os.environ.get("MOOLTIPROXY_KEY", ""))
    return proxy.at(options.url) if options.url else proxy


def _bans(options: argparse.Namespace) -> int:
    from mooltiproxy.gate_commands import add_ban, bans, bans_table, lift_ban

    proxy = _running(options)
    if options.action == "add":
        rows = add_ban(proxy, options.address, options.seconds)
    else:
        rows = bans(proxy) if options.action == "list" else lift_ban(proxy, options.address)
    _print_table(bans_table(rows))
    return OK


def _usage(options: argparse.Namespace) -> int:
    from mooltiproxy.gate_commands import usage, usage_table

    days = {name: getattr(options, field) for name, field in (("day", "day"), ("from", "first"), ("to", "last"))}
    rows = usage(_running(options), {name: day for name, day in days.items() if day})
    if options.json:
        import orjson

        print(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
    else:
        _print_table(usage_table(rows))
    return OK


def _selftest(options: argparse.Namespace) -> int:
    import asyncio

    from mooltiproxy.config.load import from_data, load
    from mooltiproxy.selftest import Wish, selftest

    url = options.target if "://" in options.target else None
    if url and options.config:
        options.parser.error("a url needs no --config: name a target of the file instead")

    def configuration(spoken: Sequence[str]) -> "Config":
        if url is None:
            return load(options.config or CONFIG_FILE, probe=lambda *_: spoken)
        target = {"url": url, "speaks": list(spoken)}
        return from_data({"targets": {"default": TARGET, TARGET: target}}, Path())

    wish = Wish(TARGET if url else options.target, options.model, options.timeout)
    asyncio.run(selftest(configuration, wish, lambda line: print(line, flush=True)))
    return OK


def _import_file(options: argparse.Namespace) -> int:
    from mooltiproxy.importers.reading import import_file

    imported, text = import_file(options.file, os.environ)
    print(text, end="")
    lost = sum(not note.is_carried for note in imported.notes)
    print(f"{len(imported.notes)} keys, {lost} not carried: they are listed at the end", file=sys.stderr)
    print(f"to be set in the environment: {', '.join(imported.variables)}", file=sys.stderr)
    return OK


def _config_new(options: argparse.Namespace) -> int:
    package = Path(__file__).parent
    inside = package / "root" / TEMPLATE
    template = inside if inside.exists() else package.parent / TEMPLATE
    content = template.read_bytes()
    try:
        with CONFIG_FILE.open("xb") as out:
            out.write(content)
    except FileExistsError:
        return _fail(f"{CONFIG_FILE} is there already: move it away first if you want a new one")
    print(f"wrote {CONFIG_FILE}: edit it, then `mooltiproxy check`")
    return OK


def _config_schema(options: argparse.Namespace) -> int:
    import orjson

    from mooltiproxy.config.schema import json_schema

    print(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode())
    return OK


def _list(options: argparse.Namespace) -> int:
    from mooltiproxy.discovery import discover

    builtin, everything = discover(None), discover(Path())
    ours: dict[str, Found] = getattr(builtin, options.kind)
    found: dict[str, Found] = getattr(everything, options.kind)
    _print_table(sorted(_row(entry, ours) for entry in found.values()))
    if options.kind == "mappers":
        print("\ndialects, for `speaks:`")
        _print_table(sorted((name, dialect.doc) for name, dialect in everything.dialects.items()))
    return OK


def _list_templates(options: argparse.Namespace) -> int:
    from mooltiproxy.config.load import load
    from mooltiproxy.mapping.formats import FORMATS
    from mooltiproxy.mapping.prompt import TEMPLATES

    own = load(CONFIG_FILE).templates if CONFIG_FILE.exists() else TEMPLATES
    rows = {name: (name, "built in", known.doc) for name, known in FORMATS.items()}
    for name, template in own.items():
        is_ours = template == TEMPLATES.get(name)
        where = "built in" if is_ours else _hiding(str(CONFIG_FILE), name in TEMPLATES or name in FORMATS)
        rows[name] = (name, where, _in_short(template))
    _print_table([rows[name] for name in sorted(rows)])
    return OK


def _row(entry: "Found", ours: "Mapping[str, Found]") -> tuple[str, str, str]:
    if entry.builtin:
        return entry.name, f"built in: {'/'.join(entry.file.parts[-2:])}", entry.doc
    return entry.name, _hiding(os.path.relpath(entry.file), entry.name in ours), entry.doc


def _hiding(where: str, hides: bool) -> str:
    return f"{where} (hides the built-in one)" if hides else where


def _in_short(template: "Mapping[str, str] | ChatTemplate") -> str:
    if not isinstance(template, Mapping):
        return f"chat template, {template.format or 'of no known format'}"
    return ", ".join(f"{name} {text!r}" for name, text in template.items() if text)


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """What clients have named writes neither lines of its own nor to the terminal."""
    plain = [[cell if cell.isprintable() else ascii(cell)[1:-1] for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
    for row in plain:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
