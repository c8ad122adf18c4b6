"""A request as openai==0.28 sends it with `headers={"target": ...}`: that release does not run on this Python."""

import http.client

import orjson

from tests.clients.conftest import Served


def test_a_request_of_openai_0_28_reaches_the_target_it_names(served: Served) -> None:
    body = {
        "model": "gpt-3.5-turbo",
        "messages": [{"role": "user", "content": "Hello, who are you?"}],
        "temperature": 0.7,
        "max_tokens": 15,
    }
    headers = {
        "Authorization": f"Bearer {served.key}",
        "Content-Type": "application/json",
        "User-Agent": "OpenAI/v1 PythonBindings/0.28.1",
        "X-OpenAI-Client-User-Agent": '{"bindings_version": "0.28.1", "httplib": "requests", "lang": "python"}',
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "target": "seed",
    }
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"))
    connection.request("POST", "/chat/completions", orjson.dumps(body), headers)
    response = connection.getresponse()
    answer = orjson.loads(response.read())
    connection.close()
    assert response.status == 200
    assert answer["choices"][0]["message"]["content"]
    sent = served.toy.requests[-1]
    assert sent["body"]["inputs"].startswith("<s>[INST]") or sent["body"]["inputs"].startswith("[INST]")
    assert "authorization" not in sent["headers"]
    assert "target" not in sent["headers"]
