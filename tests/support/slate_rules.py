"""Oracle of slates in plain Python: the rules once more, one item at a time.

Nothing of ``ranking`` that decides is used here. Whether a rule had to yield is asked of the slate itself: at each
place ``_Checker.may_come`` says whether an item could have come there.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import ceil, floor, isfinite

from midstream.ranking.rules.new_items import NewItems
from midstream.ranking.rules.pin import Pin
from midstream.ranking.rules.promote import Promote
from midstream.ranking.rules.rules import WORDS, AnyRule
from tests.support.slates import ITEM_COUNT, OLD_COUNT, AnsweredSlate, document


def broken(answered: AnsweredSlate) -> list[str]:
    """Return everything that is wrong with an answer; empty = nothing is."""
    return list(_Checker(answered).faults())


class _Checker:
    """The facts of one answer, in plain values: items are numbers."""

    def __init__(self, answered: AnsweredSlate) -> None:
        served = answered.served
        self._answered, self._served = answered, served
        self._candidates: list[int] = served.candidates.item_index.tolist()
        chosen: list[int] = served.selection.chosen.tolist()
        self._slate = [self._candidates[row] for row in chosen]
        self._length = len(self._slate)
        scores = dict(zip(self._candidates, served.score.tolist(), strict=True))
        self._scored = {item for item, score in scores.items() if isfinite(score)}
        self._size = served.query.slate_size
        segment = served.query.context["segment"]
        self._rules = [each for each in answered.placement.rules if _is_in_force(each, str(segment))]
        self._shares = [each for each in self._rules if isinstance(each, Promote)]
        self._pins = self._pinned()
        self._position = {item: position for position, item in self._pins.items()}
        # Up to where every pin stands at its position: there one came because nobody else could.
        places = enumerate(self._slate)
        self._end = next((place for place, item in places if self._position.get(item, place) != place), self._length)

    def faults(self) -> Iterator[str]:
        """Yield what is wrong."""
        yield from self._conservation()
        yield from self._pins_stand()
        for place, item in enumerate(self._slate):
            if item not in self._position:
                yield from self._place(place)
        if self._length < self._size:
            left = [item for item in self._candidates if self.may_come(item, self._length)]
            if left:
                yield f"the slate ends at {self._length} although {left} may come"
        for share in self._shares:
            yield from self._share(share)
        yield from self._traced()

    def eligible(self) -> set[int]:
        """Return the items that all filters let pass."""
        query, modulus = self._served.query, self._answered.shape.modulus
        excluded = {int(each[1:]) for each in query.exclude}
        return {
            number
            for number in range(ITEM_COUNT)
            if number % modulus == 0 and number not in excluded and document(number).get("available", True)
        }

    def may_come(self, item: int, place: int) -> bool:
        """Return whether an item that is no pin could come at a place, given what stands above and the pins."""
        above = self._slate[:place]
        if item in above or item in self._position or item not in self._scored:
            return False
        behind = {where: each for where, each in self._pins.items() if each not in above}
        there = [*above, *behind.values()]
        for cap in self._answered.placement.caps:
            for value in _values(item, cap.attribute):
                if sum(value in _values(each, cap.attribute) for each in there) >= cap.max:
                    return False
        return all(self._has_room(share, item, place, behind) for share in self._shares)

    def _has_room(self, share: Promote, item: int, place: int, behind: dict[int, int]) -> bool:
        """Return whether a promotion's most lets one more come at a place."""
        if not _is_promoted(share, item):
            return True
        have = sum(_is_promoted(share, each) for each in self._slate[:place]) + 1
        for k in range(place + 1, self._size + 1):
            pinned = sum(_is_promoted(share, each) for where, each in behind.items() if place < where < k)
            if have + pinned > ceil(_exact(share.max) * k):
                return False
        return True

    def _conservation(self) -> Iterator[str]:
        """Yield what disappeared, what came twice, and what may not be served."""
        served = self._served
        if served.retrieved_count != sum(served.removed.values()) + len(self._candidates):
            yield f"{served.retrieved_count} retrieved, {served.removed} removed, {len(self._candidates)} left"
        if len(set(self._candidates)) != len(self._candidates):
            yield f"a candidate is there twice: {self._candidates}"
        if len(set(self._slate)) != len(self._slate) or len(self._slate) > served.query.slate_size:
            yield f"the slate is {self._slate} where {served.query.slate_size} were asked for"
        if not set(self._candidates) <= self.eligible():
            yield f"not eligible: {sorted({*self._candidates} - self.eligible())}"
        if any(each.component != "numbers" for each in served.failures):  # which has none where all are NaN
            yield f"failed: {served.failures}"
        propensity = served.selection.propensity
        if len(propensity) != len(self._slate) or not ((propensity > 0) & (propensity <= 1)).all():
            yield f"propensities {propensity}"
        if self._answered.shape.selector == 0 and not (propensity == 1).all():
            yield f"propensities {propensity} where nothing is left to chance"
        for rule in self._rules:
            added = served.retrieved.get(rule.name, 0)
            if added and not isinstance(rule, Pin):
                yield f"{rule.name} retrieved {added}"

    def _pinned(self) -> dict[int, int]:
        """Return the eligible items that are pinned, by position."""
        taken: dict[int, int] = {}
        for rule in self._rules:
            if isinstance(rule, Pin):
                for item, position in zip((int(each[1:]) for each in rule.items), rule.positions, strict=True):
                    is_free = position not in taken and item not in taken.values()
                    if position < self._size and item < ITEM_COUNT and is_free:
                        taken[position] = item
        eligible = self.eligible()
        return {position: item for position, item in sorted(taken.items()) if item in eligible}

    def _pins_stand(self) -> Iterator[str]:
        """Yield pins that are missing, stand elsewhere though others may come, or were left to chance."""
        for position, item in self._pins.items():
            if item not in self._slate:
                yield f"{item} is pinned to {position}, and {self._slate} is without it"
                continue
            place = self._slate.index(item)
            if self._served.selection.propensity[place] != 1:
                yield f"pin {item} has propensity {self._served.selection.propensity[place]}"
            if place != position:
                others = [each for each in self._candidates if self.may_come(each, place)]
                first = min(where for where, each in self._pins.items() if each not in self._slate[:place])
                if others or place > position or position != first:
                    yield f"{item} is pinned to {position} and stands at {place} of {self._slate}: {others} may come"

    def _place(self, place: int) -> Iterator[str]:
        """Yield what is wrong with an item that is no pin."""
        item = self._slate[place]
        if not self.may_come(item, place):
            yield f"{item} may not come at {place} of {self._slate}"
        members = self._fresh(place)
        if members and item not in members:
            yield f"{place} is for new items, {members} may come, and {item} stands there"

    def _fresh(self, place: int) -> set[int]:
        """Return the new items that may come at a place which is reserved for them; empty = it is anybody's."""
        for rule in self._rules:
            if isinstance(rule, NewItems) and place in rule.positions:
                members = {each for each in self._candidates if each >= OLD_COUNT and self.may_come(each, place)}
                if members:
                    return members
        return set()

    def _share(self, share: Promote) -> Iterator[str]:
        """Yield a beginning of the slate in which a promotion has less than its least, though nothing forced that."""
        for k in range(1, self._end + 1):
            have = sum(_is_promoted(share, item) for item in self._slate[:k])
            if have >= floor(_exact(share.min) * k):
                continue
            first = [each for each in self._shares[: self._shares.index(share)] if self._need(each, self._size)]
            places = [place for place in range(k) if place not in self._pins]
            could = all(self._could(each, place) for each in (*first, share) for place in places)
            left = any(_is_promoted(share, item) and self.may_come(item, k - 1) for item in self._candidates)
            if could and left and not self._is_too_much(first, share, k):
                yield f"{share.name} has {have} of the first {k} places: {self._slate}"
            return

    def _is_too_much(self, first: list[Promote], share: Promote, k: int) -> bool:
        """Return whether those named before a promotion need so much, by ``k`` or later, that it cannot have its own.

        A place before ``k`` that it has is one less for them, whenever they need it.
        """
        own = self._need(share, k)
        for upto in range(k, self._size + 1):
            places = sum(place not in self._pins for place in range(upto))
            if own + sum(self._need(each, upto) for each in first) > places:
                return True
        return False

    def _need(self, share: Promote, k: int) -> int:
        """Return how many of the first k places a promotion needs beside its pins, as far as it has items."""
        needed, pinned = 0, 0
        for upto in range(1, k + 1):  # what a pin brings comes too late for what was needed above it
            pinned += _is_promoted(share, self._pins[upto - 1]) if upto - 1 in self._pins else 0
            needed = max(needed, floor(_exact(share.min) * upto) - pinned)
        items = [item for item in self._scored if item not in self._pins.values()]
        return min(needed, sum(_is_promoted(share, item) for item in items))

    def _could(self, share: Promote, place: int) -> bool:
        """Return whether an item of a promotion could have come at a place."""
        fresh = self._fresh(place)
        may = fresh or {item for item in self._candidates if self.may_come(item, place)}
        return any(_is_promoted(share, item) for item in may)

    def _traced(self) -> Iterator[str]:
        """Yield what was done without a trace, and traces of what was not done."""
        placement, traces = self._answered.placement, self._served.traces
        names = (
            {rule.name for rule in self._rules} | {f"caps.{cap.attribute}" for cap in placement.caps} | {"diversity"}
        )
        for trace in traces:
            if trace.rule not in names or trace.what not in WORDS:
                yield f"{trace} is of no rule in force"
        told = {(trace.what, trace.item_index, trace.position) for trace in traces}
        for place, item in enumerate(self._slate):
            is_pin = item in self._position
            if is_pin and ("pinned" if self._position[item] == place else "moved", item, place) not in told:
                yield f"nothing says that {item} is pinned to {place}"
            if not is_pin and self._fresh(place) and ("new", item, place) not in told:
                yield f"nothing says that {item} is new at {place}"
        for share in self._shares:
            counts = [sum(_is_promoted(share, item) for item in self._slate[:k]) for k in range(len(self._slate) + 1)]
            lacking = [k for k, have in enumerate(counts) if have < floor(_exact(share.min) * k)]
            if bool(lacking) != any(each.rule == share.name and each.what == "short" for each in traces):
                yield f"{share.name} is short at {lacking[:1]}, and the traces say otherwise"
        for trace in traces:
            if trace.what == "capped" and self._is_under(trace.item_index, trace.rule):
                yield f"{trace} where the cap was not reached"

    def _is_under(self, item: int, name: str) -> bool:
        """Return whether every value of an item is below its cap in the slate."""
        (cap,) = [each for each in self._answered.placement.caps if each.name == name]
        counts = [
            sum(value in _values(each, cap.attribute) for each in self._slate) for value in _values(item, cap.attribute)
        ]
        return all(count < cap.max for count in counts)


def _is_in_force(rule: AnyRule, segment: str) -> bool:
    """Return whether a rule's time has come and is not over, and the segment is its."""
    is_time = not rule.start.startswith("2039") and not rule.end.startswith("2020")
    return is_time and (rule.when is None or segment == "a")


def _is_promoted(share: Promote, item: int) -> bool:
    """Return whether a promotion is about an item."""
    if share.where is None:
        return f"i{item}" in share.items
    about = document(item)
    category, price = about.get("category"), item
    return {
        'item.category == "c0"': category == "c0",
        'item.category == "c1" or item.price < 20': category == "c1" or price < 20,
        '"t1" in item.tags': item % 3 == 0,
        "item.price >= 45": price >= 45,
        "item.fresh": item % 4 == 0,
    }[share.where]


def _values(item: int, attribute: str) -> list[object]:
    """Return the values of an item that a cap counts."""
    value = document(item).get(attribute)
    if isinstance(value, list):
        return [*value]
    return [] if value is None else [value]


def _exact(share: float) -> Fraction:
    """Return the share that a decimal number means."""
    return Fraction(str(share))
