"""Sockets that somebody else listens on and hands over, as systemd's socket units do (sd_listen_fds(3))."""

import os
import socket
from collections.abc import MutableMapping

FIRST = 3
"""The first file descriptor that is handed over."""


def handed_over(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """The sockets that this process was given to listen on, none where it is to open its own. What says so is taken out
    of the environment: it is not for processes that this one starts."""
    pid, count, _ = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found = [socket.socket(fileno=FIRST + number) for number in range(int(count))]
    for one in found:
        one.set_inheritable(False)
        one.setblocking(False)
    return found
