from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappers import tgi
from mappers.tgi import answers, info, reading, stream, writing
from mooltiproxy.errors import BadRequest, NotFound, UpstreamBroken, UpstreamError
from mooltiproxy.mapping.gather import answer_of, stream_of
from mooltiproxy.mapping.neutral import (
    NOWHERE,
    Answer,
    Choice,
    CountAnswer,
    Failure,
    Finish,
    Image,
    ModelInfo,
    ModelsAnswer,
    ModelsRequest,
    OutputFormat,
    ReasoningOptions,
    Refusal,
    Request,
    Sampling,
    StreamEvent,
    Text,
    TextDelta,
    TokenProbability,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    Usage,
    UsageReport,
)

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def parameters(**fields: Any) -> dict[str, Any]:
    request = Request(prompt="x", sampling=Sampling(**fields))
    body = writing.write_text_request(request, {}).body
    assert isinstance(body["parameters"], dict)
    return body["parameters"]


def dropped(**fields: Any) -> tuple[str, ...]:
    return writing.write_text_request(Request(prompt="x", sampling=Sampling(**fields)), {}).dropped


def refused(request: Request) -> str | None:
    with pytest.raises(BadRequest) as caught:
        writing.write_text_request(request, {})
    return caught.value.param


def talk(*turns: Turn, **config: Any) -> dict[str, Any]:
    return writing.write_chat_request(Request(turns=list(turns)), config).body


HELLO = Turn("user", [Text("Hello")])


def test_a_prompt_is_sent_with_details_and_without_itself_in_the_answer() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, max_tokens=64, stop=("END",), seed=7)
    assert writing.write_text_request(Request(prompt="Say hi", sampling=sampling), {}).body == {
        "inputs": "Say hi",
        "parameters": {
            "do_sample": True,
            "temperature": 0.5,
            "top_p": 0.9,
            "max_new_tokens": 64,
            "stop": ["END"],
            "seed": 7,
            "details": True,
            "return_full_text": False,
        },
    }


def test_a_model_that_a_client_names_is_for_targets_that_have_several() -> None:
    request = reading.read_request({"inputs": "x", "model": "m1"})
    assert (request.model, request.extra) == ("m1", {})
    assert "model" not in writing.write_text_request(request, {}).body


def test_nothing_said_is_sampling_said() -> None:
    assert parameters() == {"do_sample": True, "details": True, "return_full_text": False}


def test_a_temperature_of_zero_becomes_greedy() -> None:
    sent = parameters(temperature=0, top_p=0.5, top_k=5, typical_p=0.5)
    assert sent == {"do_sample": False, "details": True, "return_full_text": False}


@pytest.mark.parametrize("name", ["top_p", "typical_p"])
@pytest.mark.parametrize(("value", "sent"), [(1, None), (1.0, None), (0, 0.01), (0.5, 0.5)])
def test_shares_are_held_between_zero_and_one(name: str, value: float, sent: float | None) -> None:
    assert parameters(**{name: value}).get(name) == sent


@pytest.mark.parametrize(("value", "sent"), [(0, None), (-1, None), (1, 1)])
def test_a_top_k_that_is_off_is_left_out(value: int, sent: int | None) -> None:
    assert parameters(top_k=value).get("top_k") == sent


def test_a_negative_seed_is_dropped_by_name() -> None:
    assert "seed" not in parameters(seed=-1)
    assert dropped(seed=-1) == ("seed",)


def test_penalties_are_passed_or_dropped_by_name() -> None:
    sent = parameters(frequency_penalty=0.5, presence_penalty=0.5, repetition_penalty=1.1, logit_bias={"1": 2})
    assert (sent["frequency_penalty"], sent["repetition_penalty"]) == (0.5, 1.1)
    assert dropped(presence_penalty=0.5, logit_bias={"1": 2}, min_p=0.1) == ("min_p", "presence_penalty", "logit_bias")


