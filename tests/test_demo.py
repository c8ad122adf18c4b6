"""The toy server answers as TGI does, its fault switches work, and the demo leaves nothing behind."""

import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException, IncompleteRead
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import orjson
import pytest

from mooltiproxy.demo import processes
from mooltiproxy.demo.language_model import BOS, EOS, TEXT, LanguageModel, Sampling, pieces
from mooltiproxy.demo.processes import Children, Interrupts
from mooltiproxy.engines.memory import used_ram
from mooltiproxy.errors import MooltiError
from tests.servers.toy import Toy, running_toy

PROMPT = "What is tea?"


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    with running_toy() as running:
        yield running


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(TEXT.read_text(encoding="utf-8"))


def said(model: LanguageModel, prompt: str, **sampling: Any) -> str:
    return "".join(step.token.text for step in model.walk(prompt, Sampling(**sampling)))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes


def ask(toy: Toy, method: str, path: str, content: bytes | None = None, content_type: str = "") -> Answer:
    with closing(HTTPConnection("127.0.0.1", toy.port, timeout=10)) as connection:
        connection.request(method, path, content, {"content-type": content_type} if content_type else {})
        with connection.getresponse() as response:
            return Answer(response.status, response.headers, response.read())


def post(toy: Toy, path: str, body: Any, content_type: str = "application/json") -> Answer:
    return ask(toy, "POST", path, body if isinstance(body, bytes) else orjson.dumps(body), content_type)


def generate(toy: Toy, **parameters: Any) -> tuple[int, Any]:
    answer = post(toy, "/generate", {"inputs": PROMPT, "parameters": parameters})
    is_json = answer.headers["content-type"] == "application/json"
    return answer.status, orjson.loads(answer.body) if is_json else answer.body.decode()


def stream(toy: Toy, path: str = "/generate_stream", **parameters: Any) -> list[Any]:
    response = post(toy, path, {"inputs": PROMPT, "stream": True, "parameters": parameters})
    assert response.status == 200
    assert response.headers["content-type"] == "text/event-stream"
    *events, rest = response.body.split(b"\n\n")
    assert rest == b""
    assert all(event.startswith(b"data:{") for event in events)
    return [orjson.loads(event.removeprefix(b"data:")) for event in events]


# the model


def test_tokens_joined_are_the_text() -> None:
    text = "Ada's  dog (brown)\n\n### said: über_all — 3.14!\t\x00"
    assert "".join(pieces(text)) == text


def test_greedy_answers_to_a_question_begin_with_its_subject(model: LanguageModel) -> None:
    assert said(model, "\n### HUMAN:\nWhat is tea?\n### RESPONSE:\n").startswith("Tea is the first thing")


def test_the_last_question_counts_more_than_the_first(model: LanguageModel) -> None:
    assert said(model, "Tell me about the storm.\nTell me about the dog.\n").startswith("The dog of the keeper")


def test_an_unfinished_sentence_is_continued(model: LanguageModel) -> None:
    assert said(model, "The boat comes every second").startswith(" Friday.")


def test_the_same_seed_gives_the_same_walk(model: LanguageModel) -> None:
    assert said(model, PROMPT, seed=7, temperature=1.5) == said(model, PROMPT, seed=7, temperature=1.5)


def test_seeds_give_different_walks(model: LanguageModel) -> None:
    assert len({said(model, PROMPT, seed=seed, temperature=1.5) for seed in range(5)}) > 1


@pytest.mark.parametrize("narrow", [{"temperature": 0.001}, {"top_k": 1}, {"top_p": 0.001}])
def test_the_narrowest_sampling_is_greedy(model: LanguageModel, narrow: dict[str, float]) -> None:
    assert said(model, PROMPT, seed=1, **narrow) == said(model, PROMPT)


def test_every_walk_ends(model: LanguageModel) -> None:
    for seed in range(30):
        assert said(model, "xyzzy", seed=seed, temperature=5.0, repetition_penalty=0.5).endswith(EOS)


