"""What a chat template cannot do: read files, reach the interpreter, run for ever, fill the memory."""

import time

import pytest

from mooltiproxy.errors import BadRequest, InternalError
from mooltiproxy.mapping import sandbox
from mooltiproxy.mapping.chat_template import BadTemplate, ChatTemplate

MESSAGES = [{"role": "user", "content": "Hi"}]
GROWING = "{% set x = [1] %}" + "{% set x = [x, x] %}" * 60
TWO_GROWING = "{% set x = [1] %}{% set y = [1] %}" + "{% set x = [x, x] %}{% set y = [y, y] %}" * 40
LONG = "{% set x = 'a' * 100000 %}"


def rendered(source: str) -> str:
    return ChatTemplate("mine", {"default": source}).render(MESSAGES)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in [[1]] recursive %}{{ loop([[1], [1]]) }}{% endfor %}",
        "{% macro a() %}"
        + "x" * 999
        + "{% endmacro %}"
        # each macro calls the one before it twice
        + "".join(
            f"{{% macro b{n}() %}}{{{{ {c}() }}}}{{{{ {c}() }}}}{{% endmacro %}}"
            for n, c in enumerate(["a", *(f"b{n}" for n in range(40))])
        )
        + "{{ b40() }}",
        "{% for a in range(100000)|map('string')|select('in', 'a' * 60000000) %}{% endfor %}",
        "{{ range(10 ** 9) }}",
        "{% set x = 'a' * 60000000 %}" + "{% if 'aab' in x %}{% endif %}" * 3000,
        "{{ ('a' * 10000000)|wordwrap(1) }}",
        "{{ ('( ' * 10000000)|urlize }}",
        "{{ ('ab' * 1000000)|groupby('x') }}",
        "{{ ('a' * 60000000)|batch(1)|list }}",
        "{{ ('xn--' ~ 'a' * 1000000).encode().decode('punycode') }}",
        "{{ ('\u00fc' * 1000000).encode('idna') }}",
    ],
)
def test_a_template_that_would_go_on_is_stopped(source: str) -> None:
    begun = time.monotonic()
    with pytest.raises(InternalError, match="the chat template mine was stopped"):
        rendered(source)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10 ** 10 }}",
        "{{ ([0] * 10 ** 9)|length }}",
        "{{ 10 ** (10 ** 9) }}",
        "{% set x = 10 ** 1000 %}" + "{% set x = x * x %}" * 30 + "{{ x }}",
        LONG + "{% set x = x ~ x %}" * 60,
        LONG + "{% set x = x + x %}" * 60,
        LONG + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
        LONG + "{% for i in range(99999) %}{% set y = x[1:] %}{% endfor %}",
        "{% set x %}{% for i in range(99999) %}" + "y" * 99999 + "{% endfor %}{% endset %}",
        LONG + "{{ x.replace('a', x) }}",
        LONG + "{{ x|replace('a', x) }}",
        LONG + "{% filter replace('a', 'b' * 100000) %}" + "a" * 99999 + "{% endfilter %}",
        LONG + "{{ x|join(x) }}",
        LONG + "{{ x.join(x) }}",
        LONG + "{{ x.join(range(100000)|map('string')) }}",
        LONG + "{{ range(100000)|map('string')|join(x) }}",
        LONG + "{{ x.translate({97: x}) }}",
        "{% set x = '\\n' * 100000 %}{{ x|indent(100000) }}",
        "{% set x = '\\t' * 100000 %}{{ x.expandtabs(100000) }}",
        "{{ 'a '|list|tojson(indent=10 ** 9) }}",
        "{{ 'a'|center(10 ** 10) }}",
        "{{ 'a'.ljust(10 ** 10) }}",
        "{{ '%99999999999d' % 1 }}",
        "{{ '%*d' % (10 ** 10, 1) }}",
        "{{ '%9999999999d'|format(1) }}",
        "{{ '{:9999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10 ** 10) }}",
        "{{ '{:{}}'.format(1, '9999999999') }}",
        "{{ ('{0:99999}' * 90000).format(1) }}",
        "{{ ('%(x)99999d' * 90000) % {'x': 1} }}",
        "{{ '%9999999999d'.encode() % 1 }}",
        "{{ ('%*d' * 5000) % ((99999, 1) * 5000) }}",
        "{{ 'a'.encode().center(10 ** 10) }}",
        "{% set x = 'a'.encode() %}" + "{% set x = x + x %}" * 60,
        LONG + "{{ x.encode().join([x.encode()] * 100000) }}",
        "{{ ('a'|safe).center(10 ** 10) }}",
        LONG + "{{ (x|safe).replace('a', x) }}",
        LONG + "{{ (x|safe).join(['a'] * 100000) }}",
        "{{ (1).to_bytes(10 ** 10, 'big') }}",
        "{{ 1.5|round(10 ** 9) }}",
        "{{ strftime_now('%999999999d') }}",
        "{{ range(99999)|map('center', 99999)|list }}",
        "{{ ([range(100000)|list] * 1000)|sum(start=[])|length }}",
    ],
)
def test_a_template_that_would_fill_the_memory_is_stopped(source: str) -> None:
    with pytest.raises(InternalError, match="the chat template mine was stopped"):
        rendered(source)


