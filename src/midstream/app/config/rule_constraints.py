"""Constraints of slate rules: times in order, positions that exist, shares that fit together.

Whether two rules are ever in force together is known where neither has a ``when``: then what they cannot both have is a
fault. Where one has, it is decided in each request by the order of the file.
"""

from collections.abc import Iterator, Sequence

from midstream.app.config.bounds import listed
from midstream.app.config.schema import Custom, Placement
from midstream.core.errors import Fault
from midstream.ranking.rules.boost import Boost
from midstream.ranking.rules.calibration import RULE as CALIBRATED
from midstream.ranking.rules.diversity import RULE as DIVERSITY
from midstream.ranking.rules.in_force import Stated, span_ms, time_ms
from midstream.ranking.rules.new_items import NewItems
from midstream.ranking.rules.pin import Pin
from midstream.ranking.rules.promote import Promote
from midstream.ranking.rules.rules import AnyRule
from midstream.ranking.selectors.thompson import Thompson

PAGE = "/docs/rules.md"
_SHARES_ROUNDING = 1e-9
_TIME = 'An RFC 3339 time with a zone, such as "2026-11-27T00:00:00Z".'


def rule_faults(placement: Placement, where: str) -> Iterator[Fault]:
    """Yield the faults of a placement's rules, without those of their texts (``app.config.expressions``)."""
    where = f"{where}.rules"
    rules = placement.rules
    if rules and isinstance(placement.selector, Custom):
        came = "Rules came beside a selector of your own, which cannot say how probable what is left is."
        yield Fault(where, came, "top_k, plackett_luce, epsilon_greedy or thompson, or without them.", PAGE)
    taken = {each.name for each in placement.sources if not isinstance(each, Custom)}
    taken |= {DIVERSITY, CALIBRATED, "catalogue"}
    for number, rule in enumerate(rules):
        place = f"{where}[{number}]"
        if rule.name in taken:
            came = f'"{rule.name}" is the name of a source or rule already.'
            yield Fault(f"{place}.name", came, "A name of its own.", PAGE)
        taken.add(rule.name)
        yield from _stated(rule, place)
        yield from _rule(placement, rule, place)
    yield from _together(rules, where)


def _stated(rule: Stated, place: str) -> Iterator[Fault]:
    """Yield the faults of the common fields of rules."""
    is_read = True
    for name, text in (("start", rule.start), ("end", rule.end)):
        try:
            if text:
                time_ms(text)
        except ValueError:
            is_read = False
            yield Fault(f"{place}.{name}", f'"{text[:60]}" came.', _TIME, PAGE)
    if is_read and rule.start and rule.end:
        start_ms, end_ms = span_ms(rule)
        if end_ms <= start_ms:
            yield Fault(f"{place}.end", f'"{rule.end}" is not after start, "{rule.start}".', "A later time.", PAGE)


def _rule(placement: Placement, rule: AnyRule, place: str) -> Iterator[Fault]:
    """Yield the faults of the fields of a rule's kind."""
    match rule:
        case Pin():
            yield from _positions(placement, rule.positions, place)
            if len(rule.items) != len(rule.positions):
                came = f"{len(rule.items)} items and {len(rule.positions)} positions came."
                yield Fault(f"{place}.positions", came, "A position for each item.", PAGE)
            for item in sorted({each for each in rule.items if rule.items.count(each) > 1}):
                yield Fault(f"{place}.items", f'"{item}" is there twice.', "Each item once.", PAGE)
        case Boost():
            if rule.factor == 1:
                yield Fault(f"{place}.factor", "1 came, which changes nothing.", "Above 1, or below.", PAGE)
            if isinstance(placement.selector, Thompson):
                came = "A boost came beside thompson, which goes by rates alone."
                yield Fault(place, came, "Another selector, or a promotion.", PAGE)
        case Promote():
            yield from _promotion(rule, place)
        case NewItems():
            yield from _positions(placement, rule.positions, place)


def _promotion(rule: Promote, place: str) -> Iterator[Fault]:
    """Yield the faults of the items and shares of a promotion."""
    if (rule.where is None) == (not rule.items):
        came = "Neither where nor items came." if rule.where is None else "Both where and items came."
        yield Fault(place, came, "One of them.", PAGE)
    if rule.min > rule.max:
        came = f"{rule.min} is more than max, {rule.max}."
        yield Fault(f"{place}.min", came, f"At most {rule.max}.", PAGE)
    if rule.min == 0 and rule.max == 1:
        yield Fault(place, "min is 0 and max is 1, which changes nothing.", "A min above 0 or a max below 1.", PAGE)


def _positions(placement: Placement, positions: Sequence[int], place: str) -> Iterator[Fault]:
    """Yield the faults of positions."""
    where = f"{place}.positions"
    for position in sorted({each for each in positions if positions.count(each) > 1}):
        yield Fault(where, f"{position} is there twice.", "Each position once.", PAGE)
    wrong = [each for each in positions if not 0 <= each < placement.slate_size_max]
    if wrong:
        right = f"From 0, the top, to {placement.slate_size_max - 1}, below slate_size_max."
        yield Fault(where, f"{listed(map(str, wrong))} came.", right, PAGE)


def _together(rules: Sequence[AnyRule], where: str) -> Iterator[Fault]:
    """Yield conflicts between rules that are certainly in force at one time."""
    spans = [_span(rule) for rule in rules]
    for number, rule in enumerate(rules):
        for before in range(number):
            one, other = spans[number], spans[before]
            if one is None or other is None or max(one[0], other[0]) >= min(one[1], other[1]):
                continue
            yield from _both(rules[before], rule, f"{where}[{number}]")
    # Sums change only where a rule begins.
    for begin in sorted({span[0] for span in spans if span is not None}):
        least = [
            rule
            for rule, span in zip(rules, spans, strict=True)
            if isinstance(rule, Promote) and span is not None and span[0] <= begin < span[1]
        ]
        if sum(each.min for each in least) > 1 + _SHARES_ROUNDING:
            came = f"The min of {listed(each.name for each in least)} are {sum(each.min for each in least):g} together."
            yield Fault(where, came, "At most 1 at any time.", PAGE)
            return


def _span(rule: AnyRule) -> tuple[int, int] | None:
    """Return the time in which a rule is in force for every request; None = unknown, or it depends on the request."""
    try:
        return None if rule.when is not None else span_ms(rule)
    except ValueError:
        return None


def _both(one: AnyRule, other: AnyRule, place: str) -> Iterator[Fault]:
    """Yield conflicts of two rules, when they are in force together."""
    if not isinstance(one, Pin | NewItems) or not isinstance(other, Pin | NewItems):
        return
    if twice := sorted({*one.positions} & {*other.positions}):
        came = f"{listed(map(str, twice))} has the rule {one.name} already."
        yield Fault(f"{place}.positions", came, "Another position, or another time.", PAGE)
    if isinstance(one, Pin) and isinstance(other, Pin) and (same := sorted({*one.items} & {*other.items})):
        came = f"{listed(same)} has the rule {one.name} already."
        yield Fault(f"{place}.items", came, "Another item, or another time.", PAGE)
