"""Files that say which servers a proxy has started, so that the next one ends what a killed one has left behind.

The guard of each server sees to that already; this is for the case that it was killed, too. Linux only: elsewhere
nothing tells a process from a later one of the same number, and nothing is written.
"""

import os
import signal
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Record:
    """The file of one server."""

    file: Path

    @classmethod
    def write(cls, server: int) -> "Record | None":
        """Note a process of ours; None where that is not possible."""
        folder, born = _folder(), birth(server)
        if folder is None or born is None:
            return None
        file = folder / f"{server}.json"
        try:
            unfinished = file.with_suffix(".new")
            unfinished.write_bytes(orjson.dumps({"server": [server, born], "proxy": [os.getpid(), birth(os.getpid())]}))
            unfinished.replace(file)
        except OSError:
            return None
        return cls(file)

    def remove(self) -> None:
        """It has ended."""
        with suppress(OSError):
            self.file.unlink(missing_ok=True)


def end_leftovers() -> list[int]:
    """Kill the groups of servers whose proxy is gone; their process ids."""
    folder = _folder()
    return [] if folder is None else [pid for file in folder.glob("*.json") if (pid := _ended(file))]


def birth(pid: int) -> str | None:
    """What tells a process from an earlier one with its number: when it was started, and since which start of the
    machine that counts; None where it is not there, or not to be found out."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else f"{_BOOT.read_text().strip()} {fields[19]}"
    except (OSError, IndexError):
        return None


def _ended(file: Path) -> int | None:
    try:
        record = orjson.loads(file.read_bytes())
        (server, born), (proxy, proxy_born) = record["server"], record["proxy"]
    except (OSError, ValueError, KeyError, TypeError):
        with suppress(OSError):
            file.unlink()
        return None
    if birth(proxy) == proxy_born:
        return None
    ended = None
    if birth(server) == born:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(server, signal.SIGKILL)
            ended = int(server)
    with suppress(OSError):
        file.unlink()
    return ended


def _folder() -> Path | None:
    """The folder of these files, which nobody else may write to; None where there is none to be had."""
    if not _BOOT.exists():
        return None
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    try:
        own = f"mooltiproxy-{os.getuid()}"
        folder = Path(runtime) / "mooltiproxy" if runtime else Path(tempfile.gettempdir()) / own
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return folder if ours else None