@pytest.mark.parametrize(
    "source",
    [
        GROWING + "{{ x }}",
        GROWING + "{{ x|tojson }}",
        GROWING + "{{ [x]|unique|list }}",
        GROWING + "{{ messages[0][x] + 1 }}",
        GROWING + "{{ {1: x}.values() }}",
        GROWING + "{{ {1: x}.items().mapping }}",
        TWO_GROWING + "{{ {1: x}.items() == {1: y}.items() }}",
        TWO_GROWING + "{{ x == y }}",
        TWO_GROWING + "{{ x in [y] }}",
        TWO_GROWING + "{{ [x].count(y) }}",
        TWO_GROWING + "{{ [{'a': x}]|selectattr('a', 'equalto', y)|list }}",
        "{% set x = (1,) %}" + "{% set x = (x, x) %}" * 40 + "{{ {x: 1} }}",
        "{% set x = (1,) %}" + "{% set x = (x, x) %}" * 40 + "{{ {}[x] }}",
        "{% set x = 1 %}" + "{% set x = dict(a=x, b=x) %}" * 40 + "{{ x|string }}",
        "{% set x = 1 %}" + "{% set x = namespace(a=x, b=x) %}" * 40 + "{{ x }}",
    ],
)
def test_a_value_that_holds_itself_many_times_over_is_not_gone_through(
    monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setattr(sandbox, "MAX_STEPS", 200_000)  # each doubles, so it reaches any limit: a lower one sooner
    with pytest.raises(InternalError, match="the chat template mine was stopped: it takes more than 200000 steps"):
        rendered(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ [].append(1) }}",
        "{{ namespace(_x=1) }}",
    ],
)
def test_a_template_does_not_reach_the_interpreter(source: str) -> None:
    with pytest.raises(InternalError, match="was stopped"):
        rendered(source)


@pytest.mark.parametrize("tag", ["include '/etc/passwd'", "import '/etc/passwd' as x", "extends '/etc/passwd'"])
def test_a_template_reads_no_files(tag: str) -> None:
    with pytest.raises(BadRequest, match="no loader"):
        rendered(f"{{% {tag} %}}")


def test_numbers_that_are_written_may_be_large() -> None:
    source = "{{ '%d' % 1700000000 }} {{ '{}'.format(1700000000) }} {{ '20240101: %5s'|format('a') }}"
    assert rendered(source) == "1700000000 1700000000 20240101:     a"


def test_what_one_rendering_used_is_not_missing_in_the_next() -> None:
    template = ChatTemplate("mine", {"default": "{% for i in range(90000) %}{% endfor %}ok"})
    assert [template.render(MESSAGES) for _ in range(30)] == ["ok"] * 30


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ("a\n{{ 1 + }}", 2, "unexpected"),
        ("a\n\n{% endfor %}", 3, "unknown tag 'endfor'|Unexpected end"),
        ("{{ x|nothing }}", 1, "No filter named 'nothing'"),
        ("{% for a in b %}" * 40 + "{% endfor %}" * 40, 0, "nested too deeply"),
        ("x" * 600_000, 0, "characters is not taken"),
    ],
)
def test_a_template_that_cannot_be_compiled_says_where(source: str, line: int, message: str) -> None:
    with pytest.raises(BadTemplate, match=message) as caught:
        ChatTemplate("mine", {"default": source})
    assert caught.value.line == line
