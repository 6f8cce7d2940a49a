"""Expression language of filters, boosts, promotions, segments, request filters and features.

A text is parsed, type-checked and bounded once. Its meaning is one column of ``state.expressions.program``, read by the
block that reads declared features. So a text may name everything that a feature can read, and one evaluator is used
live, in a rerun and as of a past moment.

A *condition* passes where it is known to be true: a comparison with a missing operand is unknown, and ``and``, ``or``,
``not`` follow Kleene (``features.expressions.values``). A *number* is NaN where any operand is missing, except in
``if_nan``. A *segment* is a condition on the request, evaluated once a request.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from midstream.core.errors import Fault
from midstream.core.types import Candidates, Index, Mask, Moment
from midstream.events.faults import shown
from midstream.features.declared import DeclaredFeatures, block_of
from midstream.features.expressions.costs import compares_candidates, cost_of, is_of_items
from midstream.features.expressions.names import (
    COLUMNS,
    CONTEXT,
    COUNTS,
    ITEM,
    NOW,
    USER,
    Names,
    Scope,
    resolved,
    size_of,
)
from midstream.features.expressions.reading import Text, read_text
from midstream.features.expressions.tree import PAGE
from midstream.features.expressions.values import WORDS, Kind
from midstream.state.expressions.program import Columns, Expression
from midstream.state.expressions.program_kernel import ProgramTables, steps_of

STEPS_MAX = 800
"""Of a text, written out with all that it names. The longest text of 64 values has about 400; comparing two goes down
half as far at most, and Python allows 1,000 calls in one another."""


@dataclass(frozen=True, slots=True)
class Use:
    """Names that a text may use, and its maximum cost."""

    scopes: frozenset[Scope]
    cost_us_max: float
    """For 500 candidates."""


PLACEMENT: Final = Use(frozenset((ITEM, COUNTS, CONTEXT, USER, NOW, COLUMNS)), 4_000.0)
"""Of a placement's filters and rules, whose author accepts their cost: the most expensive feature, or a dozen
others."""
SEGMENT: Final = Use(frozenset((CONTEXT, USER, NOW, COLUMNS)), 1_000.0)
"""Of conditions on the request as a whole: they name no item, nor a column of items."""
REQUEST: Final = Use(frozenset((ITEM, CONTEXT, NOW)), 600.0)
"""Of a request's own filter, whose author may be a visitor: only the catalogue and the request itself, so that a
visitor cannot find out profiles and sales from the answers. 64 values are 21 tests for a tag, the most expensive
test, at 20 µs."""

_ONE: Final[Index] = np.array([-1], dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition, checked and ready to be evaluated."""

    text: str
    block: DeclaredFeatures
    """Its one column: 1 = true, 0 = false, NaN or 1/2 = unknown."""
    context: Mapping[str, Kind]
    """The context names that it reads."""
    is_of_items: bool
    """Whether the answer can differ from item to item."""
    names: Names = field(compare=False, repr=False)
    """Names with which it was compiled, so that a part of it can be compiled by itself."""

    def faults(self, context: Mapping[str, object]) -> tuple[Fault, ...]:
        """Return the faults of a request's context; a missing name is no fault, but unknown."""
        return _context_faults(self.text, self.context, context)

    def passes(self, moment: Moment, item_index: Index) -> Mask:
        """Return True for each item for which the condition is known to be true.

        Args:
            moment: The state, and the request, whose context must be free of ``faults``.
            item_index: The candidates, shape (n,); all values of -1, an unknown item, are missing.

        Returns:
            Shape (n,). About 10 µs and 5 µs a comparison at 500 candidates.

        Raises:
            Exception: As raised by a reader. The caller lets no item pass then.
        """
        if not self.is_of_items:
            return np.full(len(item_index), self.holds(moment))
        found: Mask = self.block.read(moment, _candidates(item_index))[:, 0] == 1.0
        return found

    def holds(self, moment: Moment) -> bool:
        """Return whether a condition that is not of items is known to be true."""
        return bool(self.block.read(moment, _candidates(_ONE))[0, 0] == 1.0)


@dataclass(frozen=True, slots=True)
class NumberExpression:
    """A number, checked and ready to be evaluated."""

    text: str
    block: DeclaredFeatures
    """Its one column."""
    context: Mapping[str, Kind]
    """The context names that it reads."""
    steps: ProgramTables = field(compare=False, repr=False)

    def faults(self, context: Mapping[str, object]) -> tuple[Fault, ...]:
        """Return the faults of a request's context; a missing name is no fault, but unknown."""
        return _context_faults(self.text, self.context, context)

    def values(self, moment: Moment, item_index: Index) -> Columns:
        """Return the number of each item as float64, shape (n,); NaN = an operand is missing.

        Args:
            moment: The state, and the request.
            item_index: The candidates, shape (n,); -1 = unknown.
        """
        found: Columns = self.block.numbers(self.steps, moment, _candidates(item_index))[:, 0]
        return found


