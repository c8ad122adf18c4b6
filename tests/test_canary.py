"""Secrets are planted everywhere, every error path is driven, and none of them is found where it must not be."""

import asyncio
import contextlib
import io
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import aiohttp
import orjson
import pytest

from mooltiproxy.cli import main
from mooltiproxy.keys import hash_of
from tests.servers.pool import children
from tests.servers.proxy_process import free_port
from tests.servers.scripted import STREAM_HEAD, Peer, Received, answer, chunk, upstream

ROOT = Path(__file__).parent.parent

MASTER, ADMIN, CLIENT, HASHED = "canary-master-6d1f", "canary-admin-77aa", "canary-client-b03c", "canary-hashed-51e9"
TARGET, ENGINE, STORE = "canary-target-9c2e", "canary-engine-e4b7", "canary-store-0f8d"
WRONG, QUERY, EXPIRED, LIMITED = "canary-wrong-c6a4", "canary-query-28d0", "canary-expired-4b1c", "canary-limited-ee72"
OF_FILE, ADMIN_OF_FILE = "canary-in-file-93fb", "canary-file-admin-d5c2"
BODY = "canary-body-text-1a7e"
KEYS = (MASTER, ADMIN, CLIENT, HASHED, TARGET, ENGINE, STORE, WRONG, QUERY, EXPIRED, LIMITED, OF_FILE, ADMIN_OF_FILE)

CONFIG = """\
system:
  port: {port}
  workers: {workers}
  debug: {debug}
  max_body: 20kB
  timeout: {{connect: 1, first_byte: 0.4, idle: 0.4}}
  store: "redis://somebody:${{STORE_PASSWORD}}@127.0.0.1:{nobody}/0"
  drain: 1
cerbere: {{max_tries: 1000, trusted_proxies: 127.0.0.1}}
keys_file: api_tokens.yml
keys:
  admin: {{envkey: ADMIN_KEY, admin: true}}
  alice: {{envkey: CLIENT_KEY}}
  hashed: {{hash: "{hash}", targets: [passing], models: [good]}}
  limited: {{envkey: LIMITED_KEY, limits: {{requests: 1/1h, tokens: 100000/1d}}}}
  late: {{envkey: EXPIRED_KEY, expires: 2020-01-01}}
targets:
  default: passing
  passing: {{url: "{url}", speaks: openai, envkey: TARGET_KEY}}
  translated: {{url: "{url}", speaks: anthropic, envkey: TARGET_KEY}}
  mapped: {{url: "{url}", envkey: TARGET_KEY, mapping: {{/completions: {{path: /v1/completions, in: fails}}}}}}
  following: {{url: "{url}", envkey: TARGET_KEY, preserveMethod: true, mapping: {{/v1/chat/completions: }}}}
  refused: {{url: "http://127.0.0.1:{nobody}", speaks: openai, envkey: TARGET_KEY}}
  nowhere: {{url: "http://no.such.host.invalid", speaks: openai, envkey: TARGET_KEY}}
  untrusted: {{url: "https://127.0.0.1:{tls}", speaks: openai, envkey: TARGET_KEY}}
  tabby: {{url: "{url}", speaks: openai, envkey: TARGET_KEY, run: {{engine: tabbyapi, admin_envkey: ENGINE_KEY}}}}
  failing:
    url: http://127.0.0.1:${{port}}
    speaks: openai
    envkey: TARGET_KEY
    run: {{command: "{python} server.py ${{port}}", env: {{HF_TOKEN: "${{ENGINE_KEY}}"}}, ready_timeout: 5}}
"""
SERVER = """\
import os, sys
print(*(f"{name} is {value}" for name, value in os.environ.items()), sep="\\n")
print(*sys.argv, *os.environ.values(), sep="\\n", file=sys.stderr)
sys.exit(1)
"""
MAPPER = """\
def fails(ip, cfg={}):
    return ip["no such field"]["and none in it"]
"""
ENVIRON = {
    "MOOLTIPROXY_KEY": MASTER,
    "ADMIN_KEY": ADMIN,
    "CLIENT_KEY": CLIENT,
    "EXPIRED_KEY": EXPIRED,
    "LIMITED_KEY": LIMITED,
    "TARGET_KEY": TARGET,
    "ENGINE_KEY": ENGINE,
    "STORE_PASSWORD": STORE,
}
STATUSES = (200, 302, 307, 400, 401, 403, 404, 405, 413, 415, 418, 429, 500, 502, 503, 504, 529)
"""What clients have got at the end."""
TARGETS = ("passing", "translated", "mapped", "following", "refused", "nowhere", "untrusted", "tabby", "failing")


