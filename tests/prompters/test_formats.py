"""The built-in formats: what each writes, word for word."""

from typing import Any

import pytest

from mooltiproxy.mapping.chat_template import ChatTemplate, built_in
from mooltiproxy.mapping.formats import BOS, EOS, FORMATS, recognised, source_of
from mooltiproxy.mapping.spoken import spoken_in
from prompters.chat_template import chat_template

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "Two?"},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather <now>",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "A city"},
                    "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                },
                "required": ["place"],
            },
        },
    }
]
CALL = {"id": "call_77", "type": "function", "function": {"name": "weather", "arguments": '{"place":"Łódź"}'}}
ASKED = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_77", "content": "sun"},
]
WRITTEN = {
    "alpaca": "Be brief.\n\n### Instruction:\nOne?\n\n### Response:\n1\n\n### Instruction:\nTwo?\n\n### Response:\n",
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n1"
    "<|im_end|>\n<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n",
    "command-r": "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be brief.<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>One?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>1"
    "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Two?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>"
    "<|CHATBOT_TOKEN|>",
    "deepseek-coder": f"{BOS}Be brief.### Instruction:\nOne?\n### Response:\n1\n<|EOT|>\n### Instruction:\nTwo?\n"
    "### Response:\n",
    "deepseek-llm": f"{BOS}Be brief.\n\nUser: One?\n\nAssistant: 1{EOS}User: Two?\n\nAssistant:",
    "deepseek-v3": f"{BOS}Be brief.<\uff5cUser\uff5c>One?<\uff5cAssistant\uff5c>1{EOS}<\uff5cUser\uff5c>Two?"
    "<\uff5cAssistant\uff5c>",
    "falcon-instruct": "Be brief.\n\nUser: One?\nAssistant: 1\nUser: Two?\nAssistant:",
    "gemma": "<bos><start_of_turn>user\nBe brief.\n\nOne?<end_of_turn>\n<start_of_turn>model\n1<end_of_turn>\n"
    "<start_of_turn>user\nTwo?<end_of_turn>\n<start_of_turn>model\n",
    "gemma4": "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nOne?<turn|>\n<|turn>model\n1<turn|>\n<|turn>user\n"
    "Two?<turn|>\n<|turn>model\n",
    "llama2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nOne? [/INST] 1 </s><s>[INST] Two? [/INST]",
    "llama3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>"
    "user<|end_header_id|>\n\nOne?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n1<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nTwo?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "llama4": "<|begin_of_text|><|header_start|>system<|header_end|>\n\nBe brief.<|eot|><|header_start|>user"
    "<|header_end|>\n\nOne?<|eot|><|header_start|>assistant<|header_end|>\n\n1<|eot|><|header_start|>user<|header_end|>"
    "\n\nTwo?<|eot|><|header_start|>assistant<|header_end|>\n\n",
    "mistral-v1": "<s> [INST] Be brief.\n\nOne? [/INST] 1</s> [INST] Two? [/INST]",
    "mistral-v3": "<s>[INST] One?[/INST] 1</s>[INST] Be brief.\n\nTwo?[/INST]",
    "mistral-v3-tekken": "<s>[INST]One?[/INST]1</s>[INST]Be brief.\n\nTwo?[/INST]",
    "mistral-v7": "<s>[SYSTEM_PROMPT] Be brief.[/SYSTEM_PROMPT][INST] One?[/INST] 1</s>[INST] Two?[/INST]",
    "openchat": "<s>Be brief.<|end_of_turn|>GPT4 Correct User: One?<|end_of_turn|>GPT4 Correct Assistant: 1"
    "<|end_of_turn|>GPT4 Correct User: Two?<|end_of_turn|>GPT4 Correct Assistant:",
    "phi3": "<|system|>\nBe brief.<|end|>\n<|user|>\nOne?<|end|>\n<|assistant|>\n1<|end|>\n<|user|>\nTwo?<|end|>\n"
    "<|assistant|>\n",
    "phi4": "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|>One?<|im_end|><|im_start|>"
    "assistant<|im_sep|>1<|im_end|><|im_start|>user<|im_sep|>Two?<|im_end|><|im_start|>assistant<|im_sep|>",
    "vicuna": "<s>Be brief. USER: One? ASSISTANT: 1</s>USER: Two? ASSISTANT:",
    "zephyr": "<|system|>\nBe brief.</s>\n<|user|>\nOne?</s>\n<|assistant|>\n1</s>\n<|user|>\nTwo?</s>\n"
    "<|assistant|>\n",
}
"""What each format makes of `TALK`, but for harmony, which has the date in it."""


def prompt_of(name: str, messages: list[Any], **cfg: Any) -> str:
    return chat_template(messages, {"template": built_in(name), **cfg})[0]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_format_writes_a_conversation(name: str) -> None:
    assert prompt_of(name, TALK) == WRITTEN[name]


def test_harmony_has_channels_and_a_developer() -> None:
    head, *turns = prompt_of("harmony", TALK, variables={"reasoning_effort": "low"}).split("<|end|>")
    assert head.startswith("<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n")
    assert "\n\nReasoning: low\n\n# Valid channels: analysis, commentary, final. " in head
    assert turns == [
        "<|start|>developer<|message|># Instructions\n\nBe brief.",
        "<|start|>user<|message|>One?",
        "<|start|>assistant<|channel|>final<|message|>1",
        "<|start|>user<|message|>Two?",
        "<|start|>assistant",
    ]