def test_top_tokens_come_in_falling_order(model: LanguageModel) -> None:
    for step in model.walk(PROMPT, Sampling(seed=3)):
        logprobs = [token.logprob or 0.0 for token in step.top]
        assert logprobs == sorted(logprobs, reverse=True)


# TGI's protocol


def test_an_answer_has_the_text_only_unless_details_are_asked_for(toy: Toy) -> None:
    status, answer = generate(toy, max_new_tokens=4)
    assert (status, answer) == (200, {"generated_text": " Tea is the first"})


def test_details_tell_how_the_answer_ended(toy: Toy) -> None:
    _, answer = generate(toy, max_new_tokens=3, details=True, top_n_tokens=2)
    details = answer["details"]
    assert (details["finish_reason"], details["generated_tokens"], details["seed"]) == ("length", 3, None)
    assert "".join(token["text"] for token in details["tokens"]) == answer["generated_text"]
    assert [len(top) for top in details["top_tokens"]] == [2, 2, 2]
    assert details["prefill"] == []


def test_the_tokens_of_the_prompt_can_be_had(toy: Toy) -> None:
    _, answer = generate(toy, max_new_tokens=1, details=True, decoder_input_details=True)
    prefill = answer["details"]["prefill"]
    assert (prefill[0]["text"], prefill[0]["logprob"]) == (BOS, None)
    assert "".join(token["text"] for token in prefill[1:]) == PROMPT


def test_headers_count_the_tokens(toy: Toy) -> None:
    response = post(toy, "/generate", {"inputs": PROMPT, "parameters": {"max_new_tokens": 4}})
    assert (response.headers["x-prompt-tokens"], response.headers["x-generated-tokens"]) == ("5", "4")


def test_the_end_token_is_special_and_not_in_the_text(toy: Toy) -> None:
    _, answer = generate(toy, details=True)
    assert answer["details"]["finish_reason"] == "eos_token"
    assert answer["details"]["tokens"][-1]["special"] is True
    assert EOS not in answer["generated_text"]


def test_a_stop_sequence_stays_in_the_text(toy: Toy) -> None:
    _, answer = generate(toy, stop=[" first thing"], details=True)
    assert answer["generated_text"] == " Tea is the first thing"
    assert answer["details"]["finish_reason"] == "stop_sequence"


def test_a_stop_sequence_within_a_token_is_missed(toy: Toy) -> None:
    _, answer = generate(toy, stop=[" fir"], max_new_tokens=5)
    assert answer["generated_text"] == " Tea is the first thing"


def test_parameters_without_do_sample_are_greedy(toy: Toy) -> None:
    _, answer = generate(toy, details=True, temperature=1.0, seed=3)
    assert answer["details"]["seed"] is None


@pytest.mark.parametrize("value", [{"temperature": 0.5}, {"top_k": 5}, {"top_p": 0.9}, {"typical_p": 0.9}])
def test_a_sampling_value_turns_sampling_on(toy: Toy, value: dict[str, float]) -> None:
    _, answer = generate(toy, details=True, seed=3, **value)
    assert answer["details"]["seed"] == 3


def test_sampling_without_a_seed_draws_one(toy: Toy) -> None:
    _, answer = generate(toy, details=True, do_sample=True)
    assert isinstance(answer["details"]["seed"], int)


def test_the_full_text_begins_with_the_prompt(toy: Toy) -> None:
    _, answer = generate(toy, return_full_text=True, max_new_tokens=2)
    assert answer["generated_text"] == PROMPT + " Tea is"


def test_a_stream_ends_with_the_whole_text_and_its_details(toy: Toy) -> None:
    events = stream(toy, details=True, max_new_tokens=3)
    assert [event["index"] for event in events] == [1, 2, 3]
    assert [event["generated_text"] for event in events] == [None, None, " Tea is the"]
    assert [event["details"] for event in events] == [
        None,
        None,
        {"finish_reason": "length", "generated_tokens": 3, "seed": None, "input_length": 5},
    ]