def told(status: str, body: bytes, media_type: str = "application/json", *fields: str) -> bytes:
    return answer(body, *fields, status=status, media_type=media_type)


def upstream_behaviours() -> dict[str, bytes]:
    """What the upstream answers, by the model that it is asked for: every one of them tells the key that it got."""
    message = f"Incorrect API key provided: {TARGET}"
    error = orjson.dumps(
        {"error": {"message": message, "type": "invalid_request_error", "code": TARGET, "param": TARGET}}
    )
    statuses: tuple[str, ...] = (
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "429 Too Many Requests",
    )
    statuses += ("500 Internal Server Error", "503 Unavailable", "529 Overloaded", "418 Teapot")
    found = {f"status-{status[:3]}": told(status, error) for status in statuses}
    found |= {f"text-{status[:3]}": told(status, message.encode(), "text/plain") for status in statuses[::3]}
    event = f"data: {error.decode()}\n\n".encode()
    good = orjson.dumps(
        {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "a"}}]}
    )
    return found | {
        "good": told("200 OK", b'{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}'),
        "headers": told("429 Too", error, "application/json", f"www-authenticate: {TARGET}", f"x-api-key: {TARGET}"),
        "garbage": f"{TARGET}\r\n\r\n".encode(),
        "control": f"HTTP/1.1 200 OK\r\nx-a: {TARGET}\x00\r\ncontent-length: 0\r\n\r\n".encode(),
        "lengths": f"HTTP/1.1 200 OK\r\ncontent-length: {TARGET}\r\n\r\n".encode(),
        "chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + TARGET.encode() + b"\r\n",
        "status-line": f"HTTP/1.1 {TARGET} OK\r\ncontent-length: 0\r\n\r\n".encode(),
        "switch": f"HTTP/1.1 101 Switching\r\nupgrade: {TARGET}\r\n\r\n".encode(),
        "no-json": told("200 OK", f'{{"choices": "{TARGET}'.encode()),
        "no-answer": told("200 OK", orjson.dumps({"error": {"message": message}})),
        "strange": told("200 OK", orjson.dumps([TARGET])),
        "short": f'HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{{"a": "{TARGET}'.encode(),
        "redirect": told("307 Temporary Redirect", error, "application/json", f"location: /v1/other?key={TARGET}"),
        "elsewhere": told("302 Found", b"", "text/plain", f"location: http://127.0.0.2:9/?key={TARGET}"),
        "no-where": told("307 Temporary Redirect", b"", "text/plain", f"location: http://[{TARGET}"),
        "silent": b"",
        "stream-error": STREAM_HEAD + chunk(b"data: " + good + b"\n\n") + chunk(event) + chunk(b""),
        "stream-garbage": STREAM_HEAD + chunk(f"data: {{{TARGET}\n\n".encode()) + chunk(b""),
        "stream-cut": STREAM_HEAD + chunk(b"data: " + good + b"\n\n") + chunk(f"data: {TARGET}".encode()),
        "stream-named": STREAM_HEAD + chunk(b"event: error\n" + event) + chunk(b""),
    }


BEHAVIOURS = upstream_behaviours()
SILENT = {"silent", "short", "stream-cut", "chunks", "switch"}


async def tells_its_key(peer: Peer, received: Received) -> None:
    """The upstream."""
    given = {received.value("authorization"), received.value("x-api-key"), received.value("x-admin-key")}
    assert not any(key in str(received) for key in (MASTER, ADMIN, CLIENT, HASHED, WRONG, QUERY, OF_FILE, STORE))
    assert given & {f"Bearer {TARGET}", TARGET, ENGINE}, received.line
    name = re.search(rb'"model(?:_name)?": ?"([^"]+)"', received.body)
    behaviour = name[1].decode() if name else "status-500"
    if behaviour == "closed":
        peer.abort()
        return
    if behaviour == "echo":
        await peer.send(told("400 Bad Request", orjson.dumps({"error": {"message": received.body.decode()}})))
        return
    await peer.send(BEHAVIOURS.get(behaviour, BEHAVIOURS["status-500"]))
    if behaviour in SILENT:
        await peer.gone()