def test_neutral_values_are_no_loss() -> None:
    assert dropped(presence_penalty=0, logit_bias={}, min_p=0) == ()
    assert "frequency_penalty" not in parameters(frequency_penalty=0)


def test_at_most_four_stops_are_sent_the_clients_first() -> None:
    request = Request(turns=[HELLO], sampling=Sampling(stop=("a", "b", "c")))
    body = writing.write_chat_request(request, {"render": lambda messages: ("p", ["b", "d", "E"])}).body
    assert body["parameters"]["stop"] == ["a", "b", "c", "d"]
    assert answers.read_chat_answer({"generated_text": "one E two"}, request).choices == [
        Choice([Text("one ")], "stop")
    ]


def test_best_of_needs_sampling_and_no_seed() -> None:
    assert parameters(best_of=3)["best_of"] == 3
    assert "best_of" not in parameters(best_of=3, temperature=0)
    assert "seed" not in parameters(best_of=3, seed=1)
    assert dropped(best_of=3, seed=1) == ("seed",)
    assert "best_of" not in parameters(best_of=1)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (Request(prompt="x", sampling=Sampling(n=2)), "n"),
        (Request(prompt="x", echo=True, sampling=Sampling(logprobs=True)), "logprobs"),
        (Request(prompt="x", sampling=Sampling(max_tokens=0)), "max_tokens"),
        (Request(prompt="x", sampling=Sampling(best_of=2), stream=True), "best_of"),
        (Request(prompt="x", sampling=Sampling(repetition_penalty=0)), "repetition_penalty"),
        (Request(prompt="x", tools=[Tool("a")]), "tools"),
        (Request(prompt="x", suffix="y"), "suffix"),
        (Request(prompt="x", output=OutputFormat("json")), "response_format"),
        (Request(prompt="x", output=OutputFormat("schema", {"type": "array"})), "response_format"),
        (Request(prompt="x", output=OutputFormat("grammar", "root ::= x")), "response_format"),
        (Request(turns=[HELLO]), "messages"),
    ],
)
def test_what_would_change_the_answer_unseen_is_refused(request_: Request, param: str) -> None:
    assert refused(request_) == param


def test_one_answer_is_no_demand() -> None:
    assert writing.write_text_request(Request(prompt="x", sampling=Sampling(n=1)), {}).dropped == ()


def test_tools_that_must_not_be_called_are_dropped() -> None:
    request = Request(prompt="x", tools=[Tool("a")], tool_choice=ToolChoice("none"))
    assert writing.write_text_request(request, {}).dropped == ("tools",)


def test_hints_are_dropped_by_name() -> None:
    request = Request(prompt="x", reasoning=ReasoningOptions("low"), user="ann", extra={"metadata": {}})
    assert writing.write_text_request(request, {}).dropped == ("metadata", "reasoning_effort", "user")


@pytest.mark.parametrize(
    ("output", "grammar"),
    [
        (OutputFormat("schema", SCHEMA, "w", True), {"type": "json", "value": SCHEMA}),
        (OutputFormat("regex", "a+"), {"type": "regex", "value": "a+"}),
    ],
)
def test_a_format_becomes_a_grammar(output: OutputFormat, grammar: dict[str, Any]) -> None:
    body = writing.write_text_request(Request(prompt="x", output=output), {}).body
    assert body["parameters"]["grammar"] == grammar


def test_a_conversation_is_rendered_by_the_prompter() -> None:
    seen: list[Any] = []

    def render(messages: list[dict[str, Any]]) -> tuple[str, list[str]]:
        seen.extend(messages)
        return "PROMPT", ["STOP"]

    body = talk(Turn("system", [Text("Be brief.")]), HELLO, render=render)
    assert seen == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert (body["inputs"], body["parameters"]["stop"]) == ("PROMPT", ["STOP"])


def test_without_a_prompter_the_pieces_of_the_template_are_used() -> None:
    body = talk(Turn("system", [Text("S")]), HELLO, template={"user": "<U>", "assistant": "<A>"})
    assert (body["inputs"], body["parameters"]["stop"]) == ("S<U>Hello<A>", ["<U>"])
    assert talk(Turn("system", [Text("S")]), HELLO)["inputs"] == "S\n### HUMAN:\nHello\n### RESPONSE:\n"


