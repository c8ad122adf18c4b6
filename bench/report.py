"""Medians of the rounds, ratios to nginx, and how both are shown."""

import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import orjson

BASE = "nginx"


@dataclass(frozen=True, slots=True)
class Taken:
    """One figure of one gateway in one round."""

    measure: str
    figure: str
    gateway: str
    value: float


@dataclass(frozen=True, slots=True)
class Result:
    """One figure of one gateway: its median, each round, and the median over nginx's median."""

    measure: str
    figure: str
    gateway: str
    median: float
    rounds: list[float]
    ratio_to_nginx: float | None


def results(taken: Iterable[Taken]) -> list[Result]:
    """Every figure of every gateway, in the order in which they were first taken."""
    rounds: dict[tuple[str, str, str], list[float]] = {}
    for one in taken:
        rounds.setdefault((one.measure, one.figure, one.gateway), []).append(one.value)
    medians = {key: statistics.median(values) for key, values in rounds.items()}
    return [
        Result(*key, medians[key], values, _ratio(medians[key], medians.get((key[0], key[1], BASE))))
        for key, values in rounds.items()
    ]


def _ratio(value: float, base: float | None) -> float | None:
    return value / base if base else None


def table(found: Sequence[Result], gateways: Sequence[str]) -> str:
    """One line a figure: each gateway's median, then its ratio to nginx."""
    cells = {(one.measure, one.figure, one.gateway): one for one in found}
    compared = [name for name in gateways if name not in (BASE, "direct")]
    heads = [*gateways, *(f"{name} : {BASE}" for name in compared)]
    lines = [f"{'measure':<18}{'figure':<22}" + "".join(f"{head:>20}" for head in heads)]
    for measure, figure in dict.fromkeys((one.measure, one.figure) for one in found):
        row = [cells.get((measure, figure, name)) for name in gateways]
        ratios = [cells.get((measure, figure, name)) for name in compared]
        shown = [_shown(one.median if one else None) for one in row]
        shown += [_shown(one.ratio_to_nginx if one else None) for one in ratios]
        lines.append(f"{measure:<18}{figure:<22}" + "".join(f"{cell:>20}" for cell in shown))
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_json(found: Sequence[Result], failures: Sequence[str]) -> bytes:
    """Everything, with what the machine is."""
    machine = {
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("aiohttp", "uvloop", "httptools", "orjson")},
    }
    whole = {"machine": machine, "results": [asdict(one) for one in found], "failures": list(failures)}
    return orjson.dumps(whole, option=orjson.OPT_INDENT_2)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
