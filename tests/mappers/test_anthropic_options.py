"""How much Claude may think, and what each version of it takes besides."""

from typing import Any

import pytest

from mappers.anthropic import messages
from mappers.anthropic.common import version_of
from mooltiproxy.mapping.dialect import Written
from mooltiproxy.mapping.neutral import (
    Reasoning,
    ReasoningOptions,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from mooltiproxy.mapping.signatures import ANTHROPIC, GEMINI, mark

BUDGETS, EITHER, ADAPTIVE = "claude-sonnet-4-5-20250929", "claude-opus-4-6", "claude-opus-4-7"


def write(model: str = "m1", *, config: dict[str, Any] | None = None, **fields: Any) -> Written:
    fields = {"turns": [Turn("user", [Text("Hi")])], **fields}
    return messages.write_request(Request(model=model, **fields), config or {})


def thinking(model: str = "m1", *, effort: str | None = None, budget: int | None = None, **fields: Any) -> Any:
    """The fields `thinking` and `output_config` of a request."""
    body = write(model, reasoning=ReasoningOptions(effort, budget), **fields).body
    return body.get("thinking"), body.get("output_config")


def enabled(budget: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": budget}


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-opus-4-7", (4, 7)),
        ("anthropic/claude-opus-4.7", (4, 7)),
        ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", (4, 5)),
        ("claude-sonnet-4-20250514", (4, 0)),
        ("claude-sonnet-5", (5, 0)),
        ("claude-3-7-sonnet-latest", (3, 7)),
        ("claude-2", (2, 0)),
        ("claude-latest", None),
        ("llama-3-8b", None),
        (None, None),
    ],
)
def test_a_models_name_tells_its_version(model: str | None, version: tuple[int, int] | None) -> None:
    assert version_of(model) == version


