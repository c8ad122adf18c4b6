"""Standard output of several processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mooltiproxy.workers.output import SharedOutput, new_lock

LINES, LONG = 100, 200_000
WRITER = f"""
import sys
from mooltiproxy.workers.output import SharedOutput
output = SharedOutput(1, int(sys.argv[1]))
sys.stdin.read(1)
for _ in range({LINES}):
    output.write("".join(f"{{sys.argv[2]}} " + sys.argv[2] * size + chr(10) for size in (5, {LONG}, 100)))
"""


def test_lines_of_several_processes_stay_whole_in_a_pipe_however_long_they_are() -> None:
    starting, start = os.pipe()
    reading, writing = os.pipe()
    with new_lock() as lock, open(reading, "rb") as pipe:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(lock.fileno()), letter],
                stdin=starting,
                stdout=writing,
                pass_fds=[lock.fileno()],
                cwd=Path(__file__).parents[2],
            )
            for letter in "ab"
        ]
        for one in (writing, starting, start):
            os.close(one)
        lines = pipe.read().decode().splitlines()
        assert [writer.wait() for writer in writers] == [0, 0]
    assert len(lines) == 2 * 3 * LINES
    whole = {f"{letter} {letter * size}" for letter in "ab" for size in (5, LONG, 100)}
    assert set(lines) == whole


def test_a_closed_pipe_is_an_error_and_leaves_the_lock_free() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with new_lock() as lock, open(writing, "wb"):
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                SharedOutput(writing, lock.fileno()).write("a line\n")
