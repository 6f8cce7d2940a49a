"""What a slate as a whole shall be like: its rules, decided place by place with any built-in selector.

At each place the rules say which candidates may come and what likeness costs them; the placement's selector chooses or
draws among these. So a propensity is the probability of an item given the places before and the rules of the slate.

Precedence: eligibility > pins > caps and most shares > positions for new items > least shares > diversity > boosts.
Eligibility was decided before; a pin is put, and counts for what comes after it; what may not come is taken away; of
the rest positions for new items, then least shares, narrow the choice where that leaves anything; diversity and boosts
only say what is worth how much. ``docs/rules.md`` has what yields when two cannot both hold.

Of a slate of more than ``DECIDED_MAX`` places the first are decided so, and are those of a slate of ``DECIDED_MAX``.
Behind them come the others in order of worth, as caps and pins let them; nothing is left to chance there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Candidates, FeatureFrame, Index, Mask, Moment, Query, Score, Selection, Trace
from midstream.ranking.epsilon_greedy import EpsilonGreedy
from midstream.ranking.plackett_luce import PlackettLuce
from midstream.ranking.rule_boost import Boost, Boosted, worth_of
from midstream.ranking.rule_cap import Cap, Caps, served_before
from midstream.ranking.rule_diversity import RULE as DIVERSITY
from midstream.ranking.rule_diversity import Diversity, unlike
from midstream.ranking.rule_in_force import Ruling, Stated, passing
from midstream.ranking.rule_new_items import Fresh, NewItems, is_new
from midstream.ranking.rule_pin import Pin, Pinned
from midstream.ranking.rule_promote import Promote, Promoted, Shares
from midstream.ranking.rules import AnyRule, Facts
from midstream.ranking.sampling import CHOSEN, drawn_of, uniforms
from midstream.ranking.thompson import Thompson
from midstream.ranking.top_k import Chances, TopK, best_first, only_best
from midstream.state.items import Items
from midstream.state.vocabulary import Vocabulary

ARRANGEMENT: Final = "arrangement"
"""Name of it in failures: where what it reads cannot be read, a slate is chosen without."""
DECIDED_MAX: Final = 100
"""Places that are decided one by one: as many as recommendations have. Of 1,000 candidates by a determinant of
tags 8 ms, where all 1,000 places of a ranking would be a second: each place looks at all those above it."""
Choosing: TypeAlias = TopK | PlackettLuce | EpsilonGreedy | Thompson
"""Selectors that can say how probable each candidate is at a place."""
R = TypeVar("R", bound=Stated)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The rules of a placement's slates."""

    caps: tuple[Cap, ...] = ()
    diversity: Diversity | None = None
    rules: tuple[Ruling[AnyRule], ...] = ()
    """In the order of the file. Pins among them were read before (``rule_pin.Pins``)."""

    @property
    def reads_served(self) -> bool:
        """Whether a cap is over a time."""
        return any(cap.within is not None for cap in self.caps)

    def read(self, moment: Moment, candidates: Candidates, pinned: Pinned | None = None) -> Facts:
        """Return what the rules in force need of the candidates.

        Args:
            moment: The state.
            candidates: What the filters left.
            pinned: What shall stand where, whether the filters left it or not.

        Returns:
            Facts, row for row. Cost: 10 µs an attribute and a rule of 500 candidates, 50 µs of vectors of 64.
        """
        items, rows = moment.table(Items), candidates.item_index
        pins, traces = _placed(pinned, rows)
        in_force = [each for each in self.rules if not isinstance(each.rule, Pin) and each.is_in_force(moment)]
        return Facts(
            item_index=rows,
            capped=tuple(codes_of(items, cap.attribute, rows) for cap in self.caps),
            before=tuple(served_before(cap, moment) for cap in self.caps) if self.reads_served else (),
            values=None if self.diversity is None else _values(items, self.diversity.attribute, rows),
            boosts=tuple(
                Boosted(rule.name, rule.factor, _member(ruling, moment, rows)) for ruling, rule in _of(in_force, Boost)
            ),
            promotions=tuple(
                Promoted(rule.name, rule.min, rule.max, _member(ruling, moment, rows))
                for ruling, rule in _of(in_force, Promote)
            ),
            fresh=tuple(
                Fresh(rule.name, frozenset(rule.positions), is_new(moment, rows, rule.within.ms))
                for _, rule in _of(in_force, NewItems)
            ),
            pins=pins,
            traces=traces,
        )

    def select(self, selector: Choosing, query: Query, frame: FeatureFrame, score: Score, facts: Facts) -> Selection:
        """Return at most ``query.slate_size`` rows, chosen by the selector among those that the rules leave.

        Args:
            selector: Says how probable each row is at a place.
            query: With the size of the slate and the seed.
            frame: What the selector reads.
            score: Of each row, NaN = cannot: such a row comes only where it is pinned.
            facts: From ``read``, of the same rows.

        Returns:
            The rows, the probability of each given those before, and what the rules did. Fewer rows than asked for
            where caps and most shares leave no more. Cost: 10 to 20 µs a place for 500 rows, 2 µs a place behind
            ``DECIDED_MAX``.
        """
        if facts.is_idle:
            chosen = selector.select(query, frame, score)
            return Selection(chosen.chosen, chosen.propensity, facts.traces)
        return _Slate(self, selector, query, frame, score, facts).made()


