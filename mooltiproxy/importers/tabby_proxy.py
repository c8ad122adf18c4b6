"""TabbyAPI-Proxy's folder: config/ with a file for each model, TabbyAPI's config.yml, api_tokens.yml; or one file.

As the README and proxy.py of github.com/emzaedu/TabbyAPI-Proxy have them: a model's name is its file's path without
.yml, `template` holds what requests get where the client does not say it, all else is TabbyAPI's own. It lies in
TabbyAPI's folder, where it starts `start.py --config FILE` for the model that is asked for, one at a time.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from mooltiproxy.config.shapes import Where
from mooltiproxy.importers.accounts import Pattern
from mooltiproxy.importers.draft import Data, Draft, Imported, Variable
from mooltiproxy.importers.foreign import items, section, text
from mooltiproxy.importers.servers import joined, wrong_url

_MAIN = "config.yml"
_TOKENS = "api_tokens.yml"
_MODELS = "config/"
_HOST = "127.0.0.1"
_PORT_OF_TABBY, _PORT_WITHOUT_MAIN = 5000, 7001
_EVERYWHERE = ("0.0.0.0", "::")

_TABBYS = "TabbyAPI itself reads it, from this file"
_START = "start.py"
_GROUP = "tabby"
_READY = "/v1/model"
"""What answers 200 to who has a key, once a model is loaded; /health does before."""
_UNLOAD_TIMER = ("model", "unload_timer")
_RUN = "there is no start.py of TabbyAPI around this file: say under `run` of the target how it is started"

_OWN = (("template", "system"), ("template", "system_time"))

REASONS: dict[Pattern, str] = {
    **{(name,): _TABBYS for name in ("network", "logging", "model", "draft_model", "lora", "embeddings", "developer")},
    ("sampling", "override_preset"): _TABBYS,
    ("memory",): _TABBYS,
    _UNLOAD_TIMER: _RUN,
}


def recognise(data: Any) -> bool:
    """Whether this is a model's file of TabbyAPI-Proxy, or a folder with such files."""
    return _is_model(data) or (isinstance(data, dict) and any(_is_model(file) for file in data.values()))


def _is_model(data: Any) -> bool:
    return bool(text(section(data, "model").get("model_name"))) and "targets" not in data


def convert(draft: Draft, environ: Mapping[str, str]) -> Imported:
    """Each file becomes a model; it has a target that starts TabbyAPI with that file, or where TabbyAPI is not to be
    found, the one target that is a TabbyAPI."""
    draft.need("MOOLTIPROXY_KEY", "the master key, a new one")
    alone = _is_model(draft.document.data)
    files: Data = {} if alone else draft.document.data
    variable = _keys(draft, section(files, _TOKENS))
    for path, name, data in _models(draft, alone):
        started = _started(draft, path, name, data, variable)
        target = started or _target(draft, section(files, _MAIN), variable)
        _model(draft, path, name, data, target)
        if started:
            _tell_main(draft, section(section(files, _MAIN), "network"))
    return draft.finish(REASONS if alone else {("*", *pattern): reason for pattern, reason in REASONS.items()})


def _models(draft: Draft, alone: bool) -> Iterator[tuple[Where, str, Data]]:
    """Each model's file: the path of its data, the model's name, its data."""
    data = draft.document.data
    if alone:
        yield (), PurePath(draft.document.places[()].file).stem, data
        return
    in_folder = any(name.startswith(_MODELS) for name in data)
    for name, file in data.items():
        if name.startswith(_MODELS) == in_folder and name != _TOKENS and _is_model(file):
            yield (name,), str(PurePath(name.removeprefix(_MODELS)).with_suffix("")), file


