"""Measures mooltiproxy beside nginx and beside a direct connection, on this machine, in one run.

The gateway has one core for itself; upstream and load have another. Rounds alternate between the gateways; what is
shown is the median of the rounds. docs/bench.md says what each figure means.
"""

import argparse
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.gateways import BASIC, NAMES, Cores, bench, missing_tools
from bench.measures import MEASURES, Measure
from bench.processes import BenchError
from bench.report import Taken, as_json, results, table

ROUNDS, SECONDS = 3, 4.0
QUICK_ROUNDS, QUICK_SECONDS = 1, 2.0
ENOUGH_FILES = 4096


def arguments() -> argparse.Namespace:
    """The command line."""
    names = [one.name for one in MEASURES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round: a look, not a result")
    parser.add_argument("--only", metavar="NAME", action="append", choices=names, help=_names())
    parser.add_argument(
        "--gateway",
        metavar="NAME",
        action="append",
        choices=NAMES,
        help=f"of {', '.join(NAMES)}; without: {', '.join(BASIC)}",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure of every round there")
    return parser.parse_args()


def _names() -> str:
    return "one measure (may be repeated): " + "; ".join(f"{one.name}: {one.about}" for one in MEASURES)


def cores() -> Cores:
    """The two cores used; this process, hence its children, stays on the load's."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        print("only one core: gateway, upstream and load share it, so requests/s say little", file=sys.stderr)
    os.sched_setaffinity(0, {usable[-1]})
    return Cores(gateway=usable[0], load=usable[-1])


def allow_many_files() -> None:
    """Raise the limit of open files, which the idle streams need here and in the gateway."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < ENOUGH_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(ENOUGH_FILES, hard), hard))


def one_round(
    measures: Sequence[Measure], gateways: Sequence[str], used: Cores, seconds: float
) -> tuple[list[Taken], list[str]]:
    """The figures of one round, and what failed."""
    taken: list[Taken] = []
    failures: list[str] = []
    for measure in measures:
        for name in gateways:
            print(f"  {measure.name}, {name}", file=sys.stderr)
            try:
                with bench(name, used, events=measure.events, pace=measure.pace) as gateway:
                    figures = measure.take(gateway, seconds * measure.longer)
            except (BenchError, OSError, TimeoutError, ExceptionGroup) as error:
                failures.append(f"{measure.name}, {name}: {_reason(error)}")
                continue
            taken += [Taken(measure.name, figure, name, value) for figure, value in figures.items()]
    return taken, failures


def _reason(error: BaseException) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def main() -> int:
    """Run, print the table; 1 if a measure failed, 2 if a program is missing."""
    options = arguments()
    if missing := missing_tools():
        print(f"missing: {', '.join(missing)}. On Debian: apt-get install nginx-light wrk", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    allow_many_files()
    used = cores()
    measures = [one for one in MEASURES if not options.only or one.name in options.only]
    gateways = [name for name in NAMES if name in (options.gateway or BASIC)]
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if options.quick else (ROUNDS, SECONDS)
    taken: list[Taken] = []
    failures: list[str] = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        more, failed = one_round(measures, gateways, used, seconds)
        taken += more
        failures += failed
    found = results(taken)
    print(table(found, gateways))
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if options.json:
        options.json.write_bytes(as_json(found, failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
