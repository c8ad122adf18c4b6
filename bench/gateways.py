"""What is measured, each between the load and a mock upstream: nothing at all, nginx, mooltiproxy, mooltiproxy with an
upstream that it has started itself, and with limits."""

import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.processes import BenchError, Process, free_port, listens, running

ROOT = Path(__file__).resolve().parent.parent
CLIENT_KEY = "bench-client-key"
UPSTREAM_KEY = "bench-upstream-key"
ON_DEMAND = "on-demand"
LIMITS = {
    "limited": "limits: {requests: 1000000000/15m}",
    "limited-sqlite": "limits: {requests: 1000000000/15m}",
    "limited-redis": "limits: {requests: 1000000000/15m}",
    "metered": "limits: {requests: 1000000000/15m, tokens: 1000000000000/1d}",
}
"""What these have in their file beside the rest."""
BASIC = ("direct", "nginx", "mooltiproxy")
"""Those that are measured if nothing else is said."""
NAMES = ("direct", "nginx", "mooltiproxy", ON_DEMAND, *LIMITS)
OURS = ("mooltiproxy", ON_DEMAND, *LIMITS)
"""Those that translate."""

# One process that does both jobs of nginx's master and worker, so that its figures are one process's.
NGINX_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
    access_log {folder}/access.log combined buffer=64k flush=1s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_body_buffer_size 256k;
    client_max_body_size 64m;
    keepalive_requests 1000000000;
    upstream model {{
        server 127.0.0.1:{upstream};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /ping {{ return 200; }}
        location / {{
            if ($http_authorization != "Bearer {client_key}") {{ return 401; }}
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "Bearer {upstream_key}";
            proxy_buffering off;
        }}
    }}
}}
"""

PROXY_CONFIG = """
system:
  host: 127.0.0.1
  port: {port}
  timeout: 60
  store: {store}
{limits}
targets:
  default: plain
  plain:
    url: http://127.0.0.1:{upstream}/v1
    key: {upstream_key}
    mapping:
      /chat/completions:
    run: {run}
  openai:
    url: http://127.0.0.1:{upstream}/v1
    key: {upstream_key}
    speaks: openai
    run: {run}
  tgi:
    url: http://127.0.0.1:{upstream}
    key: {upstream_key}
    speaks: tgi
    template: HumanResponse
    run: {run}
templates:
  HumanResponse: {{preprompt: "", start: "", system: "", user: "\\n### HUMAN:\\n", assistant: "\\n### RESPONSE:\\n"}}
"""


@dataclass(frozen=True, slots=True)
class Cores:
    """The core that a gateway has for itself, and the one of upstream and load."""

    gateway: int
    load: int


@dataclass(frozen=True, slots=True)
class Bench:
    """One gateway before one mock upstream with `events` tokens a stream; `direct` has no process of its own."""

    name: str
    port: int
    upstream_port: int
    events: int
    folder: Path
    process: Process | None


def missing_tools() -> list[str]:
    """The programs that have to be installed first."""
    return [tool for tool in ("nginx", "wrk") if not shutil.which(tool, path=_search_path())]


def _search_path() -> str:
    # Debian has nginx in /usr/sbin, which is not on everybody's path.
    return ":".join(("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"))


@contextmanager
def bench(name: str, cores: Cores, *, events: int, pace: float) -> Iterator[Bench]:
    """Start a mock upstream (`events` per stream, `pace` ms between them) and the named gateway before it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        folder, upstream = Path(made), free_port()
        told = ["--port", str(upstream), "--events", str(events), "--pace", str(pace)]
        serve = [sys.executable, "-m", "bench.upstream", *told]
        with running(serve, upstream, folder / "upstream.log", cpu=cores.load, env={}):
            if name == "direct":
                yield Bench(name, upstream, upstream, events, folder, None)
                return
            port = free_port()
            env = {"MOOLTIPROXY_KEY": CLIENT_KEY}
            with _store(name, folder, cores) as store:
                command = _command(name, folder, port, {**_served(name, upstream, told, cores), "store": store})
                with running(command, port, folder / "gateway.log", cpu=cores.gateway, env=env) as process:
                    yield Bench(name, port, upstream, events, folder, process)


@contextmanager
def _store(name: str, folder: Path, cores: Cores) -> Iterator[str]:
    """What `system.store` says; a Redis runs on the load's core. Raises BenchError where there is none."""
    if not name.endswith("-redis"):
        yield f"sqlite:{folder}/state.db" if name.endswith("-sqlite") else "memory"
        return
    redis = shutil.which("redis-server", path=_search_path())
    if redis is None:
        raise BenchError("there is no redis-server. On Debian: apt-get install redis-server")
    port = free_port()
    command = [redis, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    with running(command, port, folder / "redis.log", cpu=cores.load, env={}, is_ready=listens):
        yield f"redis://127.0.0.1:{port}/0"


def _served(name: str, upstream: int, told: Sequence[str], cores: Cores) -> dict[str, object]:
    """Where the gateway finds the mock upstream, and how it starts one of its own, on the load's core."""
    if name != ON_DEMAND:
        return {"upstream": upstream, "run": ""}
    command = ["taskset", "-c", str(cores.load), sys.executable, "-m", "bench.upstream", *told[2:], "--port", "${port}"]
    run = {"command": shlex.join(command).replace("'", ""), "cwd": str(ROOT), "ready": "/ping", "unload_after": -1}
    return {"upstream": "${port}", "run": orjson.dumps(run).decode()}


def _command(name: str, folder: Path, port: int, served: Mapping[str, object]) -> list[str]:
    config = folder / ("nginx.conf" if name == "nginx" else "config.yaml")
    form = NGINX_CONFIG if name == "nginx" else PROXY_CONFIG
    keys = {"client_key": CLIENT_KEY, "upstream_key": UPSTREAM_KEY}
    config.write_text(form.format(folder=folder, port=port, limits=LIMITS.get(name, ""), **keys, **served))
    if name == "nginx":
        nginx = shutil.which("nginx", path=_search_path()) or "nginx"
        return [nginx, "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")]
    return [sys.executable, "-m", "mooltiproxy", "serve", "--config", str(config)]
