from types import ModuleType

import pytest

from .cells import CLIENTS, TARGETS, Outcome, outcomes
from .clients import Client
from .conversation import Feature

CELLS = [
    pytest.param(client, target, feature, id=f"{client.name}-{target.NAME}-{feature}".replace(" ", "_"))
    for client in CLIENTS
    for target in TARGETS
    for feature in Feature
    if feature in client.bodies
]


@pytest.mark.parametrize(("client", "target", "feature"), CELLS)
def test_a_feature_passes_or_its_loss_is_named(client: Client, target: ModuleType, feature: Feature) -> None:
    found = outcomes(client, target, feature)
    assert found
    assert all(isinstance(outcome, Outcome) for outcome in found.values())


@pytest.mark.parametrize(("client", "target", "feature"), CELLS)
def test_a_stream_loses_what_a_whole_answer_loses(client: Client, target: ModuleType, feature: Feature) -> None:
    assert len(set(outcomes(client, target, feature).values())) == 1