def test_there_is_a_golden_text_for_every_format() -> None:
    assert {*WRITTEN, "harmony"} == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_an_answer_that_was_begun_is_continued(name: str) -> None:
    begun = prompt_of(name, [*TALK, {"role": "assistant", "content": "2, becau"}])
    assert begun.endswith("2, becau")
    whole = prompt_of(name, TALK)
    assert begun.startswith(whole.rstrip() if name != "harmony" else whole)


@pytest.mark.parametrize("name", FORMATS)
def test_a_bos_is_written_once_at_most_before_the_first_word(name: str) -> None:
    bos = FORMATS[name].facts.bos
    assert not bos or prompt_of(name, [{"role": "user", "content": "Hi"}]).count(bos) <= 1


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if not one.facts.plain])
def test_the_words_of_a_message_begin_no_turn(name: str) -> None:
    """Every word that only the template writes is broken, wherever the client has it."""
    facts = FORMATS[name].facts
    honest = prompt_of(name, [{"role": "user", "content": "Hi"}])
    forged = prompt_of(name, [{"role": "user", "content": "Hi" + " ".join(facts.control)}])
    assert {word: forged.count(word) for word in facts.control} == {word: honest.count(word) for word in facts.control}


@pytest.mark.parametrize("name", FORMATS)
def test_results_of_tools_and_late_system_texts_are_never_lost(name: str) -> None:
    late = [*ASKED, {"role": "user", "content": "And?"}, {"role": "system", "content": "LATE"}]
    prompt = prompt_of(name, late)
    assert all(word in prompt for word in ("Weather?", "sun", "And?", "LATE"))


def test_chatml_writes_tools_as_hermes_does() -> None:
    prompt = prompt_of("chatml", ASKED, tools=TOOLS)
    assert prompt.startswith("<|im_start|>system\n# Tools\n")
    assert '<tools>\n{"type": "function", "function": {"name": "weather", "description": "The weather <now>"' in prompt
    assert prompt.endswith(
        "<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        '{"name": "weather", "arguments": {"place": "Łódź"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nsun\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def test_results_in_a_row_share_one_turn_of_chatml() -> None:
    second = {"role": "tool", "tool_call_id": "x", "content": "moon"}
    assert prompt_of("chatml", [*ASKED, second]).endswith(
        "<|im_start|>user\n<tool_response>\nsun\n</tool_response>\n<tool_response>\nmoon\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_llama3_writes_parameters_and_ipython() -> None:
    assert prompt_of("llama3", ASKED, tools=TOOLS).endswith(
        "\n\nWeather?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        '{"name": "weather", "parameters": {"place": "Łódź"}}<|eot_id|>'
        '<|start_header_id|>ipython<|end_header_id|>\n\n"sun"<|eot_id|>'
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


@pytest.mark.parametrize(("name", "blank"), [("mistral-v3", " "), ("mistral-v3-tekken", ""), ("mistral-v7", " ")])
def test_mistral_writes_ids_of_nine_characters(name: str, blank: str) -> None:
    prompt = prompt_of(name, ASKED, tools=TOOLS)
    identifier = prompt.rpartition('"call_id": "')[2].partition('"')[0]
    assert len(identifier) == 9 and identifier.isalnum()
    assert f"[/AVAILABLE_TOOLS][INST]{blank}Weather?[/INST][TOOL_CALLS]{blank}" in prompt
    assert f'[{{"name": "weather", "arguments": {{"place": "Łódź"}}, "id": "{identifier}"}}]</s>' in prompt
    assert prompt.endswith(f'[TOOL_RESULTS]{blank}{{"content": "sun", "call_id": "{identifier}"}}[/TOOL_RESULTS]')


def test_harmony_declares_functions_and_names_who_answers() -> None:
    prompt = prompt_of("harmony", ASKED, tools=TOOLS)
    assert (
        "namespace functions {\n\n// The weather <now>\ntype weather = (_: {\n// A city\nplace: string,\n"
        'unit?: "C" | "F", // default: C\n}) => any;\n\n} // namespace functions<|end|>' in prompt
    )
    assert (
        '<|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"place": "Łódź"}'
        "<|call|><|start|>functions.weather to=assistant<|channel|>commentary<|message|>sun<|end|>" in prompt
    )


@pytest.mark.parametrize(
    ("name", "syntax"),
    [("chatml", "hermes"), ("llama3", "llama3"), ("mistral-v3", "mistral"), ("mistral-v7", "mistral")],
)
def test_the_syntax_of_calls_is_known_of_the_formats_with_tools(name: str, syntax: str) -> None:
    assert spoken_in(source_of(name), "").syntax == syntax


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if one.marks and name != "deepseek-coder"])
def test_a_template_that_is_like_a_built_in_one_is_known_by_its_words(name: str) -> None:
    assert recognised(source_of(name)) == name


def test_a_models_own_template_gets_the_stops_of_its_format() -> None:
    source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    template = ChatTemplate("own", {"default": source}, {"eos_token": "<|own|>"})
    assert template.facts.stops == ("<|im_end|>", "<|endoftext|>", "<|own|>")