def condition(text: str, names: Names, where: str, use: Use = PLACEMENT) -> Condition | tuple[Fault, ...]:
    """Return the compiled condition of a text, or all of its faults.

    Args:
        text: Such as ``item.available and item.price <= context.budget``.
        names: All names.
        where: Pointer to the text, for the faults.
        use: Allowed names and cost.

    Cost: about 0.5 ms. Callers keep the result.
    """
    found = _read(text, names, where, use, is_number=False)
    if isinstance(found, tuple):
        return found
    block = block_of({"condition": found.column}, names.tables)
    return Condition(text, block, found.context, is_of_items(found.column), names)


def segment(text: str, names: Names, where: str) -> Condition | tuple[Fault, ...]:
    """Return the compiled condition of a text on the request as a whole, or all of its faults.

    Args:
        text: Such as ``context.device == "phone" and now.hour >= 18``.
        names: All names; columns about items are not allowed.
        where: Pointer to the text, for the faults.
    """
    return condition(text, names, where, SEGMENT)


def number(text: str, names: Names, where: str, use: Use = PLACEMENT) -> NumberExpression | tuple[Fault, ...]:
    """Return the compiled number of a text, or all of its faults.

    Args:
        text: Such as ``1 + item.margin / 10``.
        names: All names.
        where: Pointer to the text, for the faults.
        use: Allowed names and cost.
    """
    found = _read(text, names, where, use, is_number=True)
    if isinstance(found, tuple):
        return found
    block = block_of({"number": found.column}, names.tables)
    return NumberExpression(text, block, found.context, steps_of(block.program))


def _read(text: str, names: Names, where: str, use: Use, *, is_number: bool) -> Text | tuple[Fault, ...]:
    """Return a text with the columns of features in it, within its bounds."""
    found = read_text(text, names, where, use.scopes, is_number=is_number)
    if isinstance(found, tuple):
        return found
    if faults := tuple(_column_faults(found, names, where, use)):
        return faults
    column = resolved(found.column, names.columns)
    size = size_of(column)
    if size > STEPS_MAX:
        came = f"It has {size} steps, written out with all that it names."
        return (Fault(where, came, f"At most {STEPS_MAX}.", PAGE),)
    cost = cost_of(column)
    if cost.total_us > use.cost_us_max:
        came = f"It takes about {cost.total_us:,.0f} µs for 500 items, most of it for {cost.dearest}."
        return (Fault(where, came, f"At most {use.cost_us_max:,.0f} µs here.", PAGE),)
    return Text(column, found.columns, found.context)


def _column_faults(text: Text, names: Names, where: str, use: Use) -> list[Fault]:
    """Return a fault for each column of a feature that is not allowed here."""
    found: list[Fault] = []
    for name in text.columns:
        column: Expression = names.columns[name]
        if ITEM not in use.scopes and is_of_items(column):
            right = "Columns of the user, the session or everybody: a segment is of the request as a whole."
            found.append(Fault(where, f"{name} is a column of items.", right, PAGE))
        elif compares_candidates(column):
            right = "Columns that say something of one item by itself."
            found.append(Fault(where, f"{name} compares items with those beside them.", right, PAGE))
    return found


def _context_faults(text: str, kinds: Mapping[str, Kind], context: Mapping[str, object]) -> tuple[Fault, ...]:
    """Return a fault for each value of a context of another kind than the text reads."""
    return tuple(
        Fault(
            f"/context/{name}",
            f"{_sent(context[name])} was sent.",
            f"The condition {text!r} compares it as {WORDS[kind] if kind != 'boolean' else 'true or false'}.",
            PAGE,
        )
        for name, kind in kinds.items()
        if name in context and not _fits(context[name], kind)
    )


def _sent(value: object) -> str:
    """Return a context value as JSON has it; numbers come as floats, whole ones too."""
    return shown(int(value) if isinstance(value, float) and value.is_integer() else value)


def _fits(value: object, kind: Kind) -> bool:
    """Return whether a context value is of a kind. True and false are no numbers, though Python thinks so."""
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, bool if kind == "boolean" else str)


def _candidates(item_index: Index) -> Candidates:
    """Return items as candidates that no source proposed."""
    nothing = len(item_index), 0
    return Candidates(item_index, (), np.empty(nothing, np.float32), np.empty(nothing, np.int32))
