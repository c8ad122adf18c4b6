"""The JavaScript clients of Anthropic, Google and Ollama in front of strict servers of other APIs."""

import pytest
import uvloop

from tests.clients.node import CALLS, Question, Results, check_usage, drive, pairs
from tests.grid.conversation import ASKED, MESSAGE, PNG, TOLD, Feature

SPEAKS = {"anthropic": "anthropic", "google": "gemini", "ollama": "ollama"}
TOOLS = ["tools", "streamed tools", "streamed thoughtful tools"]
CHECKS = ["text", "streamed text", *TOOLS, "thought", "object", "image", "error", "broken stream"]
PAIRS = pairs(SPEAKS)
ENDS = {"anthropic": ("end_turn", "tool_use"), "google": ("STOP", "STOP"), "ollama": ("stop", "stop")}
ERRORS = {"anthropic": "RateLimitError", "google": "ApiError", "ollama": "ResponseError"}

pytestmark = pytest.mark.timeout(300)
"""The first test installs the packages."""

everyone = pytest.mark.parametrize(("client", "target"), PAIRS)


@pytest.fixture(scope="module")
def results(npm_packages: None) -> Results:
    questions = [Question(client, target, check) for client, target in PAIRS for check in CHECKS]
    return uvloop.run(drive("vendors.mjs", questions))


@everyone
def test_a_question_is_answered_whole(results: Results, client: str, target: str) -> None:
    told, (heard,) = results.of(client, target, "text")
    assert (told["text"], told["finish"]) == ("Hi there", ENDS[client][0])
    assert (heard.system, heard.said, heard.max_tokens, heard.temperature) == (
        "Be brief.",
        ASKED[Feature.PLAIN].said,
        64,
        0.5,
    )
    check_usage(told["usage"], target)


@everyone
def test_a_question_is_answered_as_a_stream(results: Results, client: str, target: str) -> None:
    told, (heard,) = results.of(client, target, "streamed text")
    assert heard.streams
    assert told["pieces"] == ["Hi t", "here"]
    assert told["text"] == "Hi there"
    check_usage(told["usage"], target)


@pytest.mark.parametrize("check", TOOLS)
@everyone
def test_tools_are_called_at_once_and_answered(results: Results, client: str, target: str, check: str) -> None:
    told, (_, heard) = results.of(client, target, check)
    assert (told["first"]["calls"], told["first"]["finish"]) == (CALLS, ENDS[client][1])
    assert told["last"]["text"] == TOLD[Feature.RESULTS].text
    assert (heard.calls, heard.results) == (ASKED[Feature.RESULTS].calls, ASKED[Feature.RESULTS].results)
    # Claude thinks on only where its own thoughts come back, and Ollama's API has no place for their signatures
    assert heard.thinks == ("thoughtful" in check and (client, target) != ("ollama", "anthropic"))


@everyone
def test_a_thought_is_told_apart_from_the_text(results: Results, client: str, target: str) -> None:
    told, (heard,) = results.of(client, target, "thought")
    assert heard.thinks
    assert (told["text"], told["thought"]) == ("4", "An easy sum.")


@everyone
def test_an_answer_has_its_schema(results: Results, client: str, target: str) -> None:
    told, (heard,) = results.of(client, target, "object")
    assert told == {"city": "Paris", "celsius": 20}
    assert heard.schema == ASKED[Feature.SCHEMA].schema


@everyone
def test_an_image_is_seen(results: Results, client: str, target: str) -> None:
    _, (heard,) = results.of(client, target, "image")
    assert heard.images == (PNG,)


@everyone
def test_an_error_has_the_targets_status_and_words(results: Results, client: str, target: str) -> None:
    told, _ = results.of(client, target, "error")
    assert told == {"kind": ERRORS[client], "status": 429, "message": MESSAGE}


@everyone
def test_a_stream_that_breaks_off_ends_with_an_error(results: Results, client: str, target: str) -> None:
    told, _ = results.of(client, target, "broken stream")
    assert told == {"pieces": ["H", "i"], "ends": [MESSAGE]}
