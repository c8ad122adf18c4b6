"""OpenAI's client for JavaScript, chat and Responses, in front of strict servers of other APIs."""

import pytest
import uvloop

from tests.clients.node import CALLS, Question, Results, check_usage, drive, pairs
from tests.grid.conversation import ASKED, MESSAGE, PNG, TOLD, Feature
from tests.servers.strict import SERVERS

SPEAKS = {"chat": "openai", "responses": None}
CHECKS = ["text", "streamed text", "tools", "streamed tools", "thought", "object", "image", "error", "broken stream"]
OWN = {"chat": "run tools", "responses": "streamed thoughtful tools"}
PAIRS = pairs(SPEAKS)
ENDS = {"chat": ("stop", "tool_calls"), "responses": ("completed", "completed")}
STREAM = (
    "created in_progress output_item.added content_part.added output_text.delta output_text.delta output_text.done "
    "content_part.done output_item.done completed"
)

pytestmark = pytest.mark.timeout(300)
"""The first test installs the packages."""

everyone = pytest.mark.parametrize(("client", "target"), PAIRS)


@pytest.fixture(scope="module")
def results(npm_packages: None) -> Results:
    questions = [Question(client, target, check) for client, target in PAIRS for check in (*CHECKS, OWN[client])]
    return uvloop.run(drive("openai.mjs", questions))


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
    assert heard.stop == (("END",) if client == "chat" else ())
    check_usage(told["usage"], target)


@everyone
def test_a_question_is_answered_as_a_stream(results: Results, client: str, target: str) -> None:
    told, (heard,) = results.of(client, target, "streamed text")
    assert heard.streams
    assert told["pieces"] == ["Hi t", "here"]
    assert told["text"] == "Hi there"
    check_usage(told["usage"], target)


@pytest.mark.parametrize("target", list(SERVERS))
def test_a_streamed_response_has_the_events_of_a_message(results: Results, target: str) -> None:
    told, _ = results.of("responses", target, "streamed text")
    assert told["kinds"] == [f"response.{kind}" for kind in STREAM.split()]


@pytest.mark.parametrize("check", ["tools", "streamed tools"])
@everyone
def test_functions_are_called_at_once_and_answered(results: Results, client: str, target: str, check: str) -> None:
    told, (_, heard) = results.of(client, target, check)
    assert (told["first"]["calls"], told["first"]["finish"]) == (CALLS, ENDS[client][1])
    assert told["last"]["text"] == TOLD[Feature.RESULTS].text
    assert (heard.calls, heard.results) == (ASKED[Feature.RESULTS].calls, ASKED[Feature.RESULTS].results)


@pytest.mark.parametrize("target", [target for target in SERVERS if target != "openai"])
def test_the_client_runs_functions_itself(results: Results, target: str) -> None:
    told, (_, heard) = results.of("chat", target, "run tools")
    assert told == TOLD[Feature.RESULTS].text
    assert heard.results == ASKED[Feature.RESULTS].results


@pytest.mark.parametrize("target", list(SERVERS))
def test_reasoning_items_come_back_with_the_calls(results: Results, target: str) -> None:
    told, heard = results.of("responses", target, "streamed thoughtful tools")
    assert told["first"]["thought"] == "An easy sum."
    assert all(one.thinks for one in heard)
    assert heard[-1].results == ASKED[Feature.RESULTS].results


@everyone
def test_a_thought_is_told_apart_from_the_text(results: Results, client: str, target: str) -> None:
    told, (heard,) = results.of(client, target, "thought")
    assert heard.thinks
    assert (told["text"], told["thought"]) == ("4", "An easy sum.")


@everyone
def test_an_answer_is_parsed_by_its_schema(results: Results, client: str, target: str) -> None:
    told, (heard,) = results.of(client, target, "object")
    assert told == {"city": "Paris", "celsius": 20}
    assert heard.schema["required"] == ["city", "celsius"]


@everyone
def test_an_image_is_seen(results: Results, client: str, target: str) -> None:
    _, (heard,) = results.of(client, target, "image")
    assert heard.images == (PNG,)


@everyone
def test_an_error_has_the_targets_status_and_words(results: Results, client: str, target: str) -> None:
    told, _ = results.of(client, target, "error")
    assert told == {"kind": "RateLimitError", "status": 429, "message": MESSAGE}


@everyone
def test_a_stream_that_breaks_off_ends_with_an_error(results: Results, client: str, target: str) -> None:
    told, _ = results.of(client, target, "broken stream")
    assert told == {"pieces": ["H", "i"], "ends": [MESSAGE]}
