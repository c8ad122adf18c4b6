"""Which program a configuration is of, and what it is in ours: `import_file`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mooltiproxy.errors import ConfigError, Problem
from mooltiproxy.importers import litellm, llama_swap, llm_proxy_api, tabby_proxy
from mooltiproxy.importers.draft import Draft, Imported
from mooltiproxy.importers.source import read_source
from mooltiproxy.importers.writing import written


@dataclass(frozen=True, slots=True)
class Importer:
    """One program: its name, whether data is its configuration, and how that becomes ours.

    `convert` also gets the environment, since some programs have settings there.
    """

    program: str
    recognise: Callable[[Any], bool]
    convert: Callable[[Draft, Mapping[str, str]], Imported]


IMPORTERS = (
    Importer("LiteLLM", litellm.recognise, litellm.convert),
    Importer("llama-swap", llama_swap.recognise, llama_swap.convert),
    Importer("llm-proxy-api", llm_proxy_api.recognise, llm_proxy_api.convert),
    Importer("TabbyAPI-Proxy", tabby_proxy.recognise, tabby_proxy.convert),
)


def import_file(path: Path, environ: Mapping[str, str]) -> tuple[Imported, str]:
    """What a file, or a folder of files, of one of these programs is in our configuration: as data, and as YAML text.

    Raises ConfigError where it cannot be read, or is of none of these programs.
    """
    document = read_source(path)
    importer = next((one for one in IMPORTERS if one.recognise(document.data)), None)
    if importer is None:
        raise ConfigError(Problem(_not_recognised(document.data), file=str(path)))
    imported = importer.convert(Draft(document), environ)
    return imported, written(imported, path, importer.program)


def _not_recognised(data: Any) -> str:
    if isinstance(data, dict) and "targets" in data:
        return "this is a configuration of mooltiproxy already: `mooltiproxy check` checks it"
    return (
        "this is a configuration of none of the programs that are known here: LiteLLM (model_list), llama-swap (models "
        "with cmd, or peers), llm-proxy-api (active_models), TabbyAPI-Proxy (a folder of files with model.model_name)"
    )
