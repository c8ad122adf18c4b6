"""curl -N with a target header."""

import shutil
import subprocess

import pytest

from tests.clients.conftest import Served

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def curl(served: Served, *options: str) -> str:
    command = ["curl", "-sN", "--max-time", "20", "-H", f"Authorization: Bearer {served.key}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@needs_curl
def test_curl_streams_from_the_target_it_names(served: Served) -> None:
    body = '{"model": "m", "stream": true, "max_tokens": 5, "messages": [{"role": "user", "content": "Tea?"}]}'
    options = ["-H", "target: streaming", "-H", "Content-Type: application/json; charset=utf-8", "-d", body]
    out = curl(served, *options, f"{served.url}/v1/chat/completions")
    assert out.startswith("data: {")
    assert out.endswith("data: [DONE]\n\n")


@needs_curl
def test_curl_reaches_a_target_by_path_prefix(served: Served) -> None:
    assert '"model_id"' in curl(served, f"{served.url}/to/streaming/info")


@needs_curl
def test_curl_without_a_content_type_is_read_as_json_all_the_same(served: Served) -> None:
    body = '{"max_tokens": 5, "messages": [{"role": "user", "content": "Tea?"}]}'
    assert '"chat.completion"' in curl(served, "-d", body, f"{served.url}/chat/completions")
