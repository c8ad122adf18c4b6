"""Chat templates, compared with transformers' own rendering word for word."""

import subprocess
import sys
from datetime import datetime
from functools import partial
from itertools import product
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from mooltiproxy.errors import BadRequest, UpstreamBroken
from mooltiproxy.mapping.chat_template import (
    BadTemplate,
    ChatTemplate,
    TargetTemplate,
    TemplateNeeded,
    named_sources,
    special_tokens,
)
from mooltiproxy.mapping.formats import FORMATS, source_of

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find",
            "description": "Find <b>it</b> & 'that', żółw",
            "parameters": {
                "type": "object",
                "properties": {"b": {"type": "string"}, "a": {"type": ["null", "number"]}},
            },
        },
    }
]
CALLS = [{"id": "123456789", "type": "function", "function": {"name": "find", "arguments": {"b": "ü", "a": 1.5}}}]
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one turn": [{"role": "user", "content": "Hi"}],
    "system": [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi\n"}],
    "many turns": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": '1 < 2 && "x"'},
        {"role": "assistant", "content": " yes\n"},
        {"role": "user", "content": "żółw 🐢"},
    ],
    "empty": [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}, {"role": "user", "content": "x"}],
    "thought": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb", "reasoning_content": "hm"},
        {"role": "user", "content": "c"},
    ],
    "calls": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "name": "find", "tool_call_id": "123456789", "content": '{"found": "<it>"}'},
        {"role": "assistant", "content": "there"},
        {"role": "user", "content": "thanks"},
    ],
    "parts": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is "},
                {"type": "image", "url": "https://example.org/x.png"},
                {"type": "text", "text": "this?"},
            ],
        }
    ],
    "prefill": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "It is  "}],
    "prefill in parts": [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "It"}, {"type": "text", "text": " is"}]},
    ],
}
OPTIONS: tuple[dict[str, Any], ...] = (
    {"add_generation_prompt": True},
    {"add_generation_prompt": False},
    {"add_generation_prompt": False, "continue_final_message": True},
)
OWN = {
    "looks ahead": """
{%- for m in messages %}
    {%- if not loop.last and messages[loop.index].role == m.role %}{{ raise_exception('twice ' ~ m.role) }}{% endif %}
    [{{ loop.index }}/{{ loop.length }} {{ m['role'] | upper }}] {{ m['content'] | trim }}
{% endfor %}
{% if add_generation_prompt %}[next]{% endif %}
""",
    "tools as json": """{{ bos_token }}
{% if tools is not none and tools %}
  {{ tools | tojson }}
  {{ tools | tojson(indent=2) }}
  {%- for tool in tools %}{{ tool.function | tojson(separators=(',', ':'), sort_keys=true) }}{% endfor %}
{% endif %}
{% for m in messages %}{{ m | tojson(ensure_ascii=true) }}{{ eos_token }}
{% endfor %}""",
    "thinking": """{% set ns = namespace(last=-1, text='') %}
{% for m in messages[::-1] %}{% if m.role == 'user' and ns.last < 0 %}
{% set ns.last = messages | length - 1 - loop.index0 %}{% endif %}{% endfor %}
{% for m in messages %}
{% set content = m.content if m.content is string else '' %}
{% set thought = m.reasoning_content | default('none', true) %}
{% if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}
{{ m.role ~ '|' ~ thought ~ '|' + content }}{{ ns.last }}
{% if m.tool_calls %}{% for call in m.tool_calls %}{{ call.function.name }}{% for k, v in
 call.function.arguments.items() %}{{ k ~ '=' ~ (v if v is string else v | tojson) }}{% endfor %}{% endfor %}{% endif %}
{% endfor %}{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}""",
    "parts": """{% macro body(content) %}{% if content is string %}{{ content }}{% else %}{% for part in content %}
{% if part.type == 'image' %}<image>{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}
{% endmacro %}{% for m in messages %}<{{ m.role }}>{{ body(m.content) }}
{% endfor %}""",
    "loop controls": """{% for m in messages %}{% if loop.index > 3 %}{% break %}{% endif %}
{% if m.role == 'system' %}{% continue %}{% endif %}{{ loop.cycle('odd', 'even') }}{{ loop.changed(m.role) }}
{% generation %}{{ m.content }}{% endgeneration %}{% else %}nothing{% endfor %}""",
    "formats": """{% for m in messages %}{{ '%s:%5d|' % (m.role, loop.index) }}{{ '{0!r:>9}|{n}'.format(m.role, n=1) }}
{{ m.role.center(11, '*') }}{{ m.role | capitalize | indent(2, true) }}{{ {'user': 'U'}.get(m.role, '-') * 3 }}
{{ dict(m, x=1) | dictsort | first }}{{ (1, 'a') }}{{ [m.role, none, true, 1.0] }}{{ m.role[:2] ~ m.role[-1] }}
{% endfor %}{{ documents | default([]) | length }}{{ missing }}{{ pad_token }}{{ 7 // 2 }}{{ 2 ** 5 }}{{ 1 == 1.0 }}
{{ 'a' < 'b' }}""",
    "filters": """{% filter upper %}{% for role, group in messages | groupby('role') %}{{ role }}{{ group | length }}
{% endfor %}{% endfilter %}{{ messages | map(attribute='role') | unique | sort(reverse=true) | join(', ') }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | rejectattr('role', 'in', ['user'])
 | map(attribute='role') | list }}{% set x %}set {{ messages[0].role }}{% endset %}{{ x | replace('s', '5', 1) }}""",
    "autoescaped": "{% autoescape true %}{{ messages[0].content }}{% endautoescape %}"
    "{{ '<' | e }}{{ '<a>' | striptags }}",
}


