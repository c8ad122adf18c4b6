import orjson

from bench import translate


def test_the_conversation_has_about_200_kilobytes() -> None:
    assert 190_000 < len(orjson.dumps(translate.conversation())) < 210_000


def test_every_target_is_timed_even_if_there_is_no_time() -> None:
    taken = translate.times(0)
    assert set(taken) == set(translate.TARGETS)
    assert all(seconds > 0 for seconds in taken.values())