class _Slate:
    """One slate while it is made. ``at`` is a place in ``order``, which has the candidates best first."""

    def __init__(
        self,
        arrangement: Arrangement,
        selector: Choosing,
        query: Query,
        frame: FeatureFrame,
        score: Score,
        facts: Facts,
    ) -> None:
        worth = worth_of(score, facts.boosts)
        self._ranked = best_first(worth)
        pinned_rows = np.array([facts.pins[place][0] for place in sorted(facts.pins)], dtype=np.intp)
        unscored = pinned_rows[~np.isfinite(worth[pinned_rows])]
        self._order = np.concatenate((self._ranked, unscored))
        self._selector, self._frame, self._facts, self._score = selector, frame, facts, score
        self._size, self._decided = query.slate_size, min(query.slate_size, DECIDED_MAX)
        self._dice = uniforms(query.seed, CHOSEN, self._decided).tolist()
        count = len(self._ranked)
        self._worth = worth[self._ranked]
        self._range = float(self._worth[0] - self._worth[-1]) if count else 0.0  # what a whole cost takes
        self._keep = min(selector.keep, query.slate_size)
        self._chances = selector.chances(frame, self._ranked, self._worth) if count else only_best
        self._apart: dict[str, tuple[NDArray[np.intp], Chances]] = {}

        self._at_of = np.full(len(score), -1, dtype=np.intp)
        self._at_of[self._order] = np.arange(len(self._order))
        self._pins = {place: int(self._at_of[row]) for place, (row, _) in sorted(facts.pins.items())}
        # Rows without a score stand behind the ranked ones: pins alone may be there.
        self._free: Mask = np.arange(len(self._order)) < count
        self._free[list(self._pins.values())] = False
        self._caps = Caps(arrangement.caps, facts.capped, self._order, self._pins.values(), facts.before)
        self._shares = None
        if facts.promotions:
            self._shares = Shares(facts.promotions, self._order, self._pins, self._decided)
        self._unlike = None
        if arrangement.diversity is not None and facts.values is not None:
            self._unlike = unlike(arrangement.diversity, facts.values[self._order], self._decided)
            self._range *= arrangement.diversity.weight
        self._fresh = [(each, each.member[self._order]) for each in facts.fresh]
        self._chosen, self._propensity = list[int](), list[float]()
        self._traces = list(facts.traces)
        self._passed_over: set[int] = set()
        self._open = self._opened()

    def made(self) -> Selection:
        """Return the slate."""
        for place in range(self._decided):
            if place in self._pins:
                self._put(place, place, "pinned")
                continue
            may = self._may(place)
            if not may.size or not may[may.argmax()]:  # faster than any
                break
            self._fill(place, may)
        else:
            self._follow()
        for place in [each for each in self._pins if each >= len(self._chosen)]:
            self._put(place, len(self._chosen), "moved")
        chosen = self._order[self._chosen]
        self._traces.extend(self._afterwards(chosen))
        return Selection(chosen, np.array(self._propensity, dtype=np.float32), tuple(self._traces))

    def _follow(self) -> None:
        """Put what comes behind the decided places: the best of those that are left, as caps and pins let them."""
        self._unlike = None  # decides no more
        rest = iter(np.flatnonzero(self._free).tolist())
        for place in range(self._decided, self._size):
            if place in self._pins:
                self._put(place, place, "pinned")
                continue
            # Who was passed over is capped, and caps only get fuller.
            at = next((each for each in rest if self._open[each]), None)
            if at is None:
                break
            self._add(at, 1.0)
            self._open[at] = self._free[at] = False
            if self._caps.take(at):
                self._open = self._opened()

    def _opened(self) -> Mask:
        """Return which candidates are free and capped by nothing."""
        allowed = self._free.copy()
        for _, full in self._caps.dropped:
            allowed &= ~full
        return allowed

    def _may(self, place: int) -> Mask:
        """Return which candidates may come at a place: those that no cap and no most share is about."""
        if self._shares is None:
            return self._open
        may = self._open
        for number in self._shares.full(place):
            may = may & ~self._shares.member[number]
        return may

    def _put(self, pinned_at: int, place: int, what: str) -> None:
        """Put a pin at a place; it was counted before the first place."""
        at = self._pins[pinned_at]
        self._trace(self._facts.pins[pinned_at][1], at, place, what)
        self._add(at, 1.0)

    def _add(self, at: int, probability: float) -> None:
        self._chosen.append(at)
        self._propensity.append(probability)
        if self._unlike is not None:
            self._unlike.take(at)

    def _fill(self, place: int, may: Mask) -> None:
        """Choose among those that may come at a place, narrowed by positions for new items and by least shares."""
        fresh = self._fresh_at(place, may)
        if fresh is not None:
            may = may & fresh[1]
        needing = [] if self._shares is None else self._shares.needing(place, may, self._open)
        if needing and self._shares is not None:
            may = may & self._shares.member[needing].any(axis=0)
        at, probability = self._pick(place, may, fresh)
        self._add(at, probability)
        self._open[at] = self._free[at] = False
        if self._caps.take(at):
            self._open = self._opened()
        if fresh is not None:
            self._trace(fresh[0].name, at, place, "new")
        if self._shares is not None:
            self._shares.take(at)
            for number in [each for each in needing if self._shares.member[each, at]][:1]:
                self._trace(self._facts.promotions[number].name, at, place, "promoted")

    def _fresh_at(self, place: int, may: Mask) -> tuple[Fresh, Mask] | None:
        """Return whose position for new items it is, and which are new; None = nobody's, or no new item may come."""
        for fresh, member in self._fresh:
            if place in fresh.positions:
                if (may & member).any():
                    return fresh, member
                self._trace(fresh.name, -1, place, "none")
        return None

    def _pick(self, place: int, may: Mask, fresh: tuple[Fresh, Mask] | None) -> tuple[int, float]:
        """Return who comes at a place, and how probable that was."""
        count = len(self._ranked)
        may, utility = may[:count], self._worth
        best = int(may.argmax())  # by worth alone, which is how they are ordered
        if self._unlike is not None and self._chosen:
            utility = self._worth - self._unlike.cost[:count] * self._range
            unlikest = int(np.where(may, utility, -np.inf).argmax())
            if unlikest != best:
                self._passed_over.add(best)
                best = unlikest
        if place < self._keep or isinstance(self._selector, TopK):
            return best, 1.0
        if fresh is None:
            return drawn_of(self._chances(utility, may), self._dice[place])
        rows, chances = self._apart_of(*fresh)
        at, probability = drawn_of(chances(utility[rows], may[rows]), self._dice[place])
        return int(rows[at]), probability

    def _apart_of(self, fresh: Fresh, member: Mask) -> tuple[NDArray[np.intp], Chances]:
        """Return the new candidates, best first, and what the selector makes of them alone."""
        if fresh.name not in self._apart:
            rows = np.flatnonzero(member[: len(self._ranked)])
            # Places that are kept are kept above; among the new ones each may be drawn.
            free = (
                self._selector if isinstance(self._selector, TopK) else msgspec.structs.replace(self._selector, keep=0)
            )
            self._apart[fresh.name] = rows, free.chances(self._frame, self._ranked[rows], self._worth[rows])
        return self._apart[fresh.name]

    def _trace(self, rule: str, at: int, place: int, what: str) -> None:
        item = -1 if at < 0 else int(self._facts.item_index[self._order[at]])
        self._traces.append(Trace(rule, item, place, what))

    def _afterwards(self, chosen: NDArray[np.intp]) -> Iterator[Trace]:
        """Yield what shows only in the whole slate: shares that are short, what was moved, what was dropped."""
        if self._shares is not None:
            for name, place in self._shares.short(self._chosen[: self._decided]):
                yield Trace(name, -1, place, "short")
        raw = best_first(self._score)
        place_of = {row: place for place, row in enumerate(chosen.tolist())}
        yield from self._lifted(raw, place_of)
        full = list[int]()
        if self._shares is not None and len(chosen) <= self._decided:  # behind that a most share keeps nobody out
            full = self._shares.full(min(len(chosen), self._decided - 1))
        items = self._facts.item_index
        for row in raw[: self._size].tolist():
            if row not in place_of:
                rule, what = self._dropped(int(self._at_of[row]), row, full)
                if what:
                    yield Trace(rule, int(items[row]), -1, what)
        for at in sorted(self._passed_over):
            row = int(self._order[at])
            if row in place_of:
                yield Trace(DIVERSITY, int(items[row]), place_of[row], "lowered")

    def _lifted(self, raw: NDArray[np.intp], place_of: dict[int, int]) -> Iterator[Trace]:
        """Yield what boosts did to the items of the slate: those that stand elsewhere in the order because of them."""
        if not self._facts.boosts:
            return
        moved = {row for before, row in zip(raw.tolist(), self._ranked.tolist(), strict=True) if before != row}
        for each in self._facts.boosts:
            for row, place in place_of.items():
                if each.member[row] and row in moved:
                    word = "boosted" if each.factor > 1 else "buried"
                    yield Trace(each.name, int(self._facts.item_index[row]), place, word)

    def _dropped(self, at: int, row: int, full: list[int]) -> tuple[str, str]:
        """Return which rule keeps out what is among the best by score alone, and how; empty = others came before it."""
        for cap, capped in self._caps.dropped:
            if capped[at]:
                return cap.name, "capped"
        for number in full:
            if self._facts.promotions[number].member[row]:
                return self._facts.promotions[number].name, "held"
        if at in self._passed_over:
            return DIVERSITY, "lowered"
        for each in self._facts.boosts:
            if each.factor < 1 and each.member[row]:
                return each.name, "buried"
        return "", ""