def test_a_stream_without_details_has_none(toy: Toy) -> None:
    assert stream(toy, max_new_tokens=1)[-1]["details"] is None


def test_the_root_path_answers_with_a_list_and_the_full_text(toy: Toy) -> None:
    response = post(toy, "/", {"inputs": PROMPT, "parameters": {"max_new_tokens": 2}})
    assert orjson.loads(response.body) == [{"generated_text": PROMPT + " Tea is"}]


def test_the_root_path_streams_when_asked(toy: Toy) -> None:
    assert stream(toy, "/", max_new_tokens=2)[-1]["generated_text"] == PROMPT + " Tea is"


@pytest.mark.parametrize(
    "value",
    [
        {"temperature": 0},
        {"top_p": 0},
        {"top_p": 1},
        {"typical_p": 1.0},
        {"top_k": 0},
        {"repetition_penalty": 0},
        {"frequency_penalty": 2.5},
        {"max_new_tokens": 0},
        {"max_new_tokens": 4096},
        {"stop": ["1", "2", "3", "4", "5"]},
        {"best_of": 2},
        {"truncate": 0},
        {"top_n_tokens": 6},
    ],
)
def test_a_value_out_of_bounds_is_refused(toy: Toy, value: dict[str, Any]) -> None:
    status, answer = generate(toy, **value)
    assert (status, answer["error_type"]) == (422, "validation")
    (event,) = stream(toy, **value)
    assert event == answer


@pytest.mark.parametrize(
    "value",
    [{"stop": None}, {"stop": "x"}, {"do_sample": None}, {"max_new_tokens": 1.5}, {"max_new_tokens": -1}, {"seed": -1}],
)
def test_a_value_of_the_wrong_type_is_refused_in_plain_text(toy: Toy, value: dict[str, Any]) -> None:
    status, answer = generate(toy, **value)
    assert status == 422
    assert next(iter(value)) in answer


@pytest.mark.parametrize("body", [{"parameters": {}}, {"inputs": None}, {"inputs": "x", "parameters": None}, []])
def test_a_body_of_the_wrong_shape_is_refused(toy: Toy, body: Any) -> None:
    assert post(toy, "/generate", body).status == 422


def test_an_empty_prompt_is_refused(toy: Toy) -> None:
    assert post(toy, "/generate", {"inputs": ""}).status == 422


def test_a_prompt_that_is_too_long_is_refused_unless_truncated(toy: Toy) -> None:
    long = "word " * 5000
    assert post(toy, "/generate", {"inputs": long}).status == 422
    assert post(toy, "/generate", {"inputs": long, "parameters": {"truncate": 10}}).headers["x-prompt-tokens"] == "10"


def test_unknown_fields_are_ignored(toy: Toy) -> None:
    status, _ = generate(toy, max_new_tokens=1, presence_penalty="x")
    assert status == 200


def test_what_is_not_json_is_refused(toy: Toy) -> None:
    assert post(toy, "/generate", b"{").status == 400
    assert post(toy, "/generate", {"inputs": "x"}, "text/plain").status == 415


def test_tokenize_gives_offsets(toy: Toy) -> None:
    tokens = orjson.loads(post(toy, "/tokenize", {"inputs": PROMPT}).body)
    assert [PROMPT[token["start"] : token["stop"]] for token in tokens] == ["", "What", " is", " tea", "?"]


@pytest.mark.parametrize("path", ["/health", "/ping", "/info"])
def test_the_paths_that_say_it_lives_answer(toy: Toy, path: str) -> None:
    assert ask(toy, "GET", path).status == 200


# the fault switches


def test_a_stream_can_be_cut() -> None:
    with running_toy("--cut-after", "3") as toy:
        with pytest.raises((HTTPException, ConnectionError)):
            stream(toy)
        toy.wait_for("cut")


