"""Arrangement of a slate: its rules, applied position by position with any built-in selector.

At each position the rules decide which candidates are allowed and how large the penalty of similarity is; the
placement's selector chooses or draws among these. So a propensity is the probability of an item given the earlier
positions and the rules of the slate.

Precedence: eligibility > pins > caps and maximum shares > positions for new items > minimum shares > diversity >
boosts. Eligibility was decided before. A pin is placed, and counts for later positions. Disallowed candidates are
removed. Among the rest, positions for new items, then minimum shares, narrow the choice where that leaves any
candidate. Diversity and boosts only change the worth. ``docs/rules.md`` has the cases where two rules cannot both hold.

In a slate of more than ``DECIDED_MAX`` positions the first ones are decided so, and equal those of a slate of
``DECIDED_MAX``. The others follow in order of worth, as far as caps and pins allow, without randomness.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from midstream.core.types import Candidates, FeatureFrame, Index, Mask, Moment, Query, Score, Selection, Trace
from midstream.ranking.rules.boost import Boost, Boosted, lifted, worth_of
from midstream.ranking.rules.calibration import RULE as CALIBRATED
from midstream.ranking.rules.calibration import CalibratedSelector, Taste, taste_of
from midstream.ranking.rules.cap import Cap, Caps, served_before
from midstream.ranking.rules.diversity import RULE as DIVERSITY
from midstream.ranking.rules.diversity import Diversity, range_of
from midstream.ranking.rules.in_force import Ruling, Stated, passing
from midstream.ranking.rules.new_items import Fresh, NewItems, is_new
from midstream.ranking.rules.pin import Pin, Pinned
from midstream.ranking.rules.place_best import Best, is_enough
from midstream.ranking.rules.place_ruled import Ruled
from midstream.ranking.rules.place_whole import is_plain, placed
from midstream.ranking.rules.promote import Promote, Promoted, Shares
from midstream.ranking.rules.rules import AnyRule, CandidateFacts
from midstream.ranking.rules.slate_candidates import Lineup
from midstream.ranking.selectors.selecting import Choosing
from midstream.ranking.selectors.top_k import Real, TopK, best_first
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.users.recent_items import last_acts

ARRANGEMENT: Final = "arrangement"
"""Name of the arrangement in failures: where its columns cannot be read, a slate is chosen without rules."""
DECIDED_MAX: Final = 100
"""Positions that are decided one by one: the maximum of recommendations. 100 of them take 8 ms for 1,000 candidates
with a determinant of tags; all 1,000 positions of a ranking would take a second, since each reads all positions
above it."""
R = TypeVar("R", bound=Stated)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The rules of a placement's slates."""

    caps: tuple[Cap, ...] = ()
    diversity: Diversity | None = None
    rules: tuple[Ruling[AnyRule], ...] = ()
    """In the order of the file. Pins among them were read before (``rule_pin.Pins``)."""
    calibrated: CalibratedSelector | None = None
    """In place of ``diversity``."""

    @property
    def reads_served(self) -> bool:
        """Whether a cap is over a time."""
        return any(cap.within is not None for cap in self.caps)

    def read(self, moment: Moment, candidates: Candidates, pinned: Pinned | None = None) -> CandidateFacts:
        """Return the candidates' columns for the rules in force.

        Args:
            moment: The state.
            candidates: Those that passed the filters.
            pinned: Pinned items, whether they passed the filters or not.

        Returns:
            Facts, row for row. Cost: 10 µs an attribute and a rule of 500 candidates, 50 µs of vectors of 64.
        """
        items, rows = moment.table(Items), candidates.item_index
        pins, traces = _placed(pinned, rows)
        codes = {cap.attribute: codes_of(items, cap.attribute, rows) for cap in self.caps}
        in_force = [each for each in self.rules if not isinstance(each.rule, Pin) and each.is_in_force(moment)]
        return CandidateFacts(
            item_index=rows,
            capped=tuple(codes[cap.attribute] for cap in self.caps),
            before=tuple(served_before(cap, moment) for cap in self.caps) if self.reads_served else (),
            values=None if self.diversity is None else _values(items, self.diversity.attribute, rows, codes),
            taste=None if self.calibrated is None else _taste(self.calibrated, moment, rows),
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

    def select(
        self, selector: Choosing, query: Query, frame: FeatureFrame, score: Score, facts: CandidateFacts
    ) -> Selection:
        """Return at most ``query.slate_size`` rows, chosen by the selector among those that the rules allow.

        Args:
            selector: Returns the probability of each row at a position.
            query: With the size of the slate and the seed.
            frame: Columns for the selector.
            score: Of each row, NaN = none: such a row is placed only where it is pinned.
            facts: From ``read``, of the same rows.

        Returns:
            The rows, the probability of each given those before, and the actions of the rules. Fewer rows than
            requested where each remaining one would break a cap or a maximum share. Cost: a position takes the time in
            the table of docs/rules.md, 2 µs after ``DECIDED_MAX``.
        """
        if facts.is_idle:
            chosen = selector.select(query, frame, score)
            return Selection(chosen.chosen, chosen.propensity, facts.traces)
        if isinstance(selector, TopK) and query.slate_size <= DECIDED_MAX and is_plain(facts, self.diversity):
            return placed(self.caps, self.diversity, score, facts, query.slate_size)
        return _Slate(self, selector, query, frame, score, facts).made()


class _Slate:
    """One slate while it is made."""

    def __init__(
        self,
        arrangement: Arrangement,
        selector: Choosing,
        query: Query,
        frame: FeatureFrame,
        score: Score,
        facts: CandidateFacts,
    ) -> None:
        self._facts, self._size, self._decided = facts, query.slate_size, min(query.slate_size, DECIDED_MAX)
        worth = worth_of(score, facts.boosts)
        self._order = ranked = best_first(worth)
        if facts.pins:
            pinned_rows = np.array([facts.pins[place][0] for place in sorted(facts.pins)], dtype=np.intp)
            unscored = pinned_rows[~np.isfinite(worth[pinned_rows])]
            self._order = np.concatenate((ranked, unscored))
        self._raw: Sequence[int] = range(len(ranked))
        """Those that have a score, best first by it alone."""
        self._pins: dict[int, int] = {}
        if facts.boosts or facts.pins:
            at_of = np.full(len(score), -1, dtype=np.intp)
            at_of[self._order] = np.arange(len(self._order))
            self._raw = at_of[best_first(score)].tolist() if facts.boosts else self._raw
            self._pins = {place: int(at_of[row]) for place, (row, _) in sorted(facts.pins.items())}
        self._caps = Caps(arrangement.caps, facts.capped, self._order, self._pins.values(), facts.before)
        self._shares = None
        if facts.promotions:
            self._shares = Shares(facts.promotions, self._order, self._pins, self._decided)
        self._chosen: list[int] = []
        self._propensity: list[float] = []
        self._traces = list(facts.traces)
        penalty = arrangement.calibrated or arrangement.diversity
        self._lowering = DIVERSITY if arrangement.calibrated is None else CALIBRATED
        lineup = self._lineup(penalty, worth[ranked])
        self._places: Best | Ruled
        if is_enough(lineup, arrangement.diversity, selector):
            self._places = Best(lineup)
        else:
            self._places = Ruled(lineup, penalty, selector, frame, query.seed, self._trace)

    def _lineup(self, penalty: Diversity | CalibratedSelector | None, worth: Real) -> Lineup:
        """Return the candidates from which positions are filled."""
        whole = 0.0
        if penalty is not None:
            weight = penalty.odds if isinstance(penalty, CalibratedSelector) else penalty.weight
            whole = range_of(worth, np.arange(len(worth))) * weight
        return Lineup(
            facts=self._facts,
            order=self._order,
            worth=worth,
            pins=self._pins,
            size=self._decided,
            caps=self._caps,
            shares=self._shares,
            whole=whole,
        )

    def made(self) -> Selection:
        """Return the slate."""
        for place in range(self._decided):
            if place in self._pins:
                self._put(place, place, "pinned")
            elif (found := self._places.choose(place)) is not None:
                self._add(*found)
            elif not self._moved(place):
                break
            self._places.above(self._chosen[-1])
        else:
            self._follow()
        chosen = self._order[self._chosen]
        self._traces.extend(self._afterwards())
        return Selection(chosen, np.array(self._propensity, dtype=np.float32), tuple(self._traces))

    def _follow(self) -> None:
        """Place rows after the decided positions: the best remaining ones, as far as caps and pins allow."""
        gone = {*self._chosen, *self._pins.values()}
        rest = iter([at for at in range(len(self._raw)) if at not in gone] if self._decided < self._size else [])
        for place in range(self._decided, self._size):
            if place in self._pins:
                self._put(place, place, "pinned")
                continue
            # Who was passed over is capped, and caps only get fuller.
            at = next((each for each in rest if self._caps.full_for(each) is None), None)
            if at is not None:
                self._add(at, 1.0)
                self._caps.take(at)
            elif not self._moved(place):
                break

    def _moved(self, place: int) -> bool:
        """Place the next pin where no other candidate is allowed; False = there is no pin, and the slate ends.

        After it others may be allowed again, as a longer slate has more room for the maximum of a promotion.
        """
        behind = next((each for each in self._pins if each > place), None)
        if behind is None:
            return False
        self._put(behind, place, "moved")
        self._pins = {place if each == behind else each: at for each, at in self._pins.items()}
        if self._shares is not None:
            self._shares.pinned(self._pins)
        return True

    def _put(self, pinned_at: int, place: int, what: str) -> None:
        """Put a pin at a place; it was counted before the first place."""
        at = self._pins[pinned_at]
        self._trace(self._facts.pins[pinned_at][1], at, place, what)
        self._add(at, 1.0)

    def _add(self, at: int, probability: float) -> None:
        self._chosen.append(at)
        self._propensity.append(probability)

    def _trace(self, rule: str, at: int, place: int, what: str) -> None:
        self._traces.append(Trace(rule, -1 if at < 0 else self._item(at), place, what))

    def _item(self, at: int) -> int:
        return int(self._facts.item_index[self._order[at]])

    def _afterwards(self) -> Iterator[Trace]:
        """Yield actions that depend on the whole slate: missed shares, moved and dropped items."""
        if self._shares is not None:
            for name, place in self._shares.short(self._chosen[: self._decided]):
                yield Trace(name, -1, place, "short")
        place_of = {at: place for place, at in enumerate(self._chosen)}
        if self._facts.boosts:
            items: list[int] = self._facts.item_index[self._order].tolist()
            yield from lifted(self._facts.boosts, self._raw, self._chosen, (items, self._order))
        full = list[int]()
        if self._shares is not None and len(place_of) <= self._decided:  # behind that a most share keeps nobody out
            full = self._shares.full(min(len(place_of), self._decided - 1))
        for at in self._raw[: self._size]:
            if at not in place_of:
                rule, what = self._dropped(at, full)
                if what:
                    yield Trace(rule, self._item(at), -1, what)
        for at in sorted(self._places.passed_over & place_of.keys()):
            yield Trace(self._lowering, self._item(at), place_of[at], "lowered")

    def _dropped(self, at: int, full: list[int]) -> tuple[str, str]:
        """Return the rule that keeps out one of the best by score alone, and its action; empty = it was outranked."""
        cap, row = self._caps.full_for(at), self._order[at]
        if cap is not None:
            return cap.name, "capped"
        for number in full:
            if self._facts.promotions[number].member[row]:
                return self._facts.promotions[number].name, "held"
        if at in self._places.passed_over:
            return self._lowering, "lowered"
        for each in self._facts.boosts:
            if each.factor < 1 and each.member[row]:
                return each.name, "buried"
        return "", ""


def _placed(pinned: Pinned | None, rows: Index) -> tuple[dict[int, tuple[int, str]], tuple[Trace, ...]]:
    """Return row and rule of each pinned position, and the removals of the filters."""
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


def _values(items: Items, name: str, rows: Index, codes: Mapping[str, Index]) -> Index | Score:
    """Return the columns of similarity: value codes (n, w), or vectors of length 1 or 0, (n, d).

    Codes that caps have read are not read again.
    """
    if name in codes:
        return codes[name]
    if items.kind(name) in ("category", "tags"):
        return codes_of(items, name, rows)
    vectors = np.nan_to_num(items.vectors(name, rows), nan=0.0)
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    found: Score = np.zeros_like(vectors)
    np.divide(vectors, length, out=found, where=length > 0)
    return found


def _taste(calibrated: CalibratedSelector, moment: Moment, rows: Index) -> Taste | None:
    """Return the shares of categories in the last acts of the asking user or session."""
    items = moment.table(Items)
    acted, weight = last_acts(moment, {}, calibrated.acts)
    return taste_of(codes_of(items, calibrated.attribute, rows), codes_of(items, calibrated.attribute, acted), weight)


def codes_of(items: Items, name: str, rows: Index) -> Index:
    """Return the value codes of an attribute of some items, (n, w), -1 = none."""
    codes = items.codes(name)
    found: Index = codes[rows]
    return found if found.ndim > 1 else found[:, None]
