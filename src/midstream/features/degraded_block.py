"""Degraded block of declared features: the readers that each column needs, and the block without failed columns.

A reader that raises leaves its columns undefined. So every column that needs the reader is NaN, also where an
expression would replace a missing value by a number: it is unknown whether the value is missing. A rerun reads the
block without these columns.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from midstream.core.types import Candidates, Moment, Score
from midstream.features.declared import DeclaredFeatures
from midstream.state.expressions.program import Columns, Expression, Input, Program


@dataclass(frozen=True, slots=True)
class Silent:
    """Replacement of a reader whose columns are not needed: a ``Reader``."""

    rows: int
    """Number of columns."""

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Leave all as it is, NaN."""


@dataclass(frozen=True, slots=True)
class Less:
    """A block less some columns: a ``Feature``."""

    block: DeclaredFeatures
    """Its readers that only lost columns need are ``Silent``."""
    lost: frozenset[str]
    """Names of the columns that are NaN."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, in order, the lost ones among them."""
        return self.block.names

    def read(self, moment: Moment, candidates: Candidates) -> Score:
        """Return values (n, len(names)); NaN = nothing is known, or the column is lost."""
        values = self.block.read(moment, candidates)
        values[:, [name in self.lost for name in self.names]] = np.nan
        return values


def needed_readers(program: Program) -> tuple[frozenset[int], ...]:
    """Return the numbers of the readers that each column depends on, in the order of ``program.names``.

    A reader's number is its place among the distinct readers of ``program.inputs``, as in a block's ``readers``.
    """
    numbers = {reader: place for place, reader in enumerate(dict.fromkeys(each.reader for each in program.inputs))}
    needed: dict[Expression, frozenset[int]] = {}
    for step in program.steps:  # each after its arguments
        own = frozenset((numbers[step.leaf.reader],)) if isinstance(step.leaf, Input) else frozenset[int]()
        needed[step] = own.union(*(needed[argument] for argument in step.arguments))
    return tuple(needed[program.steps[place]] for place in program.outputs.tolist())


def less(block: DeclaredFeatures, lost: Collection[str]) -> Less:
    """Return a block without some columns; a reader that only those need does not run."""
    columns = frozenset(lost)
    needed = needed_readers(block.program)
    asked = frozenset[int]().union(
        *(readers for name, readers in zip(block.names, needed, strict=True) if name not in columns)
    )
    readers = tuple(reader if place in asked else Silent(reader.rows) for place, reader in enumerate(block.readers))
    return Less(replace(block, readers=readers), columns)