@dataclass
class Seen:
    """What came out of the proxy, by where."""

    places: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, text: str) -> None:
        self.places[where] = self.places.get(where, "") + text

    def holding(self, secrets: tuple[str, ...], *, but: str | tuple[str, ...] = ()) -> list[tuple[str, str]]:
        """Which of the secrets is where, as secret and place; places that begin with `but` are not looked at."""
        return [
            (secret, f"{place}: ...{text[max(0, text.index(secret) - 150) :][:300]}")
            for place, text in self.places.items()
            for secret in secrets
            if secret in text and not place.startswith(but)
        ]


@dataclass
class Serving:
    """The proxy in a process of its own, its client, and what was seen of it."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]
    client: aiohttp.ClientSession
    seen: Seen
    statuses: set[int] = field(default_factory=set)

    async def ask(self, what: str, method: str, path: str, *, passes: bool = False, **options: object) -> None:
        """One request; its answer is seen. Where all is well and it `passes`, it is the target's, byte for byte."""
        try:
            async with self.client.request(method, self.url + path, allow_redirects=False, **options) as response:  # type: ignore[arg-type]
                self.statuses.add(response.status)
                if passes and response.status < 300:
                    return
                self.seen.add(f"answer to {what}", f"{response.status} {response.headers}")
                self.seen.add(f"answer to {what}", (await response.read()).decode("utf-8", "replace"))
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            self.seen.add(f"answer to {what}", str(error))

    def look_at_arguments(self) -> None:
        """See the arguments of the proxy and of all that it has started."""
        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            with contextlib.suppress(OSError):
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
                self.seen.add(f"arguments of {pid}", arguments)
                waiting += children(pid)


