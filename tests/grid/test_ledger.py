"""Nothing that a request says is lost in silence, and no target gets what it would refuse."""

from collections.abc import Mapping
from typing import Any

import orjson
from hypothesis import HealthCheck, given, note, settings

from mappers.anthropic import messages
from mappers.openai import chat
from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.neutral import NOWHERE

from . import rules_anthropic, rules_openai, strict_anthropic, strict_openai
from .cells import TARGETS, translation
from .ledger import Rule, Sent, everything, unexplained
from .requests_anthropic import message_requests
from .requests_openai import chat_requests

MANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
EVERYBODY = {one.NAME: one for one in TARGETS} | {"openai_local": strict_openai.LOCAL}


def check_leaves(
    client: Endpoint, target: Any, body: dict[str, Any], rules: Mapping[str, Rule], names: Mapping[str, str]
) -> None:
    """A request is refused by the name of a field, or its target takes it and every leaf is accounted for."""
    try:
        translated = translation(client, target).request(body, NOWHERE)
    except BadRequest as refusal:
        assert refusal.param
        return
    sent = orjson.loads(translated.body)
    target.hear(sent, translated.path)
    found = Sent(target.NAME, body, sent, translated.path or "", translated.dropped, list(everything(sent)))
    assert unexplained(found, rules, names) == []


@MANY
@given(body=chat_requests())
def test_every_leaf_of_a_chat_request_is_accounted_for(body: dict[str, Any]) -> None:
    for name, target in EVERYBODY.items():
        note(f"target: {name}")  # the last one is told with a failure
        check_leaves(chat.endpoint, target, body, rules_openai.RULES, rules_openai.OTHER_NAMES)


@MANY
@given(body=message_requests())
def test_every_leaf_of_a_message_request_is_accounted_for(body: dict[str, Any]) -> None:
    for name, target in EVERYBODY.items():
        if target is not strict_anthropic:
            note(f"target: {name}")
            check_leaves(messages.endpoint, target, body, rules_anthropic.RULES, rules_anthropic.OTHER_NAMES)
