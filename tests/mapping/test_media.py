import pytest

from mooltiproxy.mapping.media import data_url, host_of, split_data_url, standard_base64


@pytest.mark.parametrize(
    "url",
    ["data:image/png;base64,-_8=", "DATA:Image/PNG;charset=x;BASE64,-_8", "data:image/png;base64,+/8="],
)
def test_data_urls_are_read_in_every_spelling(url: str) -> None:
    assert split_data_url(url) == ("image/png", "+/8=")


def test_other_urls_are_left_alone() -> None:
    assert split_data_url("https://example.com/a.png") is None


@pytest.mark.parametrize("url", ["data:text/plain,hello", "data:image/png;base64,!!", "data:image/png;base64,abcde"])
def test_a_data_url_without_base64_is_an_error(url: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        split_data_url(url)


def test_wrapped_base64_is_joined() -> None:
    assert standard_base64("aGVs\nbG8") == "aGVsbG8="


def test_a_data_url_is_written() -> None:
    assert data_url("image/png", "aGVs") == "data:image/png;base64,aGVs"


@pytest.mark.parametrize(("url", "host"), [("https://Example.com:1/a", "example.com"), ("a", ""), ("http://[", "")])
def test_the_host_of_a_url(url: str, host: str) -> None:
    assert host_of(url) == host
