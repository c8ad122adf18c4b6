"""Who has room beside whom, while one decision is made: in the groups, and in the budget of the machine."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from mooltiproxy.engines.states import Engine, Reason, State

MOST_MAKING_ROOM = 16
"""Engines for which others have to leave the budget at a time; more would make a decision long, and gain nothing."""


class Room:
    """The places of the engines that run now. `leaving` are those that have to go, or go by themselves; a place that is
    promised to an engine is not given to one that comes later. `is_pinned_anew`: a pinned one has taken a place.

    There are three accounts of the budget: what is held now, by all that run; what is held soon, once those have gone
    that nothing keeps, with what has been promised of that; and what is held once all have gone that have to go, with
    all that has been promised. An engine can be started when it fits into all of them.
    """

    def __init__(self, budget: Mapping[str, int], running: Sequence[Engine], now: float, closing: bool) -> None:
        self.leaving = {engine for engine in running if engine.goes(now, closing)}
        self._budget = budget
        self._now = now
        self._groups: defaultdict[str, list[Engine]] = defaultdict(list)
        self._promised: set[str] = set()
        self._needed: dict[Engine, dict[str, int]] = {}
        self._made = 0
        self.is_pinned_anew = False
        for engine in running:
            if engine.rules.group:
                self._groups[engine.rules.group].append(engine)
        staying = [engine for engine in running if engine not in self.leaving]
        self._held = self._sum(running)
        self._soon = self._sum(one for one in running if one not in self.leaving or one.is_kept)
        self._staying = self._sum(staying)
        self._pinned = self._sum(one for one in staying if one.rules.pin)
        self._movable = sorted((one for one in staying if budget and not one.rules.pin), key=_reluctance)
        self._gain = self._sum(self._movable)
        self.is_overfull = self._thin_out(len(staying))

    # For engines that are asked for, in the order of their requests.

    def refusal(self, engine: Engine) -> Reason | None:
        """Why there will never be room for an engine, None if there will."""
        rivals = (other for other in self._groups.get(engine.rules.group, ()) if other is not engine)
        if any(other.rules.pin and other not in self.leaving for other in rivals):
            return Reason.PINNED
        needs = self._needs(engine)
        is_too_large = any(needs[name] + self._pinned[name] > self._budget[name] for name in needs)
        return Reason.TOO_LARGE if is_too_large else None

    def promise(self, engine: Engine) -> bool:
        """Promise an engine its place, for which others have to go if need be (but not before its own last run has
        ended), unless those who were promised theirs before leave too little. Whether it has its part of the budget
        soon, so that it is not to be given away."""
        group, needs = engine.rules.group, self._needs(engine)
        members = self._groups.get(group, ())
        is_awaited = any(one.state is State.STARTING and one.waiting for one in members)
        if is_awaited or group in self._promised:
            return False
        rivals = [one for one in members if one is not engine and one not in self.leaving]
        self._let_go(rivals)
        lack = self._lack(needs)
        if lack and (engine.is_running or not self._make_room(lack)):
            self._keep(rivals)
            return False
        _add(self._staying, needs)
        if group:
            self._promised.add(group)
        is_soon = self._fits(needs, self._soon)
        if is_soon:
            _add(self._soon, needs)
        return is_soon

    def take(self, engine: Engine) -> bool:
        """Take the place that has been promised, if nobody has it any more: then the engine may start."""
        group, needs = engine.rules.group, self._needs(engine)
        if self._groups.get(group) or not self._fits(needs, self._held):
            return False
        _add(self._held, needs)
        if group:
            self._groups[group].append(engine)
        if engine.rules.pin:
            self.is_pinned_anew = True
            _add(self._pinned, needs)
        elif self._budget:
            self._movable.append(engine)
            _add(self._gain, needs)
        return True

    # For engines that nobody has asked for.

    def take_spare(self, engine: Engine) -> bool:
        """Take a place, if there is one without anybody's leaving, now and when those have theirs who were promised it:
        then the engine may start."""
        group, needs = engine.rules.group, self._needs(engine)
        is_spare = self._fits(needs, self._staying) and self._fits(needs, self._soon)
        if group in self._promised or not is_spare or not self.take(engine):
            return False
        _add(self._soon, needs)
        _add(self._staying, needs)
        if group:
            self._promised.add(group)
        return True

    # Accounts.

    def _sum(self, engines: Iterable[Engine]) -> dict[str, int]:
        total = dict.fromkeys(self._budget, 0)
        for engine in engines if total else ():
            _add(total, self._needs(engine))
        return total

    def _needs(self, engine: Engine) -> dict[str, int]:
        needs = self._needed.get(engine)
        if needs is None:
            needs = {name: need for name in self._budget if (need := engine.takes(name))}
            self._needed[engine] = needs
        return needs

    def _fits(self, needs: Mapping[str, int], account: Mapping[str, int]) -> bool:
        return all(account[name] + need <= self._budget[name] for name, need in needs.items())

    def _let_go(self, engines: Iterable[Engine]) -> None:
        for engine in engines:
            self.leaving.add(engine)
            self._move(engine, -1)

    def _keep(self, engines: Iterable[Engine]) -> None:
        for engine in engines:
            self.leaving.discard(engine)
            self._move(engine, 1)

    def _move(self, engine: Engine, sign: int) -> None:
        needs = self._needs(engine)
        _add(self._staying, needs, sign)
        _add(self._gain, needs, sign)
        if engine.goes_for_another(self._now):
            _add(self._soon, needs, sign)

    # Who has to go.

    def _lack(self, needs: Mapping[str, int]) -> dict[str, int]:
        """What is missing for these needs, once all have gone that have to."""
        lack = {name: self._staying[name] + need - self._budget[name] for name, need in needs.items()}
        return {name: missing for name, missing in lack.items() if missing > 0}

    def _make_room(self, lack: Mapping[str, int]) -> bool:
        """Have engines leave that take what is missing; if that is not enough, none does."""
        if self._made >= MOST_MAKING_ROOM or any(self._gain[name] < lack[name] for name in lack):
            return False
        self._made += 1
        self._let_go(self._fewest(self._movable, lack))
        return True

    def _thin_out(self, staying: int) -> bool:
        """Have idle engines leave where more is used than there is, but not all; whether one that becomes idle may
        have to leave, too."""
        lack = self._excess()
        idle = [one for one in self._movable if one.state is State.READY and not one.in_flight] if lack else []
        if len(idle) == staying:
            idle = idle[:-1]
        self._let_go(self._fewest(idle, lack))
        return staying > 1 and bool(lack)

    def _excess(self) -> dict[str, int]:
        return {name: over for name in self._budget if (over := self._staying[name] - self._budget[name]) > 0}

    def _fewest(self, engines: Iterable[Engine], lack: Mapping[str, int]) -> list[Engine]:
        """The first of these engines that have what is lacking, and none whose leaving the others' makes needless."""
        left = dict(lack)
        chosen: list[Engine] = []
        for engine in engines:
            if all(missing <= 0 for missing in left.values()):
                break
            if engine not in self.leaving and any(left[name] > 0 and engine.takes(name) for name in left):
                chosen.append(engine)
                left = {name: missing - engine.takes(name) for name, missing in left.items()}
        needed = []
        for engine in reversed(chosen):
            without = {name: missing + engine.takes(name) for name, missing in left.items()}
            if any(missing > 0 for missing in without.values()):
                needed.append(engine)
            else:
                left = without
        return needed


def _add(total: dict[str, int], needs: Mapping[str, int], sign: int = 1) -> None:
    for name, need in needs.items():
        total[name] += sign * need


def _reluctance(engine: Engine) -> tuple[int, float]:
    """Who leaves first: who does nothing, who is about to leave already, who is busy, and who is being waited for; of
    these, who was used least recently, or is about to leave for longest."""
    if engine.state is State.STARTING:
        return (3 if engine.waiting else 0), engine.since
    if engine.state is State.DRAINING:
        return 1, engine.since
    return (2 if engine.in_flight else 0), engine.idle_since
