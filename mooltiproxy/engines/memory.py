"""Memory: what is free on this machine, and what a server uses of it, in bytes by resource.

`ram` is the machine's, or that of the control group we are in; `gpu0` a GPU by nvidia-smi's number, `gpu` all of them
together. What cannot be told is left out, so that on other systems than Linux there is nothing.

Formats: proc(5), the kernel's documents on control groups (cgroup-v2, cgroup-v1/memory), nvidia-smi(1).
"""

import asyncio
import math
import os
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

RAM, GPU = "ram", "gpu"
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_KIB, _MIB = 1024, 1024 * 1024

PATIENCE = 5.0
"""Seconds that nvidia-smi may take."""
TO_DIE = 1.0
"""Seconds that its end is waited for when it is killed: a driver that hangs holds it for longer."""
FORGIVEN_AFTER = 600.0
"""Seconds until nvidia-smi is asked again where it was not there, or has failed."""


async def free() -> dict[str, int]:
    """What is free now. Pages of files that the kernel keeps in memory count as free, for it gives them up."""
    ram, gpus = await asyncio.gather(asyncio.to_thread(free_ram), _free_gpus())
    return gpus if ram is None else {RAM: ram, **gpus}


async def used(leader: int) -> dict[str, int]:
    """What the processes of a server use: those of the session that its first process leads, and their descendants.
    Of the GPUs nothing is told where none of them is listed: in a container they may be there under other numbers."""
    ram = await asyncio.to_thread(used_ram, leader) if leader > 0 else {}
    return {RAM: sum(ram.values()), **await _used_gpus(ram)} if ram else {}


# Main memory.


def free_ram(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Bytes that processes of ours can still get; None where that cannot be told."""
    available = _numbers(proc / "meminfo").get("MemAvailable")
    if available is None:
        return None
    return max(min([available * _KIB, *_left_in_groups(proc, cgroups)]), 0)


def used_ram(leader: int, proc: Path = _PROC) -> dict[int, int]:
    """Bytes by process: the share of what it has in common with others counted once, where that can be read."""
    return {pid: _size(proc / str(pid)) for pid in _belonging(leader, proc)}


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the files of a kind of control group are called, and the words for what of its use is pages of files."""

    folder: str
    limit: str
    usage: str
    cache: tuple[str, str]


_V2 = _Layout("", "memory.max", "memory.current", ("inactive_file", "active_file"))
_V1 = _Layout("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))


def _left_in_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    """What each control group that we are in leaves us; its limit holds for all groups in it."""
    for line in _lines(proc / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        layout = _V1 if controllers else _V2
        root = cgroups / layout.folder
        inner = root / path.strip("/")
        for group in (inner, *inner.parents):
            left = _left_in(group, layout)
            if left is not None:
                yield left
            if group == root:
                break


def _left_in(group: Path, layout: _Layout) -> int | None:
    limit, usage = (_whole(next(_lines(group / name), "")) for name in (layout.limit, layout.usage))
    if limit is None or usage is None:
        return None
    known = _numbers(group / "memory.stat")
    return limit - usage + sum(known.get(name, 0) for name in layout.cache)


def _belonging(leader: int, proc: Path) -> set[int]:
    """The processes of a session, and the descendants of any of them."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    found: list[int] = []
    for pid in (int(folder.name) for folder in _folders(proc) if folder.name.isdigit()):
        with suppress(OSError, IndexError, ValueError):
            fields = (proc / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            children[int(fields[1])].append(pid)
            if leader in (pid, int(fields[3])):
                found.append(pid)
    belonging: set[int] = set()
    while found:
        pid = found.pop()
        if pid not in belonging:
            belonging.add(pid)
            found += children[pid]
    return belonging


def _size(process: Path) -> int:
    """What a process has in main memory; 0 where it has ended."""
    rollup = _numbers(process / "smaps_rollup")
    kilobytes = rollup["Pss"] if "Pss" in rollup else _numbers(process / "status").get("VmRSS", 0)
    return kilobytes * _KIB


def _folders(proc: Path) -> list[Path]:
    try:
        return list(proc.iterdir())
    except OSError:
        return []


def _numbers(file: Path) -> dict[str, int]:
    """The whole numbers of a file of lines like `Name:  12 kB` or `name 12`."""
    lines = (line.split() for line in _lines(file))
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _lines(file: Path) -> Iterator[str]:
    with suppress(OSError):
        yield from file.read_text("utf-8", "replace").splitlines()


def _whole(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None


# GPUs.


class NvidiaSmi:
    """Asks nvidia-smi, and does not ask again for a while where it is not there, fails or takes too long."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._not_before = -math.inf
        self._names: dict[str, str] = {}

    async def names(self) -> dict[str, str]:
        """What each GPU is called here, by its UUID; asked once."""
        self._names = self._names or {
            uuid: f"{GPU}{index}" for index, uuid in await self.rows("gpu", "index", "uuid") or ()
        }
        return self._names

    async def rows(self, query: str, *fields: str) -> list[list[str]] | None:
        """What it lists, of each these fields; None where it cannot be asked."""
        if time.monotonic() < self._not_before:
            return None
        program = shutil.which("nvidia-smi")
        question = (f"--query-{query}={','.join(fields)}", "--format=csv,noheader,nounits")
        answer = await self._asked(program, *question) if program else None
        if answer is None:
            self._not_before = time.monotonic() + FORGIVEN_AFTER
            return None
        rows = [[value.strip() for value in line.split(",")] for line in answer.splitlines() if line.strip()]
        return [row for row in rows if len(row) == len(fields)]

    async def _asked(self, *command: str) -> str | None:
        """Its output; None where it fails or takes too long."""
        null, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=null, stdout=pipe, stderr=null, start_new_session=True
            )
        except OSError:
            return None
        try:
            output, _ = await asyncio.wait_for(process.communicate(), self._patience)
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.communicate(), TO_DIE)
        return output.decode("utf-8", "replace") if process.returncode == 0 else None


_nvidia = NvidiaSmi()


async def _free_gpus() -> dict[str, int]:
    rows = await _nvidia.rows("gpu", "index", "memory.free")
    free = {f"{GPU}{index}": _whole(megabytes) for index, megabytes in rows or ()}
    return _with_sum({name: left * _MIB for name, left in free.items() if left is not None}, len(free))


async def _used_gpus(processes: Mapping[int, int]) -> dict[str, int]:
    listed = await _nvidia.rows("compute-apps", "gpu_uuid", "pid", "used_memory") or ()
    ours = [(gpu, _whole(megabytes)) for gpu, pid, megabytes in listed if _whole(pid) in processes]
    if not ours:
        return {}
    names = await _nvidia.names()
    used = dict.fromkeys(names.values(), 0)
    for gpu, megabytes in ours:
        if gpu not in names or megabytes is None:
            return {}
        used[names[gpu]] += megabytes * _MIB
    return _with_sum(used, len(used))


def _with_sum(gpus: dict[str, int], number: int) -> dict[str, int]:
    """The GPUs and, if all of them are known, all together."""
    return {GPU: sum(gpus.values()), **gpus} if gpus and len(gpus) == number else gpus