@pytest.mark.parametrize("bos", ["<s>", "<|begin_of_text|>", "<bos>"])
def test_a_leading_bos_is_cut_once(bos: str) -> None:
    assert talk(HELLO, render=lambda _: (f"{bos}{bos}x{bos}y", []))["inputs"] == f"{bos}x{bos}y"


def test_a_clients_own_prompt_is_not_touched() -> None:
    assert writing.write_text_request(Request(prompt="<s>x"), {}).body["inputs"] == "<s>x"


def test_images_have_no_place_in_a_prompt() -> None:
    with pytest.raises(BadRequest) as caught:
        talk(Turn("user", [Text("Look"), Image(url="https://example.com/a.png")]))
    assert caught.value.param == "messages"


def test_results_of_tools_become_text_and_the_calls_are_named() -> None:
    turns = [
        HELLO,
        Turn("assistant", [ToolCall("c", "a", "{}")]),
        Turn("tool", [ToolResult("c", [Text("sunny")])]),
    ]
    written = writing.write_chat_request(Request(turns=turns), {})
    assert "Hello\n\nsunny" in written.body["inputs"]
    assert written.dropped == ("messages.tool_calls",)


def test_the_names_of_those_who_speak_are_dropped_by_name() -> None:
    named = Turn("user", [Text("Hello")], name="ann")
    assert writing.write_chat_request(Request(turns=[named, named]), {}).dropped == ("messages.name",)


def test_what_a_model_declined_stays_in_the_prompt() -> None:
    prompt = talk(HELLO, Turn("assistant", [Text("Well. "), Refusal("I must not.")]), HELLO)["inputs"]
    assert "Well. I must not." in prompt


def generated(text: str, **details: Any) -> dict[str, Any]:
    known = {"finish_reason": "eos_token", "generated_tokens": 3, "prefill": []}
    return {"generated_text": text, "details": {**known, **details}}


def test_an_answer_is_read() -> None:
    answer = answers.read_text_answer(generated("Hi there"), Request())
    assert answer == Answer([Choice([Text("Hi there")], "stop")], Usage(prompt=None, answer=3))


def test_the_prompts_tokens_are_counted_where_they_are_told() -> None:
    assert answers.read_text_answer(generated("Hi", prefill=[{}] * 5), Request()).usage == Usage(5, 3)
    assert answers.read_text_answer(generated("Hi", input_length=5), Request()).usage == Usage(5, 3)


def test_the_stop_that_ended_the_answer_is_cut() -> None:
    request = Request(sampling=Sampling(stop=("END",)), template_stops=("### HUMAN:",))
    answer = answers.read_text_answer(generated("Hi END", finish_reason="stop_sequence"), request)
    assert answer.choices == [Choice([Text("Hi ")], "stop", "END")]


def test_a_stop_that_the_server_missed_is_cut_and_ends_the_answer() -> None:
    request = Request(template_stops=("\n### HUMAN:", "### HUMAN:"))
    answer = answers.read_text_answer(generated("Hi\n### HUMAN: and you\n### HUMAN:", finish_reason="length"), request)
    assert answer.choices == [Choice([Text("Hi")], "stop", None)]


@pytest.mark.parametrize(
    ("word", "finish"), [("length", "length"), ("eos_token", "stop"), ("stop_sequence", "stop"), ("new_word", "stop")]
)
def test_finish_reasons_are_read(word: str, finish: str) -> None:
    assert answers.read_text_answer(generated("Hi", finish_reason=word), Request()).choices[0].finish == finish


def test_only_a_conversation_loses_leading_whitespace() -> None:
    assert answers.read_chat_answer(generated(" \n Hi "), Request()).choices[0].parts == [Text("Hi ")]
    assert answers.read_text_answer(generated(" \n Hi "), Request()).choices[0].parts == [Text(" \n Hi ")]


