"""Lists of models of one target: the names that the file gives stand in them, in each client's form."""

from typing import Any

import orjson
import pytest

from tests.servers.proxy import proxy
from tests.servers.scripted import answer, answering, upstream

OPENAI = {"object": "list", "data": [{"id": "own", "object": "model", "created": 1, "owned_by": "x", "root": "kept"}]}
ANTHROPIC = {
    "data": [{"id": "own", "type": "model", "display_name": "Own", "created_at": "2025-01-01T00:00:00Z"}],
    "has_more": False,
    "first_id": "own",
    "last_id": "own",
}
SIGN: Any = {"anthropic-version": "2023-06-01"}


async def listed(path: str, told: Any, speaks: str = "openai", asked: list[str] | None = None, **headers: str) -> Any:
    """What a client gets; the file names bob and own, and a pattern. `asked` learns the request lines that the target
    got."""
    async with upstream(answering(answer(orjson.dumps(told)))) as up:
        targets = {"default": "one", "one": {"url": up.url, "speaks": speaks}}
        models = {name: {"target": "one"} for name in ("bob", "own", "x-*")}
        async with proxy({"targets": targets, "models": models}) as running:
            async with running.client.get(path, headers=headers) as response:
                assert response.status == 200
                if asked is not None:
                    asked += [request.line for request in up.requests]
                return await response.json()


def names(entries: list[Any]) -> list[str]:
    return [entry.get("id") or entry["name"] for entry in entries]


async def test_names_of_the_file_come_before_the_targets_own() -> None:
    body = await listed("/v1/models", OPENAI)
    assert names(body["data"]) == ["bob", "own"]


async def test_what_the_target_says_of_its_own_is_kept() -> None:
    assert (await listed("/v1/models", OPENAI))["data"][-1] == OPENAI["data"][0]


async def test_a_target_that_is_named_lists_those_that_it_has() -> None:
    assert names((await listed("/to/one/v1/models", OPENAI))["data"]) == ["bob", "own"]


@pytest.mark.parametrize(
    ("path", "place", "expected", "headers"),
    [
        ("/api/tags", "models", ["bob", "own"], {}),
        ("/v1beta/models", "models", ["models/bob", "models/own"], {}),
        ("/v1/models", "data", ["bob", "own"], SIGN),
    ],
)
async def test_every_client_gets_them_in_its_form(path: str, place: str, expected: list[str], headers: Any) -> None:
    assert names((await listed(path, OPENAI, **headers))[place]) == expected


async def test_a_page_that_begins_with_ours_says_so() -> None:
    body = await listed("/v1/models", ANTHROPIC, "anthropic", **SIGN)
    assert (names(body["data"]), body["first_id"], body["last_id"]) == (["bob", "own"], "bob", "own")


async def test_later_pages_are_the_targets_alone() -> None:
    asked: list[str] = []
    body = await listed("/v1/models?after_id=a&limit=2", ANTHROPIC, "anthropic", asked, **SIGN)
    assert names(body["data"]) == ["own"]
    assert asked == ["GET /v1/models?after_id=a&limit=2 HTTP/1.1"]


async def test_an_answer_that_is_no_list_stays_what_it_is() -> None:
    assert await listed("/v1/models", {"models": "none"}) == {"models": "none"}
