"""Standard output, shared with other processes: what each writes at once stays together."""

import fcntl
import os
import tempfile
from typing import BinaryIO


def new_lock() -> BinaryIO:
    """A file to lock that nobody else knows; in memory where that is possible, since a container may have no folder to
    write to."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("mooltiproxy-output"), "wb")
    return tempfile.TemporaryFile()


class SharedOutput:
    """A stream of text whose writes wait for those of other processes that lock the same file. A lock that a process
    holds ends with it."""

    def __init__(self, descriptor: int, lock: int) -> None:
        """The file descriptors of what is written to, and of the file to lock."""
        self._descriptor = descriptor
        self._lock = lock

    def write(self, text: str) -> int:
        """Write all of it; raises OSError."""
        data = text.encode("utf-8", "backslashreplace")
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""
