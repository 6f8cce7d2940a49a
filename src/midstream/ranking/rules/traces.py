"""Traces of slate rules in the served record: four bytes an action, and ids of items outside of the slate."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from midstream.core.types import Served, Trace
from midstream.events.served_body import ServedBody
from midstream.ranking.rules.rules import WORDS
from midstream.state.ids.vocabulary import Vocabulary

OUTSIDE_MAX: Final = 32
"""Actions on items outside of the slate in one record: 0.4 kB for 20 items with ids of 12 characters. A rerun
computes the others."""
_ACTION: Final = Struct("<BBH")
"""Rule, word, position: a ranking has up to 1,000."""
_NOWHERE, _HAS_ID = 0xFFFF, 128
_NARROW: Final = Struct("<BBB")
"""In records before version ``_WIDE_SINCE``; 255 = nowhere."""
_WIDE_SINCE: Final = 7
_NUMBER: Final = {word: number for number, word in enumerate(WORDS)}


@dataclass(frozen=True, slots=True)
class ServedTrace:
    """Action of a rule in a served slate."""

    rule: str
    what: str
    item_id: str | None
    """None = the action is about a position alone, or about an unknown id."""
    position: int | None
    """None = the item is not in the slate."""


@dataclass(frozen=True, slots=True)
class PackedTraces:
    """The three fields of the record."""

    rules: tuple[str, ...] = ()
    actions: bytes = b""
    ids: tuple[str, ...] = ()


NO_TRACES: Final = PackedTraces()


def pack_traces(served: Served, vocabulary: Vocabulary) -> PackedTraces:
    """Return the traces of the record. Cost: 1 µs an action, and 1 µs an id.

    Args:
        served: The answer.
        vocabulary: Of the state of the answer, for ids of items outside of the slate.
    """
    if not served.traces:
        return NO_TRACES
    return packed(served.traces, served.candidates.item_index[served.selection.chosen].tolist(), vocabulary)


def packed(traces: Iterable[Trace], slate: Sequence[int], vocabulary: Vocabulary) -> PackedTraces:
    """Return the traces of a record whose slate has the items ``slate``, by their number in the vocabulary."""
    rules: dict[str, int] = {}
    actions = bytearray()
    ids: list[str] = []
    for each in traces:
        is_there = 0 <= each.position < len(slate) and slate[each.position] == each.item_index
        if not is_there and len(ids) == OUTSIDE_MAX:
            continue
        if not is_there:
            ids.append(vocabulary.item_id(each.item_index) if each.item_index >= 0 else "")
        position = each.position if each.position >= 0 else _NOWHERE
        rule = rules.setdefault(each.rule, len(rules))
        actions += _ACTION.pack(rule, _NUMBER[each.what] + _HAS_ID * (not is_there), position)
    return PackedTraces(tuple(rules), bytes(actions), tuple(ids))


def unpack_traces(told: ServedBody) -> tuple[ServedTrace, ...]:
    """Return the traces of a record."""
    return tuple(_unpacked(told))


def _unpacked(told: ServedBody) -> Iterator[ServedTrace]:
    """Yield the actions in their order."""
    action, nowhere = (_ACTION, _NOWHERE) if told.version >= _WIDE_SINCE else (_NARROW, 255)
    others = iter(told.trace_ids)
    actions: Iterator[tuple[int, int, int]] = action.iter_unpack(told.traces)
    for rule, word, position in actions:
        item_id = next(others) or None if word >= _HAS_ID else told.ids[position]
        at = None if position == nowhere else position
        yield ServedTrace(told.trace_rules[rule], WORDS[word % _HAS_ID], item_id, at)