def _keys(draft: Draft, tokens: Data) -> str:
    """Each token becomes a key; gives back the variable of the one that TabbyAPI itself takes, "" if there is none."""
    chosen = ""
    for name, written in tokens.items():
        many = items(written)
        for position, key in enumerate(many or [written]):
            path: Where = (_TOKENS, name, position) if many else (_TOKENS, name)
            ours = f"{name}-{position + 1}" if many else name
            variable = draft.secret(str(key), f"tabby-{name.removesuffix('_key')}", f"the key {ours}")
            chosen = chosen or variable
            draft.put(path, ("keys", ours), {"envkey": variable}, "the key is not written here: set the variable")
    return chosen


def _started(draft: Draft, path: Where, name: str, data: Data, variable: str) -> str:
    """The target that starts TabbyAPI with this file; "" where TabbyAPI is not around it."""
    file = Path(draft.document.places[path].file).absolute()
    folder = next((parent for parent in file.parents if (parent / _START).is_file()), None)
    if folder is None:
        return ""
    port = section(data, "network").get("port")
    url = f"http://{_HOST}:{port}" if isinstance(port, int) else Variable(f"http://{_HOST}:${{port}}")
    if not variable and (folder / _TOKENS).is_file():
        variable = draft.need("TABBY_API_KEY", f"the key of TabbyAPI, as {_TOKENS} has it")
    key = {"envkey": variable} if variable else {}
    run = _run(folder, file, data) | ({"ready": _READY} if variable else {})
    target = draft.target(name, {"url": url, **key, "speaks": "openai", "run": run})
    if "unload_after" in run:
        draft.put((*path, *_UNLOAD_TIMER), ("targets", target, "run", "unload_after"), run["unload_after"])
    return target


def _run(folder: Path, file: Path, data: Data) -> Data:
    """What starts TabbyAPI with this file, which goes before the environment, and that before config.yml."""
    python = folder / "venv/bin/python"
    command = [str(python) if python.exists() else "python", _START, "--config", str(file.relative_to(folder))]
    idle = section(data, "model").get("unload_timer")
    return {
        "command": joined(command),
        "cwd": str(folder),
        "env": {"TABBY_NETWORK_HOST": _HOST, "TABBY_NETWORK_PORT": Variable("${port}")},
        **({} if idle is None else {"unload_after": idle}),
        "group": _GROUP,
    }


def _target(draft: Draft, main: Data, variable: str) -> str:
    network = section(main, "network")
    host = text(network.get("host")) or _HOST
    host = _HOST if host in _EVERYWHERE else f"[{host}]" if ":" in host else host
    url = f"http://{host}:{network.get('port') or (_PORT_OF_TABBY if main else _PORT_WITHOUT_MAIN)}"
    is_open = network.get("disable_auth") is True or not variable
    url = "http://127.0.0.1:5000" if wrong_url(url) else url
    target = draft.target("tabby", {"url": url, **({} if is_open else {"envkey": variable}), "speaks": "openai"})
    for name in ("host", "port"):
        if name in network:
            draft.tell((_MAIN, "network", name), ("targets", target, "url"))
    if "disable_auth" in network:
        draft.say(
            (_MAIN, "network", "disable_auth"), f"mapped to targets.{target}: it gets {'no' if is_open else 'a'} key"
        )
    return target


def _tell_main(draft: Draft, network: Data) -> None:
    """Say what becomes of TabbyAPI's own address, where it is started with one of ours."""
    for name in network.keys() & {"host", "port"}:
        draft.say((_MAIN, "network", name), "each server gets a free port of this machine")


def _model(draft: Draft, path: Where, name: str, data: Data, target: str) -> None:
    ours: Where = ("models", name)
    draft.put((*path, "model", "model_name"), ours, {"target": target, "name": text(data["model"]["model_name"])})
    for kind in ("sampling", "template"):
        for field, value in section(data, kind).items():
            place: Where = (field,) if (kind, field) in _OWN else ("defaults", field)
            if (kind, field) != ("sampling", "override_preset"):
                draft.put((*path, kind, field), (*ours, *place), value)