def test_an_answer_can_be_cut_in_the_middle() -> None:
    with running_toy("--cut-after", "3") as toy:
        with pytest.raises(IncompleteRead):
            generate(toy)


def test_a_stream_can_fail_midway() -> None:
    with running_toy("--fail-after", "2") as toy:
        *tokens, failure = stream(toy)
        assert (len(tokens), failure["error_type"]) == (2, "generation")


def test_an_answer_can_fail() -> None:
    with running_toy("--fail-after", "2") as toy:
        status, answer = generate(toy)
        assert (status, answer["error_type"]) == (424, "generation")


@pytest.mark.parametrize(("status", "kind"), [(429, "overloaded"), (503, "healthcheck"), (418, "unknown")])
def test_every_generation_can_be_refused(status: int, kind: str) -> None:
    with running_toy("--status", str(status)) as toy:
        answered, answer = generate(toy)
        assert (answered, answer["error_type"]) == (status, kind)
        assert post(toy, "/generate_stream", {"inputs": PROMPT}).status == status


def test_tokens_can_be_slow() -> None:
    with running_toy("--delay", "0.1", "--first-delay", "0.2") as toy:
        began = time.monotonic()
        stream(toy, max_new_tokens=3)
        assert 0.4 <= time.monotonic() - began < 2


def test_the_log_has_the_request_as_it_came() -> None:
    with running_toy() as toy:
        generate(toy, max_new_tokens=1)
        (request,) = toy.requests
        assert (request["method"], request["path"]) == ("POST", "/generate")
        assert request["body"] == {"inputs": PROMPT, "parameters": {"max_new_tokens": 1}}
        assert request["headers"]["content-type"] == "application/json"
        assert toy.wait_for("finished")["id"] == request["id"]


@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
def test_a_client_that_leaves_is_noticed_at_once(path: str) -> None:
    with running_toy("--first-delay", "30") as toy:
        body = orjson.dumps({"inputs": PROMPT})
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        with socket.create_connection(("127.0.0.1", toy.port)) as client:
            client.sendall(f"{head}\r\n\r\n".encode() + body)
            toy.wait_for("started")
        left = time.time()
        assert toy.wait_for("client_gone")["time"] - left < 0.5


def test_sigterm_ends_it_cleanly() -> None:
    with running_toy() as toy:
        toy.process.terminate()
        assert toy.process.wait(5) == 0


def test_it_can_be_deaf_to_sigterm() -> None:
    with running_toy("--ignore-sigterm") as toy:
        toy.process.terminate()
        assert generate(toy, max_new_tokens=1)[0] == 200


@pytest.mark.skipif(sys.platform != "linux", reason="its processes are looked for in /proc")
def test_it_can_hold_memory_for_a_while_after_its_end() -> None:
    with running_toy("--hold", "32", "--hold-after", "0.4") as toy:
        sizes = used_ram(toy.process.pid)
        (holder,) = sizes.keys() - {toy.process.pid}
        assert sizes[holder] >= 32 * 1024 * 1024
        assert os.getsid(holder) == holder != os.getsid(toy.process.pid)
        toy.process.kill()
        killed = time.monotonic()
        toy.process.wait()
    while used_ram(holder).get(holder):
        assert time.monotonic() - killed < 5
        time.sleep(0.01)
    assert time.monotonic() - killed >= 0.4


def test_a_port_in_use_is_one_clear_line(toy: Toy) -> None:
    command = [sys.executable, "-m", "mooltiproxy.demo", "--port", str(toy.port)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert result.returncode == 3
    assert result.stderr.count("\n") == 1


# the demo


@contextmanager
def marked() -> Iterator[tuple[dict[str, str], Callable[[], list[int]]]]:
    """An environment, and a function that lists the processes that have it; they are killed at the end."""
    mark = f"DEMO_TEST_MARK={uuid4().hex}"

    def alive() -> list[int]:
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _has(folder, mark.encode())]

    name, _, value = mark.partition("=")
    try:
        yield {**os.environ, name: value}, alive
    finally:
        for number in alive():
            os.kill(number, signal.SIGKILL)


