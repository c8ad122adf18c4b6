"""Which of llama-swap's models exclude each other, and what of that our `group` can say.

There, one of a group's members runs at a time (`swap`), a group's models end those of other groups (`exclusive`) unless
these are `persistent`, and models of no group are one that does both. Of ours, one server of a group runs at a time,
and groups know nothing of each other.
"""

from collections.abc import Iterator, Mapping, Sequence

from mooltiproxy.config.shapes import Where
from mooltiproxy.importers.foreign import Data, items, section, text

NO_GROUP = ""
_COMMON = "one-at-a-time"
_TOGETHER = "give them one `group`, or limit what runs by `memory` and `system.budget`"


class Groups:
    """The groups of a file, for the models whose servers we start."""

    def __init__(self, data: Data, models: Sequence[str]) -> None:
        self._groups = section(data, "groups")
        named = {text(member): name for name in self._groups for member in items(self._group(name).get("members"))}
        self._of = {model: named.get(model, NO_GROUP) for model in models}
        self._members = {name: [one for one in models if self._of[one] == name] for name in (NO_GROUP, *self._groups)}
        self._alone = [name for name, members in self._members.items() if members and self._is_alone(name)]

    def ours(self, model: str) -> str:
        """The group of ours that a model's server is in, "" for none."""
        name = self._of[model]
        if name in self._alone:
            others = [one for group in self._alone for one in self._members[group] if one != model]
            return self._common_name() if others else ""
        return name if name and self._swaps(name) and len(self._members[name]) > 1 else ""

    def place(self, model: str) -> Where:
        """The key of theirs that says so: none where the model is in no group of the file."""
        return ("groups", self._of[model], "members") if self._of[model] else ()

    def fates(self) -> Iterator[tuple[Where, str, bool]]:
        """What becomes of the keys of each group, and whether it is carried."""
        for name in self._groups:
            where: Where = ("groups", name)
            swaps = "one of its servers runs" if self._swaps(name) else "its servers run together"
            yield self._key(where, "swap"), f"kept: {swaps}", True
            yield (self._key(where, "exclusive"), *self._exclusive(name))
            if "persistent" in self._group(name):
                yield (*where, "persistent"), "kept: servers of other groups do not end its own", True

    def _exclusive(self, name: str) -> tuple[str, bool]:
        others = [one for one, members in self._members.items() if members and one != name]
        ended = [one for one in others if not self._group(one).get("persistent") and one not in self._alone]
        if name in self._alone and not ended:
            return "kept: its servers share a `group` with all that they exclude", True
        if self._excludes(name) and others:
            return f"servers of other groups are not ended for those of this one: {_TOGETHER}", False
        enders = [one for one in others if self._excludes(one)]
        if enders and not self._group(name).get("persistent"):
            return f"servers of this group are not ended for those of other groups: {_TOGETHER}", False
        return "kept: other servers are not ended for these", True

    def _common_name(self) -> str:
        if len(self._alone) == 1 and self._alone[0]:
            return self._alone[0]
        free = (name for name in (_COMMON, *map(str, range(len(self._groups)))) if name not in self._groups)
        return next(free)

    def _is_alone(self, name: str) -> bool:
        """Whether a model of this group is to run with no other, of whichever group, and others with none of it."""
        return self._swaps(name) and self._excludes(name) and not self._group(name).get("persistent")

    def _swaps(self, name: str) -> bool:
        return self._group(name).get("swap") is not False

    def _excludes(self, name: str) -> bool:
        return self._group(name).get("exclusive") is not False

    def _group(self, name: str) -> Mapping[str, object]:
        return section(self._groups, name)

    def _key(self, where: Where, key: str) -> Where:
        return (*where, key) if key in self._group(str(where[1])) else where
