"""Printed form of explanations, of logged requests and of new ones."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING

from midstream.cli.console import UNKNOWN, out, say, score_text, table_of
from midstream.cli.features.now import time_text

if TYPE_CHECKING:
    from midstream.core.answers.explanations import Effect, Explained, ItemWhy, Proposed, SlateWhy

COLUMNS = 100
"""Of a line that no terminal shows, where ids are not longer: a window beside another."""
_HEAD = ("#", "item", "score", "proposed by", "because of", "rules")
_LEAST = (inf, inf, inf, 14, 12, 12)
"""Minimum width of each column that is cut, the widest first, where a line would be longer; ids and numbers are
never cut."""
_NAMED = 2
"""Number of an item's sources in its line."""
PARTS_SHOWN = 8
"""Of a score, in text; ``--json`` has all."""
_TIME_MS_MIN = 315_360_000_000
"""Ten years. Milliseconds of a fact that are more are a time (the end of 1979), fewer a length: no shop is so old."""
_LENGTHS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


def print_explained(found: "Explained") -> None:
    """Print the explanation of a logged request: a line an item, then all details of the named items."""
    if found.identical:
        say(f"{found.request_id} was run again: the answer is identical to the bit")
    for each in found.differences:
        say(f"not as it was: {each.field}: then {each.then}; now {each.now}")
    if found.took_us is not None:
        say(f"it took {found.took_us / 1_000:,.1f} ms")
    if found.continues:
        say(f"it reads on in the order of {found.continues}: midstream explain {found.continues} says why")
    if found.why is None and found.identical:
        say(f"served were: {', '.join(found.slate) or 'nothing'}")
        return
    if found.why is None:
        say(f"it cannot be run again; served were: {', '.join(found.slate) or 'nothing'}")
        return
    print_why(found.why, "--item")


def print_why(why: "SlateWhy", option: str) -> None:
    """Print a line for each item of a slate, all details of the named items, and the evidence of the whole slate.

    Args:
        why: The explanation.
        option: Of the command that names an item.
    """
    if why.items:
        for line in lines_of(why.items, out.width if out.is_terminal else COLUMNS):
            out.print(line, markup=False)
    for item in why.asked:
        print_item(item)
    print_slate(why)
    if why.items and not why.asked:
        say(f"all of one item, in the slate or not: {option} ID")


