"""deploy/: what lints, renders or runs without a container engine, a cluster or systemd as the first process."""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml
from jsonschema import Draft7Validator
from referencing import Registry
from referencing.jsonschema import DRAFT7

from mooltiproxy.config.load import load
from mooltiproxy.config.model import Config
from tests.deploying.tools import compose, debian, hadolint, helm, kubernetes_schemas
from tests.servers.pool import eventually
from tests.servers.proxy_process import KEY, Running, free_port, running_proxy
from tests.servers.scripted import STREAM_HEAD, Peer, Received, answer, answering, chunk, upstream

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
UNIT = DEPLOY / "systemd" / "mooltiproxy.service"
DROP_IN = DEPLOY / "systemd" / "model-servers.conf"
CHART = DEPLOY / "helm" / "mooltiproxy"
NGINX = DEPLOY / "nginx"
FETCHES = pytest.mark.timeout(300)
"""The first test that needs a tool fetches all of them."""


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, **environ},
        check=False,
    )


def served_by(text: str, folder: Path) -> Config:
    """The configuration that this file is; fails where it is none."""
    file = folder / "config.yaml"
    file.write_text(text)
    return load(file, {"MOOLTIPROXY_KEY": KEY})


# The container image.


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with what follows it."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def said(name: str) -> str:
    """What the last instruction of a kind says."""
    return [rest for known, rest in instructions() if known == name][-1]


