from ipaddress import ip_network
from typing import Any

import pytest
from voluptuous import Invalid

from mooltiproxy.config import validators as words
from mooltiproxy.config.cores import usable_cores

NOT_TEXT: tuple[Any, ...] = (None, True, 5, 1.5, [], {}, ["x"])

BAD: dict[str, tuple[Any, ...]] = {
    "flag": (None, 0, 1, "yes", "True", "", []),
    "bounds": (None, 1, "0-1", [], [1], [1, 0], [True, 2], [-1, 1], [0, float("nan")], [0, 1, 2]),
    "port": (None, True, False, -1, 65536, 80.0, "", "http", "٣", "-1", "80 ", [80]),
    "seconds": (None, True, -1, float("nan"), float("inf"), "", "s", "5 s", "-5s", "1e3", "5w", [5]),
    "limit": (None, True, -1, "", "soon"),
    "seconds_or_never": (None, True, -2, "", "never", "-1s"),
    "command": (*NOT_TEXT, "", "  ", "serve 'm", "serve \0"),
    "workers": (None, True, 0, 257, -1, 1.5, "", "many", [2]),
    "url_or_port": (None, "${port}", "http://${port}", "http://h:${port}1", "http://h:${p}", "ftp://h:${port}"),
    "size": (None, True, 0, -1, 1.5, "", "0", "0MB", "64 mebibytes", "MB", "-1kB", [1]),
    "network": (
        *NOT_TEXT,
        "",
        "localhost",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "256.0.0.1",
        "fe80::1%eth0",
        "fe80::%1/64",
        "2001:db8::1/32",
        "::ffff:10.0.0.1/104",
        "1.2.3.4:80",
        "[::1]",
    ),
    "text": (*NOT_TEXT, ""),
    "piece": NOT_TEXT,
    "key": (*NOT_TEXT, "a\nb", "a\r\nb: c", "a\n", " a", "clé", "a\x00", "a\x7f"),
    "variable_name": (*NOT_TEXT, "", "sk-abc", "A B", "1A", "A=B", "${A}"),
    "certificate_name": (*NOT_TEXT, "", "alice", "CN=", "CN= alice", "cn=alice", "O=x", "dns:a", "CN=a\nb"),
    "expiry": (*NOT_TEXT, "", "soon", "2027-02-30", "2027-12-31T18:00", "2027-12-31 18:00:00", "20:00+01:00"),
    "host": (*NOT_TEXT, "", "a b", "http://x", "[::1]", "1.2.3.4/8", "-x", "*"),
    "url": (
        *NOT_TEXT,
        "",
        "localhost:8000",
        "ftp://x",
        "//x",
        "http://",
        "http:///v1",
        "http://:8000",
        "http://x:0",
        "http://x:65536",
        "http://x:y",
        "http://u@x",
        "http://u:secret@x",
        "http://x/?a=1",
        "http://x?",
        "http://x/#a",
        "http://x/a b",
        "http://x/\r\ny",
        "http://x/\ty",
        "http://x/é",
        "http://é.fr",
        "http://x/../y",
        "http://x/%2e%2E/y",
        "http://[::1",
        "http://[fe80::1%25eth0]",
        "http://a_b!c",
        "http://x\\y",
    ),
    "resource": (*NOT_TEXT, "", "GPU", "vram", "gpu-1", "gpux"),
    "field_name": (*NOT_TEXT, ""),
    "target_path": (*NOT_TEXT, "", "x", "http://x/y", "/a?b", "/a#b", "/a b", "/a\n", "/é", "/../a", "/a/.", "/%2e./a"),
    "client_path": (*NOT_TEXT, "", "x", "/a?b=c", "/a#b", "/a/../b", "/./a", "/a%20b", "/a%2fb", "/a b", "/a\r\n"),
    "target_name": (*NOT_TEXT, "", "a b", "a/b", "é", "a:b", "a\nb", ".", ".."),
    "key_name": (*NOT_TEXT, "", "a b", "master"),
    "plain_name": (*NOT_TEXT, "", " ", "a\nb", "a\x1bb"),
    "origin": (*NOT_TEXT, "", "app.example", "https://app.example/", "https://a/b", "https://*.example", "null "),
}

