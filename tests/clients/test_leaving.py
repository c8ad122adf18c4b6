"""A client that is killed in the middle of its stream: the model server notices within a second."""

import subprocess
import sys
import time

from tests.clients.conftest import Served

CLIENT = """
from openai import OpenAI
api = OpenAI(base_url={url!r}, api_key={key!r}, max_retries=0)
for chunk in api.chat.completions.create(model="m", messages=[{{"role": "user", "content": "Tell me"}}], stream=True):
    print("chunk", flush=True)
"""


def test_the_upstream_sees_a_killed_client_within_a_second(served: Served) -> None:
    before = len(served.toy.events("client_gone"))
    with served_slowly(served) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "chunk\n"
        client.kill()
        killed = time.monotonic()
        served.toy.wait_for("client_gone", before + 1)
        assert time.monotonic() - killed < 1.0


def served_slowly(served: Served) -> subprocess.Popen[str]:
    code = CLIENT.format(url=f"{served.url}/v1", key=served.key)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