@FETCHES
def test_the_dockerfile_lints() -> None:
    linted = run(hadolint(), "--failure-threshold", "style", DOCKERFILE)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = {
        word for name, rest in instructions() if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_as_nobody_of_note_without_a_shell() -> None:
    assert said("USER") == "65532:65532"
    for name in ("ENTRYPOINT", "CMD"):
        assert orjson.loads(said(name))
    assert said("HEALTHCHECK").partition(" CMD ")[2].startswith("[")


def test_the_image_installs_nothing_without_a_hash() -> None:
    installs = [
        part for name, rest in instructions() if name == "RUN" for part in rest.split("&&") if " install " in part
    ]
    assert len(installs) == 3
    for command in installs:
        assert "--no-deps" in command
        assert "--require-hashes" in command or "--no-index" in command


def health_check(port: int) -> int:
    """The exit code of the image's health check."""
    command = orjson.loads(said("HEALTHCHECK").partition(" CMD ")[2])
    return run(sys.executable, *command[1:], MOOLTIPROXY_SYSTEM_PORT=str(port)).returncode


def test_the_health_check_tells_a_proxy_that_answers_from_one_that_does_not(tmp_path: Path) -> None:
    with running_proxy(
        tmp_path, "system: {port: 0}\ntargets: {default: a, a: {url: 'http://127.0.0.1:9', speaks: openai}}\n"
    ) as proxy:
        assert health_check(proxy.port) == 0
    assert health_check(proxy.port) == 1


POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
CONTAINED = """\
mount --make-rprivate / && mount -t tmpfs tmpfs /mnt && chmod 1777 /mnt && cp {config} /mnt/config.yaml
mount -o remount,ro,bind / && cd /mnt
exec {command}
"""
"""What `--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges` mean, where there is no container
engine. /mnt is in the place of /tmp, where the tree itself may be."""


@pytest.mark.parametrize("workers", [1, 2])
def test_it_runs_on_a_read_only_file_system_without_any_capability(tmp_path: Path, workers: int) -> None:
    program = [*POWERLESS, sys.executable, "-m", "mooltiproxy"]
    environ = {**os.environ, "MOOLTIPROXY_KEY": KEY, "PYTHONPATH": str(ROOT), "TMPDIR": "/mnt", "NO_COLOR": "1"}
    if os.geteuid() or run("unshare", "--mount", "true").returncode or run(*program, "--version", **environ).returncode:
        pytest.skip("only root may make a file system read-only, and not everywhere")
    port = free_port()
    config = tmp_path / "config.yaml"
    config.write_text(
        f"system: {{port: {port}, workers: {workers}}}\n"
        "targets: {default: a, a: {url: 'http://a', speaks: openai}}\n"
    )
    command = shlex.join([*program, *orjson.loads(said("CMD"))[:-1], "config.yaml"])
    script = CONTAINED.format(config=shlex.quote(str(config)), command=command)
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-euc", script], env=environ, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        seen = ""
        while "listening" not in seen and " serve, " not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        assert health_check(port) == 0
        process.terminate()
        assert process.wait(10) == 0
        assert "Traceback" not in seen + process.stderr.read()


# Docker Compose.


@FETCHES
def test_the_compose_file_is_two_proxies_a_redis_and_nginx() -> None:
    read = run(compose(), "-f", DEPLOY / "compose" / "compose.yaml", "config", "--format", "json", MOOLTIPROXY_KEY="k")
    assert read.returncode == 0, read.stderr
    services = orjson.loads(read.stdout)["services"]
    assert services.keys() == {"nginx", "proxy-1", "proxy-2", "redis"}
    for name in ("proxy-1", "proxy-2"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    mounted = [
        Path(volume["source"])
        for service in services.values()
        for volume in service.get("volumes", ())
        if volume["type"] == "bind"
    ]
    assert all(file.is_file() for file in mounted)


@FETCHES
def test_the_compose_file_asks_for_a_key() -> None:
    read = run(compose(), "-f", DEPLOY / "compose" / "compose.yaml", "config", MOOLTIPROXY_KEY="")
    assert read.returncode != 0
    assert "the key that clients must send" in read.stderr


def test_what_the_compose_file_serves_is_a_configuration(tmp_path: Path) -> None:
    text = (DEPLOY / "compose" / "config.yaml").read_text()
    assert served_by(text, tmp_path).system.store == "redis://redis:6379/0"


# The Helm chart.

MANY = {
    "secret.existing": "keys",
    "config.system.store": "redis://redis:6379/0",
    "autoscaling.enabled": "true",
    "serviceMonitor.enabled": "true",
}
ONE = {"secret.values.MOOLTIPROXY_KEY": "the-key"}


def helm_with(values: dict[str, str], command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    options = [f"--set={name}={value}" for name, value in values.items()]
    return run(helm(), command, *arguments, CHART, *options, HELM_CACHE_HOME="/nowhere", HELM_CONFIG_HOME="/nowhere")


def rendered(values: dict[str, str]) -> dict[str, Any]:
    """The objects of the chart by kind."""
    done = helm_with(values, "template", "test")
    assert done.returncode == 0, done.stderr
    return {one["kind"]: one for one in yaml.safe_load_all(done.stdout) if one}


@FETCHES
@pytest.mark.parametrize("values", [ONE, MANY], ids=["one", "many"])
def test_the_chart_lints(values: dict[str, str]) -> None:
    linted = helm_with(values, "lint", "--strict")
    assert linted.returncode == 0, linted.stdout + linted.stderr


@FETCHES
@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        (ONE, {"ConfigMap", "Deployment", "Secret", "Service"}),
        (
            MANY,
            {"ConfigMap", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service", "ServiceMonitor"},
        ),
    ],
    ids=["one", "many"],
)
def test_the_chart_renders_what_kubernetes_knows(values: dict[str, str], kinds: set[str]) -> None:
    objects = rendered(values)
    assert objects.keys() == kinds
    schemas = kubernetes_schemas()
    registry: Registry[Any] = Registry().with_resource(
        "_definitions.json", DRAFT7.create_resource(schemas["_definitions.json"])
    )
    for kind, one in objects.items():
        if kind == "ServiceMonitor":  # the Prometheus operator's, whose schema is not there
            continue
        group = one["apiVersion"].replace("/", "-").replace(".k8s.io", "")
        Draft7Validator(schemas[f"{kind.lower()}-{group}.json"], registry=registry).validate(one)


@FETCHES
@pytest.mark.parametrize("values", [ONE, MANY], ids=["one", "many"])
def test_the_chart_serves_what_its_values_say(values: dict[str, str], tmp_path: Path) -> None:
    config = served_by(rendered(values)["ConfigMap"]["data"]["config.yaml"], tmp_path)
    assert config.default_target == "local"


@FETCHES
def test_pods_of_the_chart_are_probed_stop_in_time_and_can_do_little() -> None:
    pod = rendered(MANY)["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/-/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/-/ready"
    assert pod["terminationGracePeriodSeconds"] >= container["lifecycle"]["preStop"]["sleep"]["seconds"] + 30 + 10
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@FETCHES
def test_pods_give_way_to_others_when_the_configuration_or_a_key_changes() -> None:
    def sums(values: dict[str, str]) -> dict[str, str]:
        annotations: dict[str, str] = rendered(values)["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        return annotations

    before = sums(ONE)
    assert before == sums(ONE)
    assert before["checksum/config"] != sums({**ONE, "config.system.drain": "40"})["checksum/config"]
    assert before["checksum/secret"] != sums({"secret.values.MOOLTIPROXY_KEY": "new"})["checksum/secret"]


@FETCHES
@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, "there is no master key"),
        ({**ONE, "replicas": "2"}, "several pods need a store that they share"),
        ({**ONE, "autoscaling.enabled": "true"}, "several pods need a store that they share"),
        ({**ONE, "config.system.masterkey": "k"}, "config is no place for keys"),
        ({**ONE, "config.system.ssl": "true"}, "speak http"),
        ({**ONE, "config.system.drain": "soon"}, "config.system.drain"),
    ],
)
def test_the_chart_refuses_what_would_not_work(values: dict[str, str], why: str) -> None:
    refused = helm_with(values, "template", "test")
    assert refused.returncode != 0
    assert why in refused.stderr


# systemd.


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, its program one that is there."""
    systemd_analyze = debian("systemd-analyze", "systemd")
    assert systemd_analyze
    file = tmp_path / "mooltiproxy.service"
    file.write_text(UNIT.read_text().replace("/opt/mooltiproxy/bin/mooltiproxy", "/bin/true"))
    return file


@pytest.mark.parametrize("with_model_servers", [False, True])
def test_systemd_knows_all_that_the_unit_says(unit: Path, with_model_servers: bool) -> None:
    if with_model_servers:
        drop_ins = unit.with_name(f"{unit.name}.d")
        drop_ins.mkdir()
        shutil.copy(DROP_IN, drop_ins)
    port = shutil.copy(DEPLOY / "systemd" / "mooltiproxy.socket", unit.parent)
    verified = run("systemd-analyze", "verify", "--man=no", unit, port)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def test_the_unit_is_sandboxed(unit: Path) -> None:
    judged = run("systemd-analyze", "security", "--offline=yes", "--threshold=15", unit)
    assert judged.returncode == 0, judged.stdout


# nginx in front of two proxies.

CONFIG = """\
system: {{port: {port}}}
cerbere: {{trusted_proxies: 127.0.0.1, max_tries: 2}}
targets: {{default: one, one: {{url: "{url}", mapping: {{/stream: , /whole: }}}}}}
"""
MAIN = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/conf.d/*.conf;
}}
"""


@contextmanager
def running_nginx(folder: Path, ports: list[int]) -> Iterator[str]:
    """nginx with the files of deploy/, in front of proxies on these ports; its url."""
    program = debian("nginx", "nginx-light")
    port = free_port()
    (folder / "conf.d").mkdir()
    server = (NGINX / "mooltiproxy.conf").read_text()
    assert server.count("listen 80;") == 1
    (folder / "conf.d" / "mooltiproxy.conf").write_text(server.replace("listen 80;", f"listen 127.0.0.1:{port};"))
    proxies = (NGINX / "upstream.conf").read_text()
    for known, really in zip((8000, 8001), ports, strict=True):
        assert proxies.count(f"127.0.0.1:{known} ") == 1
        proxies = proxies.replace(f"127.0.0.1:{known} ", f"127.0.0.1:{really} ")
    (folder / "conf.d" / "upstream.conf").write_text(proxies)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
    command = [program, "-c", str(folder / "nginx.conf"), "-e", "stderr", "-p", str(folder)]
    tested = run(*command, "-t")
    assert tested.returncode == 0, tested.stderr
    with subprocess.Popen(command) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextmanager
def two_proxies(folder: Path, url: str) -> Iterator[list[Running]]:
    with ExitStack() as stack:
        proxies = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            config = CONFIG.format(port=0, url=url)
            proxies.append(stack.enter_context(running_proxy(folder / name, config)))
        yield proxies


async def served(client: aiohttp.ClientSession, url: str) -> None:
    """Returns once nginx takes connections."""
    async with asyncio.timeout(5):
        while True:
            try:
                async with client.get(f"{url}/ping") as response:
                    assert response.status == 200
                    return
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.01)


