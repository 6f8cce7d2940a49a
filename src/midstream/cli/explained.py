"""How an explanation is printed: of a logged request, and of one that was asked just now."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from midstream.cli.console import UNKNOWN, out, say, table_of

if TYPE_CHECKING:
    from midstream.app.explaining import Explained
    from midstream.ranking.explanation import ItemWhy, Proposed, SlateWhy

PARTS_SHOWN = 8
"""Of a score, in text; ``--json`` has all."""


def print_explained(found: "Explained") -> None:
    """Print why a logged request was answered as it was."""
    if found.identical:
        say(f"{found.request_id} was run again: the answer is identical to the bit")
    for each in found.differences:
        say(f"not as it was: {each.field}: then {each.then}; now {each.now}")
    if found.why is None:
        say(f"it cannot be run again; served were: {', '.join(found.slate) or 'nothing'}")
        return
    for item in found.why.items:
        print_item(item)
    for item in found.why.asked:
        print_item(item)
    print_slate(found.why)


def print_slate(why: "SlateWhy") -> None:
    """Print what led to a slate as a whole."""
    selected = f"{why.candidate_count} candidates left, {len(why.items)} served"
    say(f"session: {' → '.join(why.recent) or 'nothing'}")
    say(f"proposed: {counts(why.retrieved)}")
    say(f"removed: {counts(why.removed)}; {selected} by {why.scorer}; tier {why.tier}")
    for name, version in why.models.items():
        say(f"model: {name} {version}")
    for part, reason in why.failures.items():
        say(f"failed: {part}: {reason}")


def print_item(item: "ItemWhy") -> None:
    """Print why one item is where it is."""
    place = UNKNOWN if item.position is None else str(item.position + 1)
    score = "" if item.score is None else f"  {item.score:.5g}"
    chance = "" if item.propensity is None or item.propensity == 1 else f"  chosen with chance {item.propensity:.3g}"
    out.print(f"{place:>3}  {item.id}{score}{chance}", markup=False)
    out.print(f"     {item.because}", markup=False)
    for each in item.proposed:
        out.print(f"     {proposed_text(each)}", markup=False)
    for removed in item.removed:
        out.print(f"     removed by {removed.filter}{': ' if removed.part else ''}{removed.part}", markup=False)
    for effect in item.effects:
        out.print(f"     {effect.rule}: {effect.effect}", markup=False)
    if item.parts is not None and item.parts.parts:
        told = list(item.parts.parts.items())
        rows = [[name, f"{value:+.5g}", _value(item, name)] for name, value in told[:PARTS_SHOWN]]
        if item.parts.base:
            rows.insert(0, ["(base)", f"{item.parts.base:+.5g}", ""])
        more = len(told) - PARTS_SHOWN
        title = f"{item.parts.scorer}, {item.parts.link}" + (f", {more} more" if more > 0 else "")
        out.print(table_of(["part", "adds", "value"], rows, title))


def proposed_text(each: "Proposed") -> str:
    """Return what a source said of an item, in a line."""
    led = ", ".join(f"{one.id} ({one.share:.0%})" for one in each.led_by)
    facts = ", ".join(
        f"{name} {value:.5g}" if isinstance(value, float) else f"{name} {value}" for name, value in each.facts.items()
    )
    because = f", because of {led}" if led else ""
    return f"{each.source} {each.rank + 1}{because}{f' ({facts})' if facts else ''}"


def counts(told: Mapping[str, int]) -> str:
    """Return counts by name as text."""
    return ", ".join(f"{name} {count}" for name, count in told.items()) or "nothing"


def _value(item: "ItemWhy", name: str) -> str:
    value = item.features.get(name)
    return "" if value is None else f"{value:.5g}"