def sources() -> dict[str, str]:
    return OWN | {name: source_of(name) for name in FORMATS}


def of_transformers(source: str, messages: list[dict[str, Any]], tokens: dict[str, str], **options: Any) -> str:
    """As its tokenizers do: keys without a value are left out of messages."""
    cleaned = [{name: value for name, value in message.items() if value is not None} for message in messages]
    made: Any = render_jinja_template([cleaned], chat_template=source, **{**options, **tokens})
    return str(made[0][0])


def attempted(render: Any) -> tuple[str, str]:
    """The prompt, or that there is none and why, as far as both say it alike."""
    try:
        return "prompt", render()
    except BadRequest as error:
        return "refused", str(error).rpartition("refuses these messages: ")[2] if "refuses" in str(error) else ""
    except Exception as error:  # noqa: BLE001 - transformers lets everything out
        return "refused", str(error) if type(error).__name__ == "TemplateError" else ""


@pytest.mark.parametrize("name", sources())
def test_a_prompt_is_that_of_transformers(name: str) -> None:
    source = sources()[name]
    template = ChatTemplate("mine", {"default": source}, TOKENS)
    for conversation, tools, options in product(CONVERSATIONS, (None, TOOLS), OPTIONS):
        messages = CONVERSATIONS[conversation]
        ours = attempted(partial(template.render, messages, tools=tools, **options))
        theirs = attempted(partial(of_transformers, source, messages, TOKENS, tools=tools, **options))
        assert ours == theirs, (conversation, tools is not None, options)


def test_variables_and_documents_are_those_of_the_request() -> None:
    source = "{{ enable_thinking }}{{ documents | tojson }}{{ bos_token }}{{ x is defined }}"
    template = ChatTemplate("mine", {"default": source}, TOKENS, variables={"enable_thinking": True})
    documents = [{"title": "a", "text": "b"}]
    messages = CONVERSATIONS["one turn"]
    assert template.render(messages) == "Truenull<s>False"
    variables = {"enable_thinking": False, "bos_token": "B"}
    prompt = template.render(messages, documents=documents, variables=variables)
    assert prompt == of_transformers(source, messages, TOKENS | variables, documents=documents)  # type: ignore[arg-type]


def test_strftime_now_is_the_local_date() -> None:
    template = ChatTemplate("mine", {"default": "{{ strftime_now('%Y') }}"})
    assert template.render(CONVERSATIONS["one turn"]) == datetime.now().strftime("%Y")


def test_of_several_templates_the_one_for_tools_is_taken_with_tools() -> None:
    listed = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    template = ChatTemplate("mine", named_sources(listed))
    messages = CONVERSATIONS["one turn"]
    assert template.render(messages) == "plain"
    assert template.render(messages, tools=TOOLS) == "tools"


@pytest.mark.parametrize("value", [None, 3, [{"name": "default"}], ["x"], {"default": "x"}])
def test_what_is_no_template_is_refused(value: Any) -> None:
    with pytest.raises(BadTemplate, match="expected chat_template to be a text, or a list"):
        named_sources(value)


def test_without_a_default_one_of_several_templates_is_refused() -> None:
    with pytest.raises(BadTemplate, match="no template of the name default: there are rag"):
        ChatTemplate("mine", named_sources([{"name": "rag", "template": ""}]))


def test_special_tokens_are_texts_or_objects_that_hold_one() -> None:
    config = {"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "</s>", "unk_token": None, "add_bos": True}
    assert special_tokens(config) == {"bos_token": "<s>", "eos_token": "</s>"}


def test_a_templates_own_refusal_is_quoted() -> None:
    template = ChatTemplate("mine", {"default": "{{ raise_exception('no <system> here') }}"})
    with pytest.raises(BadRequest, match=r"the chat template refuses these messages: no <system> here"):
        template.render(CONVERSATIONS["one turn"])


def test_a_template_that_fails_says_on_what() -> None:
    template = ChatTemplate("mine", {"default": "{{ messages[0].nothing.more }}"})
    with pytest.raises(BadRequest, match="the chat template mine cannot render these messages: .*nothing"):
        template.render(CONVERSATIONS["one turn"])


def test_an_answer_that_the_template_leaves_out_cannot_be_continued() -> None:
    template = ChatTemplate("mine", {"default": "{{ messages[0].content }}"})
    with pytest.raises(BadRequest, match="so that it cannot be continued"):
        template.render(CONVERSATIONS["prefill"], continue_final_message=True)


def test_a_target_is_asked_for_its_template_once() -> None:
    template = TargetTemplate("llama")
    with pytest.raises(TemplateNeeded):
        _ = template.known
    template.learn([{"chat_template": "{{ bos_token }}x", "bos_token": "<s>", "eos_token": "</s>"}, None])
    assert template.known.render(CONVERSATIONS["one turn"]) == "<s>x"


@pytest.mark.parametrize("answers", [[None, {"model_id": "x"}], [{"chat_template": ""}, None]])
def test_a_target_without_a_template_says_what_to_do(answers: list[Any]) -> None:
    with pytest.raises(UpstreamBroken, match="tells no chat template at /props and /info: name one by `template:`"):
        TargetTemplate("tgi").learn(answers)


def test_a_targets_template_that_cannot_be_compiled_is_its_fault() -> None:
    with pytest.raises(UpstreamBroken, match="chat template of target llama cannot be used"):
        TargetTemplate("llama").learn([{"chat_template": "{% for %}"}])


def test_jinja_is_not_imported_before_there_is_a_template() -> None:
    code = "import sys, mooltiproxy.config.load, mooltiproxy.cli; print('jinja2' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert shown.stdout.strip() == "False"
