"""Holds memory until its standard input has ended, and for so many seconds more: `holder.py MEBIBYTES SECONDS`.

Run as a script of its own by the toy server, with one line of output once the memory is taken. Its input ends with the
toy, however that has ended, so it ends by itself.
"""

import sys
import time
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Hold the memory; the exit code."""
    held = b"x" * (int(arguments[0]) * 1024 * 1024)
    print(len(held), flush=True)
    sys.stdin.read()
    time.sleep(float(arguments[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