def _placed(pinned: Pinned | None, rows: Index) -> tuple[dict[int, tuple[int, str]], tuple[Trace, ...]]:
    """Return row and rule of what stands at each position, and what the filters removed."""
    if pinned is None:
        return {}, ()
    pins: dict[int, tuple[int, str]] = {}
    traces = list(pinned.traces)
    for position, item, rule in zip(pinned.positions, pinned.item_index.tolist(), pinned.rules, strict=True):
        at = np.flatnonzero(rows == item)
        if len(at):
            pins[position] = (int(at[0]), rule)
        else:
            traces.append(Trace(rule, item, position, "ineligible"))
    return pins, tuple(traces)


def _of(rulings: Iterable[Ruling[AnyRule]], kind: type[R]) -> Iterator[tuple[Ruling[AnyRule], R]]:
    """Yield the rules of one kind."""
    return ((each, each.rule) for each in rulings if isinstance(each.rule, kind))


def _member(ruling: Ruling[AnyRule], moment: Moment, rows: Index) -> Mask:
    """Return which candidates a rule is about, by its condition or its ids, (n,)."""
    if ruling.where is not None:
        return passing(ruling.where, moment, rows)
    ids = ruling.rule.items if isinstance(ruling.rule, Promote) else ()
    return np.isin(rows, moment.table(Vocabulary).item_indices(ids))


def _values(items: Items, name: str, rows: Index) -> Index | Score:
    """Return by what candidates are alike: value codes (n, w), or vectors of length 1 or 0, (n, d)."""
    if items.kind(name) in ("category", "tags"):
        return codes_of(items, name, rows)
    vectors = np.nan_to_num(items.vectors(name, rows), nan=0.0)
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    found: Score = np.zeros_like(vectors)
    np.divide(vectors, length, out=found, where=length > 0)
    return found


def codes_of(items: Items, name: str, rows: Index) -> Index:
    """Return the value codes of an attribute of some items, (n, w), -1 = none."""
    codes = items.codes(name)
    found: Index = (codes if codes.ndim > 1 else codes[:, None])[rows]
    return found