@pytest.mark.parametrize("model", ["m1", EITHER, ADAPTIVE])
@pytest.mark.parametrize(
    ("effort", "written"),
    [("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "xhigh"), ("max", "max")],
)
def test_an_effort_lets_the_model_choose_its_measure(model: str, effort: str, written: str) -> None:
    assert thinking(model, effort=effort) == ({"type": "adaptive"}, {"effort": written})


@pytest.mark.parametrize(
    ("effort", "budget"), [("minimal", 1024), ("low", 1024), ("medium", 8192), ("high", 24576), ("xhigh", 32768)]
)
def test_an_effort_is_a_budget_for_models_that_know_nothing_else(effort: str, budget: int) -> None:
    assert thinking(BUDGETS, effort=effort, sampling=Sampling(max_tokens=64000)) == (enabled(budget), None)


def test_the_greatest_effort_leaves_the_answer_its_room() -> None:
    assert thinking(BUDGETS, effort="max", sampling=Sampling(max_tokens=64000)) == (enabled(59904), None)
    assert thinking(BUDGETS, effort="max") == (enabled(32768), None)


@pytest.mark.parametrize("model", ["m1", EITHER, BUDGETS])
def test_a_budget_is_a_budget(model: str) -> None:
    assert thinking(model, budget=2000) == (enabled(2000), None)


@pytest.mark.parametrize(("budget", "effort"), [(500, "low"), (8192, "medium"), (30000, "high")])
def test_a_budget_is_an_effort_for_models_that_refuse_it(budget: int, effort: str) -> None:
    assert thinking(ADAPTIVE, budget=budget) == ({"type": "adaptive"}, {"effort": effort})


def test_a_budget_that_is_the_models_own_affair() -> None:
    assert thinking(budget=-1) == ({"type": "adaptive"}, None)
    assert thinking(BUDGETS, budget=-1) == (enabled(8192), None)


def test_a_budget_and_an_effort_are_both_told() -> None:
    assert thinking(EITHER, effort="low", budget=2000) == (enabled(2000), {"effort": "low"})


@pytest.mark.parametrize("options", [{"effort": "none"}, {"budget": 0}])
def test_no_thinking_at_all_is_said_where_there_is_a_word_for_it(options: Any) -> None:
    assert thinking("m1", **options) == ({"type": "disabled"}, None)
    assert thinking(ADAPTIVE, **options) == ({"type": "disabled"}, None)
    assert thinking(BUDGETS, **options) == (None, None)


def test_an_effort_that_nobody_knows_is_named() -> None:
    written = write(reasoning=ReasoningOptions("immense"))
    assert "thinking" not in written.body
    assert written.dropped == ("reasoning_effort",)


def test_too_small_a_budget_is_raised_and_named() -> None:
    written = write(reasoning=ReasoningOptions(budget=512))
    assert written.body["thinking"] == enabled(1024)
    assert written.dropped == ("clamped reasoning_effort 512->1024",)


def test_the_answer_gets_its_room_beside_the_budget() -> None:
    written = write(reasoning=ReasoningOptions(budget=2048), sampling=Sampling(max_tokens=1000))
    assert written.body["max_tokens"] == 3048
    assert written.dropped == ("clamped max_tokens 1000->3048",)


def test_room_that_nobody_asked_to_limit_is_made_unnamed() -> None:
    written = write(reasoning=ReasoningOptions(budget=8192))
    assert (written.body["max_tokens"], written.dropped) == (12288, ())


def test_thinking_is_left_out_where_the_model_has_no_room_for_it() -> None:
    sampling = Sampling(max_tokens=1000)
    written = write(config={"max_tokens": 4096}, reasoning=ReasoningOptions(budget=8192), sampling=sampling)
    assert (written.body["max_tokens"], written.dropped) == (1000, ("reasoning_effort",))


@pytest.mark.parametrize(("show", "display"), [(True, "summarized"), (False, "omitted")])
def test_whether_to_show_the_thoughts_is_said(show: bool, display: str) -> None:
    assert write(reasoning=ReasoningOptions("low", show=show)).body["thinking"]["display"] == display
    assert write(reasoning=ReasoningOptions(budget=1024, show=show)).body["thinking"]["display"] == display


def test_thinking_takes_no_sampling_of_its_own() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, top_k=40)
    written = write(reasoning=ReasoningOptions("low"), sampling=sampling)
    assert not written.body.keys() & {"temperature", "top_p", "top_k"}
    assert written.dropped == ("temperature", "top_p", "top_k")


def test_thinking_takes_the_sampling_that_it_has_anyway() -> None:
    written = write(reasoning=ReasoningOptions("low"), sampling=Sampling(temperature=1, top_p=0.98))
    assert (written.body["temperature"], written.body["top_p"], written.dropped) == (1, 0.98, ())


def test_a_call_that_is_forced_counts_more_than_thinking() -> None:
    written = write(reasoning=ReasoningOptions("low"), tools=[Tool("get")], tool_choice=ToolChoice("required"))
    assert written.body["tool_choice"] == {"type": "any"}
    assert "thinking" not in written.body
    assert written.dropped == ("reasoning_effort",)


OWN, FOREIGN = Reasoning("Hm.", mark(ANTHROPIC, "c2ln")), Reasoning("Hm.", mark(GEMINI, "c2ln"))


@pytest.mark.parametrize(("thought", "thinks"), [(OWN, True), (FOREIGN, False), (Reasoning("Hm."), False)])
def test_a_budget_behind_a_call_needs_the_thoughts_that_led_to_it(thought: Reasoning, thinks: bool) -> None:
    turns = [
        Turn("user", [Text("Hi")]),
        Turn("assistant", [thought, ToolCall("a", "get", "{}")]),
        Turn("tool", [ToolResult("a", [Text("1")])]),
    ]
    written = write(reasoning=ReasoningOptions(budget=1024), tools=[Tool("get")], turns=turns)
    assert ("thinking" in written.body, "reasoning_effort" in written.dropped) == (thinks, not thinks)


def test_models_that_refuse_sampling_are_sent_none() -> None:
    written = write(ADAPTIVE, sampling=Sampling(temperature=0.5, top_p=0.9, top_k=40))
    assert not written.body.keys() & {"temperature", "top_p", "top_k"}
    assert written.dropped == ("temperature", "top_p", "top_k")


def test_models_that_take_temperature_or_top_p_are_sent_one() -> None:
    written = write(BUDGETS, sampling=Sampling(temperature=0.5, top_p=0.9))
    assert ("top_p" in written.body, written.dropped) == (False, ("top_p",))
    assert write(BUDGETS, sampling=Sampling(top_p=0.9)).body["top_p"] == 0.9
    assert write("claude-3-5-haiku-latest", sampling=Sampling(temperature=0.5, top_p=0.9)).dropped == ()


def test_stops_of_nothing_but_whitespace_are_ours_to_cut_at() -> None:
    written = write(sampling=Sampling(stop=("\n", "END")))
    assert (written.body["stop_sequences"], written.dropped) == (["END"], ())
    assert "stop_sequences" not in write(sampling=Sampling(stop=("\n\n",))).body
