"""A model server that costs next to nothing to start: `small_target()` is a target whose server it is.

It answers `ok`; after the head, `/drip` is silent for a while, `/hold` for good.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

PATHS = ("/drip", "/hold", "/info")


def small_target(marker: Path, **run: Any) -> dict[str, Any]:
    """Whatever runs for it has `marker/small` on its command line."""
    command = f"{shlex.join([sys.executable, '-I', '-S', __file__])} ${{port}} {shlex.quote(f'{marker}/small')}"
    target = {"url": "http://127.0.0.1:${port}", "mapping": dict.fromkeys(PATHS)}
    return {**target, "run": {"command": command, "ready": "/health", **run}}


def main() -> None:
    """Serve on the port of the command line until killed."""
    import socket
    import time
    from _thread import start_new_thread

    def answer(connection: socket.socket) -> None:
        path = connection.recv(65536).split(b" ")[1]
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n")
        time.sleep({b"/drip": 0.7, b"/hold": 600.0}.get(path, 0.0))
        connection.sendall(b"ok")
        connection.close()

    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
        print("it listens", flush=True)
        while True:
            start_new_thread(answer, (listening.accept()[0],))


if __name__ == "__main__":
    main()
