"""The grid as a document: what becomes of each feature between each client and each target."""

from pathlib import Path
from types import ModuleType

from .cells import CLIENTS, TARGETS, Outcome, outcomes
from .clients import Client
from .conversation import Feature

FILE = Path(__file__).parents[2] / "docs" / "grid.md"
HEAD = """# What crosses

What becomes of a request and its answer where the client speaks one API and the target another. This file is written by
`python -m tests.grid` from the tests that try every pair, whole and streamed; a test fails when it is out of date.

| word | meaning |
|---|---|
| yes | Everything arrives: the target is asked the same, and the client reads the same answer. |
| as is | Client and target speak the same API: bytes pass untouched. |
| drops | The target has no word for it. The answer's header `x-mooltiproxy-dropped` names it. |
| refuses | Answered with status 400 that names this field: without it the answer would be another one. |
| untold | It is in the target's answer, but the client's API has no place for it. |
| - | The client's API cannot ask for this. |

A target `openai` has chat completions and legacy completions, one `openai responses` has Responses; a server that has
all of them gets all as they are. The targets take nothing but what their APIs know; those of OpenAI, Anthropic and
Gemini are the vendors themselves. Clients of TGI name a `model`, which TGI has no use for and the other targets need.
"""
ABOUT = {
    Feature.PLAIN: "A question with a temperature, answered whole.",
    Feature.STREAM: "The same, streamed.",
    Feature.SYSTEM: "Words of the system before the question.",
    Feature.MULTI_TURN: "A conversation.",
    Feature.TOOLS: "One function, and a call of it. A target that gives calls no ids gets one made.",
    Feature.PARALLEL: "Two calls in one answer, with the target's ids.",
    Feature.RESULTS: "Two calls in the conversation and what they returned; Ollama's and Gemini's without ids.",
    Feature.IMAGE: "A picture in base64.",
    Feature.REASONING: "An effort or a budget for thinking, and the thoughts' text in the answer.",
    Feature.SCHEMA: "An answer that must follow a JSON Schema.",
    Feature.STOP: "A stop string, and an answer that ends at it. Responses has none: the proxy cuts there, and does "
    "not wait for the rest of a stream, nor for its usage.",
    Feature.LENGTH: "A limit of tokens, and an answer that ends at it.",
    Feature.USAGE: "Tokens of the prompt, of it cached, of the answer, of it reasoning.",
    Feature.ERROR: "A target that answers with status 429.",
    Feature.BROKEN: "A target that fails in the middle of its stream.",
}


def written() -> str:
    """The whole document."""
    return HEAD + "".join(_section(feature) for feature in Feature)


def _section(feature: Feature) -> str:
    names = [target.NAME for target in TARGETS]
    rows = [[client.name, *(_cell(client, target, feature) for target in TARGETS)] for client in CLIENTS]
    lines = ["| client, target | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return f"\n## {feature}\n\n{ABOUT[feature]}\n\n" + "\n".join(lines) + "\n"


def _cell(client: Client, target: ModuleType, feature: Feature) -> str:
    if feature not in client.bodies:
        return "-"
    found = outcomes(client, target, feature)
    return "as is" if client.endpoint in target.DIALECT.endpoints else _words(found)


def _words(found: dict[bool, Outcome]) -> str:
    (outcome,) = set(found.values())
    if outcome.refused is not None:
        return f"refuses {outcome.refused}"
    words = [f"drops {', '.join(outcome.lost)}"] if outcome.lost else []
    words += [f"untold: {', '.join(outcome.unsaid)}"] if outcome.unsaid else []
    return "; ".join(words) or "yes"
