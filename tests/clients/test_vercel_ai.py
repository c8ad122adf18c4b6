"""The Vercel AI SDK: each of its providers in front of strict servers of the other APIs."""

from typing import Any

import pytest
import uvloop

from tests.clients.node import CALLS, Question, Results, check_usage, drive, pairs
from tests.grid.conversation import ASKED, MESSAGE, PNG, TOLD, Feature
from tests.servers.strict import BREAKS

SPEAKS = {
    "openai": "openai",
    "responses": None,
    "compatible": "openai",
    "anthropic": "anthropic",
    "google": "gemini",
}
"""What a provider's API is called as a target; a strict server of Responses there is not."""
SIGNING = ("responses", "google")
STREAMED = ["", "streamed "]
CHECKS = [
    *(how + what for how in STREAMED for what in ("text", "tools", "thoughtful tools", "thought", "object")),
    "turns",
    "image",
    "error",
    "broken stream",
]
PAIRS = pairs(SPEAKS)

pytestmark = pytest.mark.timeout(300)
"""The first test installs the packages."""

everyone = pytest.mark.parametrize(("client", "target"), PAIRS)
both_ways = pytest.mark.parametrize("how", STREAMED, ids=["whole", "streamed"])


def targets_of(wanted: str) -> list[str]:
    return [target for client, target in PAIRS if client == wanted]


@pytest.fixture(scope="module")
def results(npm_packages: None) -> Results:
    questions = [Question(client, target, check) for client, target in PAIRS for check in CHECKS]
    questions += [Question("anthropic", target, "object by a tool") for target in targets_of("anthropic")]
    return uvloop.run(drive("vercel.mjs", [*questions, Question("storing responses", "openai", "turns")]))


@everyone
def test_a_text_is_generated(results: Results, client: str, target: str) -> None:
    told, (heard,) = results.of(client, target, "text")
    assert (told["text"], told["finish"]) == ("Hi there", "stop")
    assert (heard.system, heard.said, heard.max_tokens, heard.temperature) == (
        "Be brief.",
        ASKED[Feature.PLAIN].said,
        64,
        0.5,
    )
    check_usage(told["usage"], target)


@everyone
def test_a_text_is_streamed_as_it_comes(results: Results, client: str, target: str) -> None:
    told, (heard,) = results.of(client, target, "streamed text")
    assert heard.streams
    assert told["pieces"] == ["Hi t", "here"]
    assert told["finish"] == "stop"
    check_usage(told["usage"], target)


@everyone
def test_a_conversation_goes_on(results: Results, client: str, target: str) -> None:
    _, (_, heard) = results.of(client, target, "turns")
    assert heard.said == ASKED[Feature.MULTI_TURN].said


def check_tools(told: Any, heard: Any) -> None:
    asked = ASKED[Feature.RESULTS]
    assert told["calls"] == [CALLS, []]
    assert told["text"] == TOLD[Feature.RESULTS].text
    assert [one.calls for one in heard] == [(), asked.calls]
    assert all(degrees in result for (_, degrees), (_, result) in zip(asked.results, heard[-1].results, strict=True))
    assert [city for city, _ in heard[-1].results] == ["Paris", "Rome"]


@both_ways
@everyone
def test_tools_are_called_at_once_and_their_results_sent(results: Results, client: str, target: str, how: str) -> None:
    told, heard = results.of(client, target, how + "tools")
    check_tools(told, heard)


@both_ways
@everyone
def test_the_model_thinks_between_the_steps(results: Results, client: str, target: str, how: str) -> None:
    told, heard = results.of(client, target, how + "thoughtful tools")
    check_tools(told, heard)
    # Claude thinks on only where its own thoughts come back; the other clients' APIs have no place for signatures
    assert heard[-1].thinks == (target != "anthropic" or client in SIGNING)


@both_ways
@everyone
def test_a_thought_is_told_apart_from_the_text(results: Results, client: str, target: str, how: str) -> None:
    told, (heard,) = results.of(client, target, how + "thought")
    assert heard.thinks
    assert told["text"] == "4"
    assert told["thought"] == ("" if client == "openai" else "An easy sum.")  # its provider reads no thoughts


@both_ways
@everyone
def test_an_object_has_its_schema(results: Results, client: str, target: str, how: str) -> None:
    told, (heard,) = results.of(client, target, how + "object")
    assert told == {"city": "Paris", "celsius": 20}
    assert (heard.schema["type"], heard.schema["required"]) == ("object", ["city", "celsius"])


@pytest.mark.parametrize("target", targets_of("anthropic"))
def test_an_object_may_be_the_arguments_of_a_tool_that_must_be_called(results: Results, target: str) -> None:
    told, (heard,) = results.of("anthropic", target, "object by a tool")
    assert told == {"city": "Paris"}
    assert list(heard.tools) == ["json"]


@everyone
def test_an_image_is_seen(results: Results, client: str, target: str) -> None:
    _, (heard,) = results.of(client, target, "image")
    assert heard.images == (PNG,)


@everyone
def test_an_error_has_the_targets_status_and_words(results: Results, client: str, target: str) -> None:
    told, _ = results.of(client, target, "error")
    assert told == {"kind": "AI_APICallError", "status": 429, "message": MESSAGE}


@everyone
def test_a_stream_that_breaks_off_ends_with_an_error(results: Results, client: str, target: str) -> None:
    told, (heard,) = results.of(client, target, "broken stream")
    assert heard.said[-1] == ("user", BREAKS)
    assert told["pieces"] == ["H", "i"]
    assert told["failures"] == [MESSAGE]
    assert told["finishes"] in ([], ["error"])


def test_a_provider_that_has_its_messages_stored_is_told_how_to_go_on(results: Results) -> None:
    with pytest.raises(AssertionError, match="`store: false`.*item_reference"):
        results.of("storing responses", "openai", "turns")
