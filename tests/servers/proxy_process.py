"""The proxy as a real process: `with running_proxy(folder, config) as url: ...`."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEY = "the-proxy-key"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_proxy(folder: Path, config: str, *options: str, key: str | None = KEY) -> Iterator[subprocess.Popen[str]]:
    """Start `mooltiproxy serve` on this configuration file and wait until it listens; killed at the end.

    Its standard error goes on to `stderr.txt` in the folder, its access log to `access.txt`.
    """
    file = folder / "config.yaml"
    file.write_text(config)
    command = [sys.executable, "-m", "mooltiproxy", "serve", "--config", str(file), *options]
    environ = {**os.environ, "MOOLTIPROXY_KEY": key or "", "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    with open(folder / "access.txt", "w") as access:
        process = subprocess.Popen(command, stdout=access, stderr=subprocess.PIPE, text=True, env=environ, cwd=folder)
    with process:
        try:
            assert process.stderr
            seen = []
            for line in process.stderr:
                seen.append(line)
                if "listening on" in line:
                    break
            else:
                raise AssertionError(f"the proxy did not start: {''.join(seen)}")
            yield process
        finally:
            process.kill()