def client_at(address: str) -> aiohttp.ClientSession:
    """A client with one of this machine's many addresses, and the right key."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    return aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {KEY}"})


def addresses(folder: Path, path: str) -> list[str]:
    """Who has asked for a path, as both access logs tell."""
    lines = [line for name in ("one", "two") for line in (folder / name / "access.txt").read_text().splitlines()]
    return [line.split()[1] for line in lines if f" {path} " in line]


async def test_nginx_hands_on_each_piece_of_a_stream_at_once(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer, received: Received) -> None:
        await peer.send(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await go_on.wait()
        await peer.send(chunk(b"data: 2\n\n") + chunk(b""))

    async with upstream(script) as target:
        with (
            two_proxies(tmp_path, target.url) as proxies,
            running_nginx(tmp_path, [one.port for one in proxies]) as url,
        ):
            async with client_at("127.0.0.1") as client:
                await served(client, url)
                async with client.post(f"{url}/stream", json={"stream": True}) as response:
                    assert await response.content.readuntil(b"\n\n") == b"data: 1\n\n"
                    go_on.set()
                    assert await response.content.read() == b"data: 2\n\n"


FORGED = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7", "X-Real-IP": "203.0.113.7"}


async def test_behind_nginx_a_client_has_its_own_address_whatever_it_claims(tmp_path: Path) -> None:
    async with upstream(answering(answer())) as target:
        with (
            two_proxies(tmp_path, target.url) as proxies,
            running_nginx(tmp_path, [one.port for one in proxies]) as url,
        ):
            async with client_at("127.0.0.2") as one, client_at("127.0.0.3") as other, client_at("127.0.0.1") as ours:
                await served(one, url)
                for _ in range(4):
                    async with one.get(f"{url}/whole", headers=FORGED) as response:
                        assert response.status == 200
                async with other.get(
                    f"http://127.0.0.1:{proxies[0].port}/whole?past=nginx", headers=FORGED
                ) as response:
                    assert response.status == 200
                await asyncio.to_thread(eventually, lambda: len(addresses(tmp_path, "/whole")) == 5)
                assert sorted(addresses(tmp_path, "/whole")) == [*["127.0.0.2"] * 4, "127.0.0.3"]
                assert all("/whole" in (tmp_path / name / "access.txt").read_text() for name in ("one", "two"))

                wrong = [
                    {**FORGED, "X-Forwarded-For": f"203.0.113.{n}", "Authorization": "Bearer no"} for n in range(6)
                ]
                statuses = []
                for headers in wrong:
                    async with other.get(f"{url}/whole", headers=headers) as response:
                        statuses.append(response.status)
                assert statuses == [401, 401, 401, 401, 403, 403]
                for client, status in ((other, 403), (one, 200)):
                    async with client.get(f"{url}/whole") as response:
                        assert response.status == status

                async with one.get(f"{url}/-/status") as response:
                    assert (response.status, response.headers["Server"]) == (403, "nginx")
                async with ours.get(f"{url}/-/status") as response:
                    assert response.status == 200


async def test_one_proxy_behind_nginx_does_without_the_other_and_nginx_says_when_none_is_there(tmp_path: Path) -> None:
    async with upstream(answering(answer())) as target, client_at("127.0.0.1") as client:
        with (
            two_proxies(tmp_path, target.url) as proxies,
            running_nginx(tmp_path, [one.port for one in proxies]) as url,
        ):
            await served(client, url)
            proxies[0].process.kill()
            proxies[0].wait(5)
            for _ in range(4):
                async with client.post(f"{url}/whole", data=b"x" * 100_000) as response:
                    assert response.status == 200
            proxies[1].process.kill()
            proxies[1].wait(5)
            async with client.post(f"{url}/whole", data=b"x") as response:
                assert response.status == 503
                assert (await response.json())["error"]["code"] == 503
