"""Values of expressions: operands as columns, and three-valued logic over them.

A truth value is a column of 1, 0 and NaN: true, false, unknown. Within ``and``, ``or`` and ``not`` unknown is 1/2,
because Kleene's strong logic is then the minimum, the maximum and 1 - x, which the program has.

Reference: S. C. Kleene, "Introduction to Metamathematics", 1952, section 64; J. Łukasiewicz's 0, 1/2, 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from midstream.features.readers.condition_inputs import Texts
from midstream.features.readers.request_inputs import Place
from midstream.state.expressions.program import Expression, Op, column

Kind: TypeAlias = Literal["number", "boolean", "text", "tags", "list", "open"]
"""``open`` is a name of the context or profile that nothing was compared with yet."""
WORDS: Mapping[Kind, str] = {
    "number": "a number", "boolean": "a truth", "text": "a text", "tags": "tags", "list": "a list",
    "open": "of no kind yet",
}  # fmt: skip
_HALF = column(0.5)


@dataclass(frozen=True, slots=True)
class Value:
    """Value of a part of a text."""

    kind: Kind
    said: str
    """The part as the text has it."""
    column: Expression | None = None
    """Of a number or truth."""
    texts: Texts | None = None
    """Of a text or list that is the same for all candidates."""
    attribute: str = ""
    """Of a text or of tags that are an item's."""
    told: tuple[Place, str] | None = None
    """Of a name of the context or profile."""
    constants: tuple[str | float, ...] | None = None
    """Constants of the text: one, or those of a list."""
    elements: Kind = "open"
    """Of a list."""


def opposite(truth: Expression) -> Expression:
    """Return ``not``: of 1, 0, NaN or 1/2."""
    return Expression(Op.SUBTRACT, (column(1.0), truth))


def halved(truth: Expression) -> Expression:
    """Return a truth with 1/2 in the place of NaN."""
    return Expression(Op.IF_NAN, (truth, _HALF))


def whole(truth: Expression) -> Expression:
    """Return a truth with NaN in the place of 1/2: 1/2 + 1/4 / (x - 1/2), and nothing is divided by 0."""
    return _HALF + column(0.25) / (truth - _HALF)


def joined(truths: Sequence[Expression], op: Op) -> Expression:
    """Return the least or greatest of some columns, as a tree that is as flat as can be."""
    if len(truths) == 1:
        return truths[0]
    middle = len(truths) // 2
    return Expression(op, (joined(truths[:middle], op), joined(truths[middle:], op)))
