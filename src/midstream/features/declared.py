"""All declared features of a plan as one block of columns: cells and inputs are read, then one kernel computes all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final, TypeAlias, cast

import numpy as np

from midstream.core.types import Candidates, Moment, Score
from midstream.events.wire import AttributeKind
from midstream.features.external import Tables, bound
from midstream.features.inputs import Reader
from midstream.features.kinds import AnyFeature, program_of
from midstream.features.request_inputs import ItemField, fill_fields
from midstream.state.cells import Cells, Keys
from midstream.state.program import Columns, Program

_NO_TABLES: Tables = MappingProxyType({})
TOGETHER: Final = -1
"""In the place of a reader's number: all ``ItemField``, which are filled in one call."""
Attempt: TypeAlias = Callable[[int, Callable[[], None]], bool]
"""Calls what fills the columns of the reader of a number (its place in ``readers``, or ``TOGETHER``), and returns
whether it did. What returns False has dealt with what was raised: the columns are then NaN."""


def at_once(_reader: int, fill: Callable[[], None]) -> bool:
    """Let through whatever a reader raises: an ``Attempt``."""
    fill()
    return True


@dataclass(frozen=True, slots=True, eq=False)
class DeclaredFeatures:
    """Reads the columns of declared features: a ``Feature``."""

    program: Program
    readers: tuple[Reader, ...]
    """In the order of their columns among the program's inputs."""

    def __eq__(self, other: object) -> bool:
        """Return whether the other reads the same columns from the same parts."""
        if not isinstance(other, DeclaredFeatures):
            return NotImplemented
        mine, theirs = self.program, other.program
        same = (mine.names, mine.steps, self.readers) == (theirs.names, theirs.steps, other.readers)
        return same and bool((mine.outputs == theirs.outputs).all())

    __hash__ = None  # type: ignore[assignment]  # it is compared, and never a key

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return self.program.names

    def read(self, moment: Moment, candidates: Candidates, attempt: Attempt = at_once) -> Score:
        """Return values (n, len(names)) as of the question's time; NaN = nothing is known.

        Args:
            moment: The state, and the question.
            candidates: The rows, n of them.
            attempt: Around each reader. Where one did not fill its columns, what is computed of them says nothing.
        """
        keys = Keys(candidates.item_index, moment.user_index, moment.user_hash, moment.session_number)
        inputs = np.full((len(self.program.inputs), len(candidates)), np.nan)
        self._fill(inputs, moment, candidates, attempt)
        return moment.table(Cells).columns(self.program, keys, inputs, moment.query.now_ms)

    def _fill(self, inputs: Columns, moment: Moment, candidates: Candidates, attempt: Attempt) -> None:
        """Let each reader fill its columns; those of one that did not are NaN."""
        start = 0
        fields: dict[int, tuple[ItemField, Columns]] = {}
        for number, reader in enumerate(self.readers):
            found = inputs[start : start + reader.rows]
            start += reader.rows
            if isinstance(reader, ItemField):
                fields[number] = reader, found
            elif not attempt(number, partial(reader.fill, moment, candidates, found)):
                found[:] = np.nan
        together = {reader.field: found[0] for reader, found in fields.values()}
        if not together or attempt(TOGETHER, partial(fill_fields, together, moment, candidates)):
            return
        for number, (reader, found) in fields.items():  # one by one it shows which it is
            found[:] = np.nan
            if not attempt(number, partial(reader.fill, moment, candidates, found)):
                found[:] = np.nan


def declared(
    features: Sequence[AnyFeature],
    attributes: Mapping[str, AttributeKind],
    among: Sequence[AnyFeature] = (),
    tables: Tables = _NO_TABLES,
) -> DeclaredFeatures:
    """Return the block that reads features.

    Args:
        features: Whose columns are read, in this order. Free of faults (``features.checking``).
        attributes: Declared item attributes, which features may read.
        among: Further features that expressions may name.
        tables: Content of the tables that they read.
    """
    del attributes  # a reader asks the state for the kind
    program = program_of(features, among)
    readers = tuple(dict.fromkeys(bound(cast("Reader", each.reader), tables) for each in program.inputs))
    return DeclaredFeatures(program, readers)
