"""The built-in prompt formats: what is known of each besides how it is written, which is in `prompters/templates/`.

The facts serve a model's own template too, where it can be told which of the formats it writes: by a word that only
that format has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILE = "{}.jinja"

BOS = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
EOS = "<\uff5cend\u2581of\u2581sentence\uff5c>"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a format means. `bos` and `eos` are texts that its template may write.

    `stops` are the strings at which an answer ends. `control` are the strings that only the template should write: a
    message that holds one could begin another turn. `plain` says that the roles are ordinary words, so that nothing
    can keep a message from forging them. `alternates`: two turns of one role in a row are not allowed.
    `one_system`: only the first message may be the system's. How its model writes tool calls and thoughts is read from
    the template, by mapping/spoken.
    """

    bos: str = ""
    eos: str = ""
    stops: tuple[str, ...] = ()
    control: tuple[str, ...] = ()
    plain: bool = False
    alternates: bool = False
    one_system: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    """A built-in format: one line about it, its facts, and the words by which a template of its kind is known."""

    doc: str
    facts: Facts = field(default_factory=Facts)
    marks: tuple[str, ...] = ()


_INST = ("[INST]", "[/INST]", "<s>", "</s>")
_MISTRAL_TOOLS = ("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]")


def _mistral(control: tuple[str, ...] = (), *, one_system: bool = True) -> Facts:
    return Facts("<s>", "</s>", ("</s>",), (*_INST, *control), False, True, one_system)


