"""A real Redis (or Valkey) server for the tests: `async with redis_server(folder) as server: server.url`."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.servers.proxy_process import free_port

PROGRAMS = ("redis-server", "valkey-server")
INSTALL = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "redis-server")


def program() -> str:
    """The server's program. On CI it is installed, or the test fails; elsewhere its tests are skipped without it."""
    found = _found()
    if found is None and os.environ.get("CI") == "true":
        subprocess.run(["apt-get", "update", "-qq"], check=True, timeout=50)
        subprocess.run(INSTALL, check=True, timeout=120, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        found = _found()
        assert found is not None
    if found is None:
        pytest.skip("there is no redis-server")
    return found


def _found() -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@dataclass
class Server:
    """A server that can be killed and started again on the same port; what it held is gone then."""

    folder: Path
    port: int
    password: str = ""
    tls: Sequence[str] = ()
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        scheme, query = ("rediss", f"?ssl_ca_certs={self.tls[0]}") if self.tls else ("redis", "")
        return f"{scheme}://:{self.password}@127.0.0.1:{self.port}/0{query}"

    async def start(self) -> None:
        options = [
            "--tls-port" if self.tls else "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self.folder),
        ]
        options += ["--requirepass", self.password, "--logfile", "redis.log"]
        if self.tls:
            options += ["--port", "0", "--tls-cert-file", self.tls[0], "--tls-key-file", self.tls[1]]
            options += ["--tls-auth-clients", "no"]
        self.process = await asyncio.create_subprocess_exec(program(), *options)
        client = Redis.from_url(self.url)
        for _ in range(400):
            try:
                await client.ping()
                break
            except (RedisError, OSError):
                await asyncio.sleep(0.02)
        await client.aclose()

    async def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        await self.process.wait()

    def stop(self) -> None:
        """Let it hang: connections stay, nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def redis_server(folder: Path, tls: Sequence[str] = ()) -> AsyncIterator[Server]:
    """A server with a password, and with TLS where certificate and key are given; killed at the end."""
    server = Server(folder, free_port(), "not-a-secret-of-anybody", tls)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