def lines_of(items: "Sequence[ItemWhy]", columns: int = COLUMNS) -> list[str]:
    """Return a line for each item of a slate below a line of headings; ids and numbers are never cut.

    Args:
        items: In the order of the slate.
        columns: Allowed columns.
    """
    rows = [_HEAD, *(_cells(item) for item in items)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > columns:
        room, widest = max(
            (width - least, number) for number, (width, least) in enumerate(zip(widths, _LEAST, strict=True))
        )
        if room <= 0:
            break
        widths[widest] -= 1
    return [
        "  ".join(
            _fitting(cell, width).rjust(width) if name in {"#", "score"} else _fitting(cell, width).ljust(width)
            for name, cell, width in zip(_HEAD, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _cells(item: "ItemWhy") -> tuple[str, ...]:
    """Return the cells of an item's line."""
    named = ", ".join(f"{each.source} {each.rank + 1}" for each in item.proposed[:_NAMED])
    more = f" +{len(item.proposed) - _NAMED}" if len(item.proposed) > _NAMED else ""
    place = UNKNOWN if item.position is None else str(item.position + 1)
    score = UNKNOWN if item.score is None else score_text(item.score)
    return place, item.id, score, f"{named}{more}", _because(item), ", ".join(map(_short, item.effects))


def _because(item: "ItemWhy") -> str:
    """Return the user's item with the largest share, by the source with the best rank that has evidence."""
    for each in item.proposed:
        if each.led_by:
            return f"{each.led_by[0].id} ({each.led_by[0].share:.0%})"
    return next((fact_text(*fact) for each in item.proposed for fact in each.facts.items()), "")


def _fitting(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _short(effect: "Effect") -> str:
    if effect.factor is not None:
        return f"{effect.rule} ×{effect.factor:g}"
    if effect.penalty is not None:
        return f"{effect.rule} −{effect.penalty:.2g}"
    return f"{effect.rule} {effect.effect}"


def effect_text(effect: "Effect") -> str:
    """Return the effect of a rule on an item, in a line."""
    if effect.before is not None and effect.after is not None:
        told = f"{effect.effect} by {effect.factor:g}, from {effect.before:.5g} to {effect.after:.5g}"
    elif effect.penalty is not None:
        told = f"{effect.effect} by {effect.penalty:.5g}, like {effect.like} ({effect.likeness:.0%})"
    else:
        told = effect.effect
    return f"{effect.rule}: {told}"


def print_slate(why: "SlateWhy") -> None:
    """Print the inputs of a slate."""
    selected = f"{why.candidate_count} candidates left, {len(why.items)} served"
    say(f"session: {' → '.join(why.recent) or 'nothing'}")
    say(f"proposed: {counts(why.retrieved)}")
    say(f"removed: {counts(why.removed)}; {selected} by {why.scorer}; tier {why.tier}")
    for name, version in why.models.items():
        say(f"model: {name} {version}")
    for part, reason in why.failures.items():
        say(f"failed: {part}: {reason}")
    for part, reason in why.unexplained.items():
        say(f"not explained, since it failed when asked again: {part}: {reason}")


def print_item(item: "ItemWhy") -> None:
    """Print why one item is where it is."""
    place = UNKNOWN if item.position is None else str(item.position + 1)
    score = "" if item.score is None else f"  {item.score:.5g}"
    chance = "" if item.propensity is None or item.propensity == 1 else f"  chosen with chance {item.propensity:.3g}"
    out.print(f"{place:>3}  {item.id}{score}{chance}", markup=False)
    out.print(f"     {item.because}", markup=False)
    for each in item.proposed:
        out.print(f"     {proposed_text(each)}", markup=False)
    for removed in item.removed[1 if item.outcome == "removed" else 0 :]:  # the first stands in `because`
        out.print(f"     removed by {removed.filter}{': ' if removed.part else ''}{removed.part}", markup=False)
    for line in map(effect_text, item.effects):
        if line != item.because:
            out.print(f"     {line}", markup=False)
    if item.parts is not None and item.parts.parts:
        told = list(item.parts.parts.items())
        rows = [[name, _added(value), _value(item, name)] for name, value in told[:PARTS_SHOWN]]
        if item.parts.base:
            rows.insert(0, ["(base)", _added(item.parts.base), ""])
        columns = ["part", "adds", "value"]
        if not any(value for *_, value in rows):
            columns, rows = columns[:2], [row[:2] for row in rows]
        more = len(told) - PARTS_SHOWN
        title = f"{item.parts.scorer}, {item.parts.link}" + (f", {more} more" if more > 0 else "")
        out.print(table_of(columns, rows, title))


def proposed_text(each: "Proposed") -> str:
    """Return the proposal of an item by a source, in a line."""
    led = ", ".join(f"{one.id} ({one.share:.0%})" for one in each.led_by)
    facts = ", ".join(fact_text(name, value) for name, value in each.facts.items())
    because = f", because of {led}" if led else ""
    return f"{each.source} {each.rank + 1}{because}{f' ({facts})' if facts else ''}"


def fact_text(name: str, value: str | float | None) -> str:
    """Return a count of a source as text: milliseconds as a length or a time.

    Example:
        >>> fact_text("age_ms", 30_817_326), fact_text("last_ms", 1_700_000_000_000), fact_text("heat", 3.14159265)
        ('age 8.6 h', 'last 2023-11-14 22:13:20 UTC', 'heat 3.1416')
    """
    if value is None:
        return f"{name} {UNKNOWN}"
    if isinstance(value, str):
        return f"{name} {value}"
    if name.endswith("_ms"):
        return f"{name.removesuffix('_ms')} {time_text(int(value)) if value >= _TIME_MS_MIN else length_text(value)}"
    return f"{name} {value}" if isinstance(value, int) else f"{name} {value:.5g}"


def length_text(ms: float) -> str:
    """Return a length of time in the largest unit of which it has one.

    Example:
        >>> length_text(30_817_326), length_text(259_200_000), length_text(12)
        ('8.6 h', '3 d', '12 ms')
    """
    for unit_ms, name in _LENGTHS:
        if abs(ms) >= unit_ms:
            return f"{round(ms / unit_ms, 1):g} {name}"
    return f"{ms:g} ms"


def _added(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:+.5g}"


def counts(told: Mapping[str, int]) -> str:
    """Return counts by name as text."""
    return ", ".join(f"{name} {count}" for name, count in told.items()) or "nothing"


def _value(item: "ItemWhy", name: str) -> str:
    value = item.features.get(name)
    return "" if value is None else f"{value:.5g}"