FORMATS: Mapping[str, Format] = {
    "alpaca": Format(
        "Alpaca: ### Instruction: and ### Response: (plain words)",
        Facts("<s>", "</s>", ("### Instruction:", "</s>"), ("</s>",), plain=True, alternates=True, one_system=True),
        ("### Instruction:",),
    ),
    "chatml": Format(
        "ChatML: Qwen, Yi, Hermes, SmolLM; tools as Hermes has them",
        Facts("", "<|im_end|>", ("<|im_end|>", "<|endoftext|>"), ("<|im_start|>", "<|im_end|>", "<|endoftext|>")),
        ("<|im_start|>",),
    ),
    "command-r": Format(
        "Command R and R+ (conversations only)",
        Facts(
            "<BOS_TOKEN>",
            "<|END_OF_TURN_TOKEN|>",
            ("<|END_OF_TURN_TOKEN|>",),
            (
                "<BOS_TOKEN>",
                "<|START_OF_TURN_TOKEN|>",
                "<|END_OF_TURN_TOKEN|>",
                "<|SYSTEM_TOKEN|>",
                "<|USER_TOKEN|>",
                "<|CHATBOT_TOKEN|>",
            ),
        ),
        ("<|START_OF_TURN_TOKEN|>",),
    ),
    "deepseek-coder": Format(
        "DeepSeek Coder, the first one (plain words)",
        Facts(BOS, "<|EOT|>", ("<|EOT|>",), (BOS, "<|EOT|>"), plain=True, alternates=True, one_system=True),
        ("<|EOT|>",),
    ),
    "deepseek-llm": Format(
        "DeepSeek LLM, V2, Coder V2 (plain words)",
        Facts(BOS, EOS, (EOS,), (BOS, EOS), plain=True, alternates=True, one_system=True),
    ),
    "deepseek-v3": Format(
        "DeepSeek V3 (conversations only)",
        Facts(
            BOS,
            EOS,
            (EOS,),
            (BOS, EOS, "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"),
            alternates=True,
            one_system=True,
        ),
        ("<\uff5cAssistant\uff5c>",),
    ),
    "falcon-instruct": Format(
        "Falcon 7B and 40B Instruct: User: and Assistant: (plain words)",
        Facts(
            "",
            "<|endoftext|>",
            ("\nUser:", "User:", "<|endoftext|>"),
            ("<|endoftext|>",),
            plain=True,
            alternates=True,
            one_system=True,
        ),
    ),
    "gemma": Format(
        "Gemma 1 to 3",
        Facts(
            "<bos>",
            "<eos>",
            ("<end_of_turn>", "<eos>"),
            ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
            alternates=True,
            one_system=True,
        ),
        ("<start_of_turn>",),
    ),
    "gemma4": Format(
        "Gemma 4 (conversations only)",
        Facts(
            "<bos>",
            "<eos>",
            ("<turn|>", "<eos>"),
            ("<bos>", "<eos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>"),
        ),
        ("<|turn>",),
    ),
    "harmony": Format(
        "Harmony, for gpt-oss, with tools and channels",
        Facts(
            "",
            "<|return|>",
            ("<|return|>", "<|call|>"),
            ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>", "<|call|>"),
        ),
        ("<|channel|>",),
    ),
    "llama2": Format(
        "Llama 2 chat: [INST], with the system text in the first question",
        Facts("<s>", "</s>", ("</s>",), (*_INST, "<<SYS>>", "<</SYS>>"), alternates=True, one_system=True),
        ("<<SYS>>",),
    ),
    "llama3": Format(
        "Llama 3; tools as since 3.1",
        Facts(
            "<|begin_of_text|>",
            "<|eot_id|>",
            ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
            (
                "<|begin_of_text|>",
                "<|end_of_text|>",
                "<|start_header_id|>",
                "<|end_header_id|>",
                "<|eot_id|>",
                "<|eom_id|>",
                "<|python_tag|>",
            ),
        ),
        ("<|start_header_id|>",),
    ),
    "llama4": Format(
        "Llama 4 (conversations only)",
        Facts(
            "<|begin_of_text|>",
            "<|eot|>",
            ("<|eot|>", "<|end_of_text|>", "<|eom|>"),
            (
                "<|begin_of_text|>",
                "<|end_of_text|>",
                "<|header_start|>",
                "<|header_end|>",
                "<|eot|>",
                "<|eom|>",
                "<|python_start|>",
                "<|python_end|>",
            ),
        ),
        ("<|header_start|>",),
    ),
    "mistral-v1": Format("Mistral 7B Instruct 0.1 and 0.2, Mixtral 8x7B", _mistral(), ("[INST]",)),
    "mistral-v3": Format("Mistral 7B Instruct 0.3, 8x22B, with tools", _mistral(_MISTRAL_TOOLS), _MISTRAL_TOOLS[:1]),
    "mistral-v3-tekken": Format("Mistral Nemo, Ministral, Pixtral, with tools", _mistral(_MISTRAL_TOOLS)),
    "mistral-v7": Format(
        "Mistral Large 2411, with tools and a system turn",
        _mistral((*_MISTRAL_TOOLS, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"), one_system=False),
        ("[SYSTEM_PROMPT]",),
    ),
    "openchat": Format(
        "OpenChat 3.5: GPT4 Correct User: (plain words, but the end of a turn)",
        Facts("<s>", "<|end_of_turn|>", ("<|end_of_turn|>",), ("<s>", "<|end_of_turn|>")),
        ("GPT4 Correct",),
    ),
    "phi3": Format(
        "Phi-3, Phi-3.5",
        Facts(
            "",
            "<|end|>",
            ("<|end|>", "<|endoftext|>"),
            ("<|end|>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>"),
        ),
        ("<|end|>",),
    ),
    "phi4": Format(
        "Phi-4",
        Facts(
            "",
            "<|im_end|>",
            ("<|im_end|>", "<|endoftext|>"),
            ("<|im_start|>", "<|im_sep|>", "<|im_end|>", "<|endoftext|>"),
        ),
        ("<|im_sep|>",),
    ),
    "vicuna": Format(
        "Vicuna 1.1 and 1.5: USER: and ASSISTANT: (plain words)",
        Facts("<s>", "</s>", ("</s>", "USER:"), ("<s>", "</s>"), plain=True, alternates=True, one_system=True),
        ("ASSISTANT:",),
    ),
    "zephyr": Format(
        "Zephyr, TinyLlama chat",
        Facts("", "</s>", ("</s>", "<|user|>"), ("</s>", "<|system|>", "<|user|>", "<|assistant|>")),
        ("<|assistant|>",),
    ),
}
"""The built-in formats by name."""

_BY_MARK = (
    "harmony",
    "phi4",
    "chatml",
    "llama3",
    "llama4",
    "gemma4",
    "gemma",
    "deepseek-v3",
    "command-r",
    "openchat",
    "phi3",
    "zephyr",
    "mistral-v7",
    "mistral-v3",
    "llama2",
    "mistral-v1",
    "deepseek-coder",
    "vicuna",
    "alpaca",
)
"""In which order a template is looked at: a format whose words another one has too comes behind it."""


def source_of(name: str) -> str:
    """The Jinja text of a built-in format."""
    package = Path(__file__).parents[1]
    inside = package / "prompters"
    folder = inside if inside.exists() else package.parent / "prompters"
    return (folder / "templates" / FILE.format(name)).read_text(encoding="utf-8")


def recognised(source: str) -> str | None:
    """The name of the built-in format that a template writes, None where it is none of them."""
    return next((name for name in _BY_MARK if any(mark in source for mark in FORMATS[name].marks)), None)