def _has(folder: Path, mark: bytes) -> bool:
    try:
        return mark in (folder / "environ").read_bytes().split(b"\0")
    except OSError:  # it has just ended, or is not ours
        return False


DEMO = [sys.executable, "-m", "mooltiproxy", "demo"]


def test_without_a_terminal_the_demo_answers_and_ends() -> None:
    with marked() as (environ, alive):
        result = subprocess.run(DEMO, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stderr) == (0, "")
        assert "Answer:   The lighthouse stands on a black rock" in result.stdout
        assert re.search(r"curl -N http://127.0.0.1:\d+/v1/chat/completions -H 'Authorization: Bearer", result.stdout)
        assert re.search(r'OpenAI\(base_url="http://127.0.0.1:\d+/v1", api_key="\w+"\)', result.stdout)
        assert not alive()


@pytest.mark.parametrize(
    ("number", "seconds"),
    [(signal.SIGINT, 0), (signal.SIGINT, 0.25), (signal.SIGINT, 0.55), (signal.SIGINT, 1.3), (signal.SIGTERM, 0.35)],
)
def test_an_interrupted_demo_leaves_no_process(number: signal.Signals, seconds: float) -> None:
    with marked() as (environ, alive):
        with subprocess.Popen(DEMO, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
            _wait_until_caught(signal.SIGTERM, demo.pid)  # before, it is the interpreter that answers
            time.sleep(seconds)  # whatever it is doing then
            demo.send_signal(number)
            output, _ = demo.communicate(timeout=20)
        assert "Traceback" not in output
        assert not alive()


def _wait_until_caught(number: signal.Signals, pid: int) -> None:
    """Return when a process has its own way of handling a signal."""
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if caught >> (number - 1) & 1:
            return
        time.sleep(0.005)


def test_in_a_terminal_the_demo_stays_until_ctrl_c() -> None:
    keyboard, terminal = pty.openpty()
    with marked() as (environ, alive), os.fdopen(keyboard, "r+b", buffering=0) as screen:
        in_terminal = ["setsid", "--ctty", "--wait", *DEMO]
        demo = subprocess.Popen(in_terminal, env=environ, stdin=terminal, stdout=terminal, stderr=terminal)
        os.close(terminal)
        shown = _read_until(screen, b"until Ctrl-C.")
        curl = next(line for line in shown.decode().splitlines() if "curl -N" in line)
        answer = subprocess.run(shlex.split(curl), capture_output=True, timeout=20).stdout
        assert answer.rstrip().endswith(b"data: [DONE]")
        screen.write(b"\x03")
        assert demo.wait(20) == 0
        assert not alive()


def _read_until(screen: IO[bytes], end: bytes) -> bytes:
    shown = b""
    while end not in shown:
        shown += screen.read(4096) or b""
    return shown


def test_a_part_that_does_not_start_is_shown_with_its_last_words(tmp_path: Path) -> None:
    with Children(tmp_path, Interrupts()) as children:
        child = children.start("proxy", [sys.executable, "-c", "raise SystemExit('no luck')"], os.environ)
        with pytest.raises(MooltiError, match="the proxy ended with exit code 1:\nno luck"):
            child.wait_until(lambda: False, 10)


def test_a_part_that_is_deaf_to_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.2)
    command = [sys.executable, "-m", "mooltiproxy.demo", "--ignore-sigterm"]
    with Children(tmp_path, Interrupts()) as children:
        child = children.start("toy", command, os.environ)
        child.wait_until(lambda: "listening" in child.output, 10)
    assert child.process.returncode == -signal.SIGKILL