def test_an_array_is_read() -> None:
    assert answers.read_text_answer([{"generated_text": "Hi"}], Request()).choices == [Choice([Text("Hi")], "stop")]


def test_the_prompt_is_repeated_where_the_client_wants_it() -> None:
    request = Request(prompt="Say: ", echo=True)
    assert answers.read_text_answer(generated("Hi"), request).choices[0].parts == [Text("Say: Hi")]
    events = read([token("Hi"), last("", "Hi")], request)
    assert events[0] == TextDelta("Say: Hi")


@pytest.mark.parametrize("body", [{}, [], "text", {"generated_text": None}, None])
def test_an_answer_without_a_text_is_the_targets_fault(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        answers.read_text_answer(body, Request())


def test_an_error_with_status_200_is_an_error() -> None:
    with pytest.raises(UpstreamError) as caught:
        answers.read_text_answer({"error": "Model is overloaded", "error_type": "overloaded"}, Request())
    assert caught.value.status == 429


def token(text: str, *, special: bool = False) -> dict[str, Any]:
    return {
        "index": 1,
        "token": {"id": 1, "text": text, "logprob": -0.1, "special": special},
        "generated_text": None,
        "details": None,
    }


def last(text: str, whole: str, finish: str = "eos_token", *, special: bool = False) -> dict[str, Any]:
    details = {"finish_reason": finish, "generated_tokens": 3, "seed": None, "input_length": 12}
    return {**token(text, special=special), "generated_text": whole, "details": details}


def read(events: Sequence[Any], request: Request | None = None, *, chat: bool = False) -> list[StreamEvent]:
    reader = (stream.chat_reader if chat else stream.text_reader)(request or Request())
    return [*(neutral for event in events for neutral in reader.read(event)), *reader.end()]


def test_a_stream_is_read_without_its_special_tokens() -> None:
    events = read([token("Hi"), token(" there"), last("</s>", "Hi there", special=True)])
    assert events == [TextDelta("Hi"), TextDelta(" there"), Finish("stop"), UsageReport(Usage(12, 3))]


def test_the_last_token_of_a_cut_answer_is_text() -> None:
    assert read([token("Hi"), last(" th", "Hi th", "length")])[1:3] == [TextDelta(" th"), Finish("length")]


def test_a_stop_over_several_tokens_never_shows() -> None:
    request = Request(template_stops=("\n### HUMAN:",))
    events = read([token("Hi"), token("\n"), token("###"), last(" HUMAN:", "Hi\n### HUMAN:", "stop_sequence")], request)
    assert events == [TextDelta("Hi"), Finish("stop"), UsageReport(Usage(12, 3))]


def test_a_stop_that_the_server_missed_ends_the_stream() -> None:
    reader = stream.text_reader(Request(sampling=Sampling(stop=("\n",))))
    assert reader.read(token("Hi")) == [TextDelta("Hi")]
    assert reader.read(token("\n\nx")) == [Finish("stop", "\n")]
    assert reader.done
    assert reader.read(token("more")) == []
    assert reader.end() == []


def test_what_was_held_back_in_vain_comes_at_the_end() -> None:
    request = Request(sampling=Sampling(stop=("END",)))
    assert read([token("Hi E"), last("N", "Hi EN")], request)[:3] == [TextDelta("Hi "), TextDelta("EN"), Finish("stop")]


def test_leading_whitespace_goes_from_the_stream_of_a_conversation() -> None:
    events = read([token(" "), token("\n"), token(" Hi"), token(" you"), last("", "")], chat=True)
    assert events[:2] == [TextDelta("Hi"), TextDelta(" you")]


@pytest.mark.parametrize(
    ("kind", "status"), [("validation", 422), ("overloaded", 429), ("generation", 424), ("incomplete_generation", 500)]
)
def test_an_error_event_is_a_failure_with_its_status(kind: str, status: int) -> None:
    events = read([token("Hi"), {"error": "broken", "error_type": kind}])
    assert events == [TextDelta("Hi"), Failure("broken", status)]


def test_a_stream_without_an_end_is_a_failure() -> None:
    assert isinstance(read([token("Hi")])[-1], Failure)
    assert isinstance(read([])[-1], Failure)


def test_a_last_event_without_details_is_an_end() -> None:
    event = {**last("", "Hi"), "details": None}
    assert read([token("Hi"), event]) == [TextDelta("Hi"), Finish("stop")]


texts = st.text("ab \n#", max_size=10)


@given(texts, st.lists(st.text("ab\n#", min_size=1, max_size=3), max_size=2), st.integers(1, 4), st.booleans())
def test_a_stream_says_what_the_whole_answer_says(text: str, stops: list[str], size: int, chat: bool) -> None:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    request = Request(sampling=Sampling(stop=tuple(stops)))
    streamed = answer_of(read([*map(token, pieces), last("</s>", text, special=True)], request, chat=chat))
    whole = (answers.read_chat_answer if chat else answers.read_text_answer)(generated(text), request)
    assert streamed.choices == whole.choices


def with_logprobs(pieces: Sequence[str]) -> list[dict[str, Any]]:
    """Tokens with a probability each, and the likeliest at their places."""
    return [
        {"id": at, "text": piece, "logprob": -at / 4, "special": False, "top": [{"text": piece, "logprob": -at / 4}]}
        for at, piece in enumerate(pieces)
    ]


def probable_details(tokens: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The details of a whole answer of these tokens."""
    return {"tokens": [*tokens, {"text": "</s>", "special": True}], "top_tokens": [token["top"] for token in tokens]}


@given(texts, st.lists(st.text("ab\n#", min_size=1, max_size=3), max_size=2), st.integers(1, 4), st.booleans())
def test_a_stream_tells_the_log_probabilities_that_the_whole_answer_tells(
    text: str, stops: list[str], size: int, chat: bool
) -> None:
    tokens = with_logprobs([text[at : at + size] for at in range(0, len(text), size)])
    request = Request(sampling=Sampling(stop=tuple(stops), logprobs=True, top_logprobs=1))
    events = [{**token(one["text"]), "token": one, "top_tokens": one["top"]} for one in tokens]
    streamed = answer_of(read([*events, last("</s>", text, special=True)], request, chat=chat))
    reading_of = answers.read_chat_answer if chat else answers.read_text_answer
    whole = reading_of(generated(text, **probable_details(tokens)), request)
    assert streamed.choices == whole.choices
    told = "".join(one.text for one in whole.choices[0].logprobs or ())
    said = "".join(part.text for part in whole.choices[0].parts if isinstance(part, Text))
    assert said in told


def test_log_probabilities_are_told_where_they_are_asked_for() -> None:
    body = generated("Hi", **probable_details(with_logprobs(["H", "i"])))
    assert answers.read_text_answer(body, Request()).choices[0].logprobs is None
    asked = Request(sampling=Sampling(logprobs=True))
    assert answers.read_text_answer(body, asked).choices[0].logprobs == [
        TokenProbability("H", 0.0, (("H", 0.0),)),
        TokenProbability("i", -0.25, (("i", -0.25),)),
    ]
    assert answers.read_text_answer(generated("Hi"), asked).choices[0].logprobs is None


@pytest.mark.parametrize(
    ("top", "sent", "entries"),
    [(None, None, ()), (0, None, ()), (3, 3, ()), (20, 5, ("clamped top_logprobs 20->5",))],
)
def test_alternatives_are_asked_for_as_many_as_a_server_tells(
    top: int | None, sent: int | None, entries: tuple[str, ...]
) -> None:
    assert parameters(logprobs=True, top_logprobs=top).get("top_n_tokens") == sent
    assert dropped(logprobs=True, top_logprobs=top) == entries


def test_a_client_request_is_read() -> None:
    request = reading.read_request(
        {
            "inputs": "Say hi",
            "parameters": {
                "do_sample": True,
                "temperature": 0.5,
                "max_new_tokens": 64,
                "stop": ["END"],
                "details": True,
                "return_full_text": True,
                "grammar": {"type": "json", "value": SCHEMA},
                "watermark": False,
                "truncate": 100,
            },
        }
    )
    assert request == Request(
        prompt="Say hi",
        repeats={"inputs": "Say hi"},
        sampling=Sampling(temperature=0.5, max_tokens=64, stop=("END",)),
        output=OutputFormat("schema", SCHEMA),
        include_usage=True,
        extra={"parameters.truncate": 100},
    )


@pytest.mark.parametrize(
    ("fields", "temperature"),
    [
        ({}, 0),
        ({"temperature": 1.0}, 0),
        ({"do_sample": True}, None),
        ({"do_sample": False, "top_k": 5}, None),
        ({"temperature": 0.7}, 0.7),
    ],
)
def test_greedy_is_read_as_the_server_reads_it(fields: dict[str, Any], temperature: float | None) -> None:
    assert reading.read_request({"inputs": "x", "parameters": fields}).sampling.temperature == temperature
    assert reading.read_request({"inputs": "x"}).sampling.temperature is None


@pytest.mark.parametrize(
    ("grammar", "output"),
    [
        ({"type": "regex", "value": "a+"}, OutputFormat("regex", "a+")),
        ({"type": "json_schema", "value": {"name": "w", "schema": SCHEMA}}, OutputFormat("schema", SCHEMA, "w")),
    ],
)
def test_grammars_are_read(grammar: dict[str, Any], output: OutputFormat) -> None:
    assert reading.read_request({"inputs": "x", "parameters": {"grammar": grammar}}).output == output


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "inputs"),
        ({"inputs": 5}, "inputs"),
        ({"inputs": "x", "parameters": {"max_new_tokens": 0}}, "parameters.max_new_tokens"),
        ({"inputs": "x", "parameters": {"grammar": {"type": "xml"}}}, "parameters.grammar.type"),
    ],
)
def test_a_field_that_cannot_be_read_is_named(body: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        reading.read_request(body)
    assert caught.value.param == param


def test_an_answer_is_written_for_a_client() -> None:
    answer = Answer([Choice([Text("Hi ")], "stop", "END")], Usage(12, 3))
    assert answers.write_answer(answer, Request()) == {"generated_text": "Hi END"}
    assert answers.write_answer(answer, Request(include_usage=True))["details"] == {
        "finish_reason": "stop_sequence",
        "generated_tokens": 3,
        "seed": None,
        "prefill": [],
        "tokens": [],
    }


def test_a_stream_is_written_for_a_client_and_read_again() -> None:
    answer = Answer([Choice([Text("Hi there")], "length")], Usage(12, 3))
    writer = stream.Writer(Request(include_usage=True))
    events = [*writer.write(stream_of(answer)), *writer.end()]
    assert [event["index"] for event in events] == [1, 2]
    assert events[-1]["generated_text"] == "Hi there"
    assert events[-1]["token"]["special"] is True
    assert answer_of(read(events)) == answer


def test_an_unfinished_stream_is_never_closed_as_if_it_were_whole() -> None:
    with pytest.raises(UpstreamBroken):
        stream.Writer(Request()).end()


def test_the_path_that_streams_always_streams() -> None:
    assert tgi.stream_endpoint.read_request({"inputs": "x"}, NOWHERE).stream
    assert not tgi.text_endpoint.read_request({"inputs": "x"}, NOWHERE).stream


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Say: Hi"),
        ({"parameters": {"details": False}}, "Say: Hi"),
        ({"parameters": {"return_full_text": None}}, "Say: Hi"),
        ({"parameters": {"return_full_text": False}}, "Hi"),
    ],
)
def test_the_root_path_answers_in_a_list_and_with_the_prompt_unless_told_otherwise(
    body: dict[str, Any], text: str
) -> None:
    request = tgi.root_endpoint.read_request({"inputs": "Say: ", **body}, NOWHERE)
    answer = Answer([Choice([Text("Hi")], "stop")])
    assert tgi.root_endpoint.write_answer(answer, request) == [{"generated_text": text}]
    assert not request.extra


@pytest.mark.parametrize(("wanted", "text"), [(None, "Hi"), (False, "Hi"), (True, "Say: Hi")])
def test_other_paths_answer_with_the_prompt_only_if_told_to(wanted: bool | None, text: str) -> None:
    request = reading.read_request({"inputs": "Say: ", "parameters": {"return_full_text": wanted}})
    assert answers.write_answer(Answer([Choice([Text("Hi")], "stop")]), request) == {"generated_text": text}


def test_a_stream_has_the_prompt_in_its_whole_text_only() -> None:
    request = reading.read_root_request({"inputs": "Say: ", "stream": True})
    writer = stream.Writer(request)
    events = [*writer.write([TextDelta("Hi"), Finish("stop")]), *writer.end()]
    assert [event["token"]["text"] for event in events] == ["Hi", ""]
    assert events[-1]["generated_text"] == "Say: Hi"


def test_the_prompt_in_the_answer_is_no_matter_of_the_target() -> None:
    request = reading.read_root_request({"inputs": "Say: "})
    assert writing.write_text_request(request, {}).body["parameters"]["return_full_text"] is False
    assert answers.read_text_answer([{"generated_text": "Hi"}], request).choices[0].parts == [Text("Hi")]


def test_an_error_has_the_servers_form() -> None:
    assert tgi.write_error(BadRequest("no"), "r") == {"error": "no", "error_type": "validation"}
    assert tgi.write_error(UpstreamBroken("no"), "r")["error_type"] == "incomplete_generation"


def test_a_servers_model_is_read_under_the_name_that_was_asked_for() -> None:
    told = {"model_id": "vendor/m", "max_input_tokens": 1023, "max_total_tokens": 1024, "version": "3.3.6"}
    known = ModelInfo("vendor/m", context=1024, capabilities=("completion",))
    assert info.read_answer(told, ModelsRequest()) == ModelsAnswer([known])
    (named,) = info.read_answer(told, ModelsRequest("m")).models
    assert (named.id, named.context) == ("m", 1024)


@pytest.mark.parametrize("body", [[], {}, {"model_id": None}, {"error": "it died", "error_type": "overloaded"}])
def test_what_tells_no_model_is_the_targets_fault(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        info.read_answer(body, ModelsRequest())


def test_the_first_model_of_a_target_is_told_with_its_limits() -> None:
    several = ModelsAnswer([ModelInfo("m1", context=4096), ModelInfo("m2")])
    told = info.write_answer(several, ModelsRequest())
    assert (told["model_id"], told["max_input_tokens"], told["max_total_tokens"]) == ("m1", 4095, 4096)
    assert (told["version"], told["max_stop_sequences"]) == (info.VERSION, 4)


def test_limits_that_nobody_told_are_left_out() -> None:
    told = info.write_answer(ModelsAnswer([ModelInfo("m1")]), ModelsRequest())
    assert not {"max_input_tokens", "max_total_tokens"} & told.keys()


def test_a_target_without_models_has_none_to_tell() -> None:
    with pytest.raises(NotFound):
        info.write_answer(ModelsAnswer([]), ModelsRequest())


def test_tokens_are_counted_by_tokenizing_the_prompt_of_the_conversation() -> None:
    asked = Request(turns=[Turn("user", [Text("Hi")])], tools=[Tool("get")])
    render = {"render": lambda messages: (f"<s>[{messages[0]['content']}]", ["x"])}
    written = tgi.count_endpoint.write_request(asked, render)
    assert (written.body, written.dropped) == ({"inputs": "[Hi]"}, ("tools",))
    assert tgi.count_endpoint.read_answer([{"id": 1, "text": "H", "start": 0, "stop": 1}] * 3, asked) == CountAnswer(3)
