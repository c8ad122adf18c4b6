"""Looks at files from time to time, in a thread, and tells when they have changed and stay as they are."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("mooltiproxy")

EVERY = 1.0
"""Seconds between two looks. What has changed must look the same twice: files are written piece by piece."""

Stamp = tuple[tuple[str, int, int, int], ...]
"""Of a file, or of all files below a folder: the path, when it was written (ns), its size, its number on the disk."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Files and folders, and what is to be done when one of them has changed."""

    files: Sequence[Path]
    changed: Callable[[], Awaitable[None]]


def look(files: Iterable[Path]) -> dict[Path, Stamp]:
    """How these files and folders are now; those that are not there have no stamp. Blocks."""
    return {file: tuple(_stamps(file)) for file in files}


def _stamps(file: Path) -> Iterable[tuple[str, int, int, int]]:
    below = sorted(file.rglob("*")) if file.is_dir() else [file]
    for one in below:
        if "__pycache__" in one.parts:
            continue
        try:
            status = one.stat()
        except OSError:
            continue
        if not one.is_dir():
            yield str(one), status.st_mtime_ns, status.st_size, status.st_ino


class Watcher:
    """Watches as long as there is something to watch. To be used inside the running loop."""

    def __init__(self) -> None:
        self._watched: Sequence[Watched] = ()
        self._settled: dict[Path, Stamp] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, watched: Sequence[Watched]) -> None:
        """Watch these from now on."""
        self._watched = watched
        files = {file for one in watched for file in one.files}
        self._settled = look(files)
        if files and self._task is None:
            self._task = asyncio.create_task(self._watch())
        elif not files:
            self.close()

    def now(self) -> dict[Path, Stamp]:
        """How everything that is watched is now: to be asked before it is read. Blocks."""
        return look(list(self._settled))

    def seen(self, known: Mapping[Path, Stamp]) -> None:
        """Files that are watched have been read as they were then."""
        self._settled |= {file: stamp for file, stamp in known.items() if file in self._settled}

    def close(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self) -> None:
        before: Mapping[Path, Stamp] = self._settled
        while True:
            await asyncio.sleep(EVERY)
            after = await asyncio.to_thread(self.now)
            same = {file for file, stamp in after.items() if before.get(file) == stamp}
            before = after
            new = {file for file in same & self._settled.keys() if self._settled[file] != after[file]}
            due = [one for one in self._watched if not new.isdisjoint(one.files)]
            self.seen({file: after[file] for file in new})
            for one in due:
                try:
                    await one.changed()
                except Exception:
                    log.exception("unexpected error after a file has changed")
