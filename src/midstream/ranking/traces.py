"""What the rules of a slate did, in the served record: three bytes an action, and ids of what is not in the slate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from midstream.core.types import Served
from midstream.events.served_body import ServedBody
from midstream.ranking.rules import WORDS
from midstream.state.vocabulary import Vocabulary

OUTSIDE_MAX: Final = 32
"""Actions on items that are not in the slate, in one record: of 20 items with ids of 12 characters 0.4 kB. What is
behind them a rerun computes."""
_NOWHERE, _HAS_ID = 255, 128
_NUMBER: Final = {word: number for number, word in enumerate(WORDS)}


@dataclass(frozen=True, slots=True)
class ServedTrace:
    """What a rule did, as it was served."""

    rule: str
    what: str
    item_id: str | None
    """None = it is about a position alone, or about an id that nobody knew."""
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
    """Return what goes into the record. Cost: 1 µs an action, and 1 µs an id.

    Args:
        served: What was answered.
        vocabulary: Of the state that answered, for ids of items that are not in the slate.
    """
    if not served.traces:
        return NO_TRACES
    slate = served.candidates.item_index[served.selection.chosen].tolist()
    rules: dict[str, int] = {}
    actions = bytearray()
    ids: list[str] = []
    for each in served.traces:
        is_there = 0 <= each.position < len(slate) and slate[each.position] == each.item_index
        if not is_there and len(ids) == OUTSIDE_MAX:
            continue
        if not is_there:
            ids.append(vocabulary.item_id(each.item_index) if each.item_index >= 0 else "")
        position = each.position if each.position >= 0 else _NOWHERE
        actions += bytes(
            (rules.setdefault(each.rule, len(rules)), _NUMBER[each.what] + _HAS_ID * (not is_there), position)
        )
    return PackedTraces(tuple(rules), bytes(actions), tuple(ids))


def unpack_traces(told: ServedBody) -> tuple[ServedTrace, ...]:
    """Return what a record says of the rules of its slate."""
    return tuple(_unpacked(told.trace_rules, told.traces, told.ids, told.trace_ids))


def _unpacked(
    rules: Sequence[str], actions: bytes, slate: Sequence[str], outside: Sequence[str]
) -> Iterator[ServedTrace]:
    """Yield the actions in their order."""
    others = iter(outside)
    for start in range(0, len(actions), 3):
        rule, word, position = actions[start : start + 3]
        item_id = next(others) or None if word >= _HAS_ID else slate[position]
        yield ServedTrace(rules[rule], WORDS[word % _HAS_ID], item_id, None if position == _NOWHERE else position)