GOOD: dict[str, tuple[tuple[Any, Any], ...]] = {
    "flag": ((True, True), (False, False), ("true", True), ("false", False)),
    "bounds": (([0.1, 1], (0.1, 1.0)), ([0, 0], (0.0, 0.0))),
    "port": ((0, 0), (8000, 8000), (65535, 65535), ("8000", 8000)),
    "seconds": ((0, 0.0), (30, 30.0), (0.5, 0.5), ("30", 30.0), ("500ms", 0.5), ("1.5s", 1.5), ("5m", 300.0)),
    "certificate_name": (
        ("CN=Alice Liddell", "CN=Alice Liddell"),
        ("DNS:A.example", "DNS:a.example"),
        ("URI:a:B", "URI:a:B"),
    ),
    "expiry": (
        ("2020-01-01", 1577923200.0),
        ("2020-01-01T00:00:00Z", 1577836800.0),
        ("2020-01-01T01:00+01:00", 1577836800.0),
    ),
    "limit": ((0, None), (30, 30.0), ("0s", None), ("500ms", 0.5)),
    "size": ((1, 1), ("1024", 1024), ("10MB", 10_000_000), ("64MiB", 67_108_864), ("1.5 kB", 1500), ("1gib", 2**30)),
    "seconds_or_never": ((-1, None), ("-1", None), (0, 0.0), ("5m", 300.0), ("40000d", None)),
    "command": (("a", ("a",)), ("a --m 'b c' $D | e", ("a", "--m", "b c", "$D", "|", "e"))),
    "workers": ((1, 1), (2, 2), ("4", 4), ("auto", usable_cores())),
    "url_or_port": (
        ("http://h:8000/", "http://h:8000"),
        ("http://127.0.0.1:${port}", "http://127.0.0.1:${port}"),
        ("http://[::1]:${port}/v1/", "http://[::1]:${port}/v1"),
    ),
    "network": (
        ("192.0.2.7", ip_network("192.0.2.7/32")),
        ("10.0.0.0/8", ip_network("10.0.0.0/8")),
        ("2001:DB8::7", ip_network("2001:db8::7/128")),
        ("2001:db8::/32", ip_network("2001:db8::/32")),
        ("::ffff:10.1.2.3", ip_network("10.1.2.3/32")),
        ("::ffff:10.0.0.0/104", ip_network("10.0.0.0/8")),
        ("::/0", ip_network("::/0")),
    ),
    "text": (("x", "x"), (" ", " ")),
    "piece": (("", ""), ("\nQ:", "\nQ:")),
    "key": (("sk-0123", "sk-0123"), ("two words", "two words"), ("", ""), ("  \n", "")),
    "variable_name": (("OPENAI_API_KEY", "OPENAI_API_KEY"), ("_a1", "_a1")),
    "host": (("127.0.0.1", "127.0.0.1"), ("::", "::"), ("::1", "::1"), ("localhost", "localhost"), ("a-b.c", "a-b.c")),
    "url": (
        ("http://localhost", "http://localhost"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("HTTPS://x/a%20b", "https://x/a%20b"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://my_host:1", "http://my_host:1"),
    ),
    "resource": (("ram", "ram"), ("gpu", "gpu"), ("gpu12", "gpu12")),
    "field_name": (("max_seq_len", "max_seq_len"),),
    "target_path": (("/", "/"), ("/v1/chat", "/v1/chat"), ("/a%20b", "/a%20b"), ("/m:go", "/m:go")),
    "client_path": (("/", "/"), ("/models", "/models"), ("/v1/models/x.y", "/v1/models/x.y")),
    "target_name": (("local", "local"), ("gpt-4.1_x", "gpt-4.1_x"), ("..a", "..a")),
    "key_name": (("alice", "alice"), ("master2", "master2")),
    "plain_name": (("meta-llama/Llama 3:8b", "meta-llama/Llama 3:8b"),),
    "origin": (("*", "*"), ("https://a.example", "https://a.example"), ("http://[::1]:80", "http://[::1]:80")),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_with_what_was_expected(name: str, value: Any) -> None:
    with pytest.raises(Invalid, match="^expected "):
        getattr(words, name)(value)


@pytest.mark.parametrize(("name", "value", "result"), [(name, *pair) for name, pairs in GOOD.items() for pair in pairs])
def test_a_good_value_is_coerced_once(name: str, value: Any, result: Any) -> None:
    coerced = getattr(words, name)(value)
    assert (coerced, type(coerced)) == (result, type(result))


def test_every_word_has_bad_and_good_values_here() -> None:
    names = {name for name, value in vars(words).items() if isinstance(value, words.Word)}
    assert names == BAD.keys() == GOOD.keys()


@pytest.mark.parametrize("name", BAD)
def test_no_message_quotes_the_value(name: str) -> None:
    for secret in ("sk-SECRET\n", "sk-SECRET?#@%", ["sk-SECRET"], {"sk-SECRET": 1}):
        if name in ("target_name", "key_name"):
            continue  # these names are keys of the file, and repaired in the message
        try:
            getattr(words, name)(secret)
        except Invalid as error:
            assert "SECRET" not in str(error)


def test_a_name_with_spaces_is_repaired_in_the_message() -> None:
    with pytest.raises(Invalid, match="try `my-target`"):
        words.target_name("my target")


def test_a_number_where_text_belongs_is_to_be_quoted() -> None:
    with pytest.raises(Invalid, match="put it in quotes"):
        words.text(7)


def test_a_close_name_is_suggested_and_a_distant_one_gets_the_list() -> None:
    assert words.suggestion("prompteer", ["prompter", "path"]) == ": did you mean `prompter`?"
    assert words.suggestion("PROMPTER", ["prompter", "path"]) == ": did you mean `prompter`?"
    assert words.suggestion("xyz", ["prompter", "path"]) == ", expected one of path, prompter"
    assert words.suggestion("xyz", map(str, range(100))) == ""
