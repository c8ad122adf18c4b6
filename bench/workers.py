"""How much more two workers do than one: python bench/workers.py. Linux, two cores, nginx and wrk.

wrk asks for chats that are translated to TGI; nginx answers them all alike, and so costs little. Load and upstream
share the cores with the proxy, so two workers never have two cores for themselves: `possible` is the ratio that the
processor time of all of them allows. Runs of one and of two alternate; shown are medians, and the ratio of the best run
of each, which others on the machine have disturbed least.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import load
from bench.gateways import CLIENT_KEY, missing_tools
from bench.processes import Process, free_port, running

CONNECTIONS = 64
WARM_UP_SECONDS = 1.0
MICRO, MEGA = 1e6, 1024 * 1024
ANSWER = '[{"generated_text":"Hello Bob.","details":{"finish_reason":"length","generated_tokens":3,"seed":null}}]'
NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ default_type application/json; return 200 '{answer}'; }}
    }}
}}
"""
PROXY = """
system: {{port: {port}, workers: {workers}}}
targets: {{default: tgi, tgi: {{url: "http://127.0.0.1:{upstream}", speaks: tgi, template: chatml}}}}
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """One run: requests per second, and microseconds of processor time for each, of the proxy and of the rest."""

    rate: float
    proxy: float
    rest: float


@dataclass(frozen=True, slots=True)
class Served:
    """A proxy before nginx."""

    proxy: Process
    upstream: Process
    port: int
    folder: Path

    def take(self, seconds: float) -> Taken:
        """Ask for so long."""
        before, beside = self._cpu(), self.upstream.cpu_seconds() + wrk_seconds()
        count = load.wrk(self.port, load.chat(), self.folder, connections=CONNECTIONS, seconds=seconds)
        spent, rest = self._cpu() - before, self.upstream.cpu_seconds() + wrk_seconds() - beside
        return Taken(count.done / count.seconds, spent / count.done * MICRO, rest / count.done * MICRO)

    def _cpu(self) -> float:
        """Seconds of processor time of the proxy and its workers so far."""
        return sum(one.cpu_seconds() for one in tree(self.proxy))


def tree(process: Process) -> list[Process]:
    """A process and all below it."""
    below = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [process, *(one for child in below for one in tree(replace(process, pid=int(child))))]


def wrk_seconds() -> float:
    """The same of all that has been run and has ended."""
    times = os.times()
    return times.children_user + times.children_system


@contextmanager
def served(workers: int) -> Iterator[Served]:
    """A proxy with so many workers, on any core."""
    port, upstream = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as made, ExitStack() as opened:
        folder = Path(made)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=upstream, answer=ANSWER))
        (folder / "config.yaml").write_text(PROXY.format(port=port, upstream=upstream, workers=workers))
        nginx = [shutil.which("nginx") or "/usr/sbin/nginx", "-c", f"{folder}/nginx.conf", "-p", made]
        behind = opened.enter_context(
            running([*nginx, "-e", f"{folder}/error.log"], upstream, folder / "nginx.log", cpu=None, env={})
        )
        serve = [sys.executable, "-m", "mooltiproxy", "serve", "--config", f"{folder}/config.yaml"]
        env = {"MOOLTIPROXY_KEY": CLIENT_KEY}
        before = opened.enter_context(running(serve, port, folder / "proxy.log", cpu=None, env=env))
        yield Served(before, behind, port, folder)


def show(one: list[Taken], two: list[Taken]) -> None:
    """Print the medians."""
    for name, taken in (("1 worker", one), ("2 workers", two)):
        rate, proxy, rest = (statistics.median(getattr(run, of) for run in taken) for of in ("rate", "proxy", "rest"))
        print(f"{name:9}  {rate:7.0f} requests/s  {proxy:4.0f} us of the proxy and {rest:3.0f} us of the rest for each")
    ratios = sorted(second.rate / first.rate for first, second in zip(one, two, strict=True))
    pairs = zip(one, two, strict=True)
    possible = statistics.median(2 * first.proxy / (second.proxy + second.rest) for first, second in pairs)
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    best = max(run.rate for run in two) / max(run.rate for run in one)
    print(
        f"ratio      {statistics.median(ratios):.2f}, of the best {best:.2f}, possible {possible:.2f} (runs: {shown})"
    )


def main() -> int:
    """Run and print; 2 if a program is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    if missing := missing_tools():
        print(f"missing: {', '.join(missing)}. On Debian: apt-get install nginx-light wrk", file=sys.stderr)
        return 2
    with served(1) as alone, served(2) as pair:
        runs: dict[Served, list[Taken]] = {alone: [], pair: []}
        for number in range(options.rounds + 1):
            for which in (alone, pair) if number % 2 else (pair, alone):
                taken = which.take(options.seconds if number else WARM_UP_SECONDS)
                if number:
                    runs[which].append(taken)
        show(runs[alone], runs[pair])
        for name, which in (("1 worker", alone), ("2 workers", pair)):
            sizes = " + ".join(f"{one.rss() / MEGA:.0f}" for one in tree(which.proxy))
            print(f"{name:9}  {sizes} MB of memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