@contextlib.contextmanager
def refusing_tls() -> Iterator[int]:
    """A port that nobody answers at as a server of TLS should."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def write_files(folder: Path, url: str, port: int, tls: int, *, loud: bool, workers: int) -> None:
    text = CONFIG.format(
        port=port,
        url=url,
        nobody=free_port(),
        tls=tls,
        python=sys.executable,
        hash=hash_of(HASHED),
        workers=workers,
        debug=str(loud).lower(),
    )
    (folder / "config.yaml").write_text(text)
    (folder / "api_tokens.yml").write_text(f"api_key: {OF_FILE}\nadmin_key: {ADMIN_OF_FILE}\n")
    (folder / "api_tokens.yml").chmod(0o600)
    (folder / "server.py").write_text(SERVER)
    (folder / "mappers").mkdir()
    (folder / "mappers" / "fails.py").write_text(MAPPER)


def started(folder: Path, out: IO[bytes], err: IO[bytes], *, loud: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mooltiproxy", "serve", *(["--verbose"] if loud else [])]
    environ = {**os.environ, **ENVIRON, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=out, stderr=err, cwd=folder, env=environ)


@contextlib.asynccontextmanager
async def serving(folder: Path, *, loud: bool, workers: int) -> AsyncIterator[Serving]:
    """The proxy with all secrets; what it has written is seen at the end."""
    port, seen = free_port(), Seen()
    async with upstream(tells_its_key) as target, aiohttp.ClientSession() as client:
        with refusing_tls() as tls, (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            write_files(folder, target.url, port, tls, loud=loud, workers=workers)
            process = started(folder, out, err, loud=loud)
            try:
                running = Serving(f"http://127.0.0.1:{port}", folder, process, client, seen)
                await answering(running)
                yield running
                process.terminate()
                await asyncio.to_thread(process.wait, 15)
            finally:
                process.kill()
                process.wait()
                for name in ("out", "err"):
                    seen.add(f"log in {name}", (folder / name).read_text())


async def answering(running: Serving) -> None:
    async with asyncio.timeout(15):
        while running.process.poll() is None:
            with contextlib.suppress(aiohttp.ClientOSError):
                async with running.client.get(f"{running.url}/-/ready"):
                    return
            await asyncio.sleep(0.02)
    raise AssertionError((running.folder / "err").read_text())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def chat(model: str, **more: object) -> dict[str, object]:
    return {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": BODY}], **more}


async def ask_everything(running: Serving) -> None:
    """Every behaviour of the upstream, by every way, from clients of two APIs, whole and streamed."""
    asked = []
    for behaviour in (*BEHAVIOURS, "closed", "echo"):
        for target, path in (
            ("passing", "/v1/chat/completions"),
            ("passing", "/v1/messages"),
            ("translated", "/v1/chat/completions"),
            ("following", "/v1/chat/completions"),
        ):
            for stream in (False, True):
                what = f"{behaviour} {target} {path} {'stream' if stream else 'whole'}"
                body = chat(behaviour, stream=stream)
                passes = path == "/v1/chat/completions" and target != "translated"
                asked.append(
                    running.ask(
                        what,
                        "POST",
                        f"/to/{target}{path}?key={CLIENT}",
                        passes=passes,
                        json=body,
                        headers={"x-request-id": "r-1"},
                    )
                )
    for target in TARGETS[2:]:
        asked.append(
            running.ask(target, "POST", f"/to/{target}/v1/chat/completions", json=chat("good"), headers=bearer(CLIENT))
        )
    asked.append(running.ask("mapper", "POST", "/to/mapped/completions", json=chat("good"), headers=bearer(CLIENT)))
    await asyncio.gather(*asked)


async def ask_wrongly(running: Serving) -> None:
    """What a client can do wrong."""
    post, good = "/v1/chat/completions", chat("good")
    for name, value in (
        ("Authorization", f"Bearer {WRONG}"),
        ("Authorization", f"Basic {WRONG}"),
        ("Authorization", WRONG),
        ("x-api-key", WRONG),
        ("x-goog-api-key", WRONG),
        ("api-key", WRONG),
        ("Cookie", WRONG),
        ("Proxy-Authorization", WRONG),
    ):
        await running.ask(f"wrong {name}", "POST", post, json=good, headers={name: value})
    await running.ask("wrong in the query", "POST", f"{post}?key={QUERY}&a=1", json=good)
    await running.ask("no path, key in the query", "GET", f"/nothing/here?key={QUERY}")
    await running.ask("no path", "GET", f"/nothing/here?api_key={QUERY}", headers=bearer(CLIENT))
    await running.ask("no target", "POST", f"/to/nobody{post}?key={CLIENT}", json=good)
    await running.ask("no target by header", "POST", post, json=good, headers={**bearer(CLIENT), "target": "nobody"})
    await running.ask("expired", "POST", post, json=good, headers=bearer(EXPIRED))
    for right in (OF_FILE, ADMIN_OF_FILE, HASHED, LIMITED, LIMITED, LIMITED):
        await running.ask("a right key", "POST", post, json=good, headers=bearer(right))
    await running.ask("not its target", "POST", f"/to/translated{post}", json=good, headers=bearer(HASHED))
    await running.ask("not its model", "POST", post, json=chat("status-400"), headers=bearer(HASHED))
    await running.ask("not its endpoint", "GET", "/-/status", headers=bearer(CLIENT))
    for body in (
        f'{{"model": "{BODY}',
        f'{{"model": "good", "messages": "{BODY}"}}',
        f'["{BODY}"]',
        BODY,
        f'{{"model": {{"{BODY}": 1}}}}',
        f'{{"model": "good", "messages": [{{"role": "{BODY}"}}], "temperature": "{BODY}"}}',
    ):
        for target in ("passing", "translated"):
            for path in (
                post,
                "/v1/messages",
                "/v1/responses",
                "/v1/embeddings",
                "/api/chat",
                "/v1beta/models/good:generateContent",
            ):
                await running.ask(
                    "a bad body",
                    "POST",
                    f"/to/{target}{path}",
                    data=body,
                    headers={**bearer(CLIENT), "content-type": "application/json"},
                )
    await running.ask("too long", "POST", post, data=BODY * 5000, headers=bearer(CLIENT))
    await running.ask(
        "packed", "POST", f"/to/translated{post}", data=BODY, headers={**bearer(CLIENT), "content-encoding": "gzip"}
    )
    await running.ask("a method", "TRACE", post, headers=bearer(CLIENT))
    await running.ask("a method that is not mapped", "DELETE", f"{post}?key={CLIENT}")
    head = f"POST {post}?key={QUERY} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {CLIENT}\r\n"
    wrong = (
        f"GET /{QUERY}\x00 HTTP/1.1\r\nauthorization: Bearer {CLIENT}\x01\r\n\r\n",
        f"{head}bad header {WRONG}\r\n\r\n",
        f"{head}content-length: {WRONG}\r\n\r\n",
        f"{head}transfer-encoding: {WRONG}\r\n\r\n",
        f"{head}x-long: {WRONG * 2000}\r\n\r\n",
        f"{head}content-length: 50\r\n\r\n{BODY}",
        f"{WRONG}\r\n\r\n",
    )
    for received in await asyncio.gather(*(asyncio.to_thread(sent, running.url, raw) for raw in wrong)):
        running.seen.add("answer to what is not HTTP", received)


def sent(url: str, raw: str) -> str:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=3) as connection:
        connection.sendall(raw.encode("latin-1"))
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                received += piece
    return received.decode("latin-1")


async def be_banned(running: Serving) -> None:
    for _ in range(3):
        await running.ask("ban", "POST", "/-/bans", json={"address": "203.0.113.9"}, headers=bearer(ADMIN))
        await running.ask("banned", "GET", f"/v1/models?key={QUERY}", headers={"X-Forwarded-For": "203.0.113.9"})


async def look_into(running: Serving) -> None:
    """All that the proxy tells of itself."""
    paths: tuple[str, ...] = (
        "/-/metrics",
        "/-/status",
        "/status",
        "/-/usage",
        "/-/bans",
        "/-/logs?target=failing",
        "/-/nothing",
    )
    paths += ("/v1/models", "/api/tags", "/api/ps")
    await asyncio.gather(*(running.ask(path, "GET", path, headers=bearer(MASTER)) for path in paths))
    await running.ask("unload", "POST", "/-/unload", json={"model": BODY}, headers=bearer(ADMIN))


async def reload_badly(running: Serving) -> None:
    """Reload a file that is wrong where its secrets are, then one that is right again."""
    file = running.folder / "config.yaml"
    right = file.read_text()
    file.write_text(wrong_everywhere(right))
    await running.ask("reload", "POST", "/-/reload", headers=bearer(ADMIN))
    file.write_text(right)
    await running.ask("reload", "POST", "/-/reload", headers=bearer(ADMIN))


def wrong_everywhere(right: str) -> str:
    """The configuration with secrets written into it, and mistakes at each of them."""
    replaced = {
        "  drain: 1\n": f"  drain: {CLIENT}\n  masterkey: [{MASTER}]\n",
        "${STORE_PASSWORD}@127.0.0.1": f"{STORE}@no such host",
        "envkey: ADMIN_KEY": f"hash: {ADMIN}",
        "envkey: CLIENT_KEY": f"hash: sha256:{CLIENT}, envkey: {CLIENT}",
        "envkey: TARGET_KEY, mapping: {/completions": f"key: {{a: {TARGET}}}, mapping: {{/completions",
        'url: "http://no.such.host.invalid"': f'url: "ftp://somebody:{TARGET}@host"',
        "admin_envkey: ENGINE_KEY": f"admin_envkey: [{ENGINE}]",
    }
    for known, wrong in replaced.items():
        assert known in right
        right = right.replace(known, wrong)
    return right


def run_commands(running: Serving) -> None:
    """Commands that read the configuration or ask the running proxy; each in this process, to be quick."""
    folder = running.folder
    (folder / "body.json").write_bytes(orjson.dumps(chat("good")))
    (folder / "wrong.yaml").write_text(wrong_everywhere((folder / "config.yaml").read_text()))
    for words in (
        ["check"],
        ["check", "wrong.yaml"],
        ["plan", "config.yaml"],
        ["plan", "wrong.yaml"],
        ["explain", "--path", f"/v1/messages?key={CLIENT}", "--target", "translated", "body.json"],
        ["explain", "--path", f"/v1/chat/completions?key={CLIENT}", "--target", "passing", "body.json"],
        ["explain", "--path", f"/nothing?key={CLIENT}"],
        ["key", "list"],
        ["usage"],
        ["bans", "list"],
        ["logs", "failing"],
        ["selftest", "--timeout", "1", "refused"],
    ):
        written = io.TextIOWrapper(io.BytesIO(), write_through=True)
        with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
            main(words)
        output = written.buffer.getvalue().decode()
        assert output, words
        running.seen.add(f"output of {words[:2]}", output)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("loud", "workers"), [(False, 1), (True, 2)], ids=["quiet", "loud"])
async def test_no_secret_gets_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loud: bool, workers: int) -> None:
    async with serving(tmp_path, loud=loud, workers=workers) as running:
        running.look_at_arguments()
        await ask_everything(running)
        running.look_at_arguments()
        await ask_wrongly(running)
        await be_banned(running)
        await reload_badly(running)
        if not loud:
            monkeypatch.chdir(tmp_path)
            for name, value in ENVIRON.items():
                monkeypatch.setenv(name, value)
            await asyncio.to_thread(run_commands, running)
        await look_into(running)
        running.look_at_arguments()
    assert set(STATUSES) <= running.statuses
    assert running.seen.holding(KEYS) == []
    assert bool(running.seen.holding((BODY,), but=("answer", "output of ['explain'"))) == loud
