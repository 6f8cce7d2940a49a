"""Declared features of a plan as one block of columns: reads cells and inputs, then one kernel computes all columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final, TypeAlias, cast

import numpy as np

from midstream.core.types import Candidates, Moment, Score
from midstream.events.wire import AttributeKind
from midstream.features.kinds.kinds import AnyFeature, program_of
from midstream.features.readers.external import Tables, bound
from midstream.features.readers.inputs import Reader
from midstream.features.readers.request_inputs import ItemFieldReader, fill_fields
from midstream.state.cells.cells import CellOwners, Cells
from midstream.state.expressions.program import Columns, Expression, Program, compile_columns
from midstream.state.expressions.program_kernel import ProgramTables, compute

_NO_TABLES: Tables = MappingProxyType({})
TOGETHER: Final = -1
"""In the place of a reader's number: all ``ItemFieldReader``, which are filled in one call."""
Attempt: TypeAlias = Callable[[int, Callable[[], None]], bool]
"""Calls the reader of a number (its place in ``readers``, or ``TOGETHER``), and returns whether it filled its
columns. If it returns False it has handled the exception: the columns are then NaN."""


def at_once(_reader: int, fill: Callable[[], None]) -> bool:
    """Propagate any exception of a reader: an ``Attempt``."""
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
        """Return values (n, len(names)) as of the query's time; NaN = missing.

        Args:
            moment: The state, and the query.
            candidates: The rows, n of them.
            attempt: Around each reader. Columns that use a failed reader are undefined.
        """
        inputs = self._inputs(moment, candidates, attempt)
        return moment.table(Cells).columns(self.program, _keys(moment, candidates), inputs, moment.query.now_ms)

    def numbers(self, steps: ProgramTables, moment: Moment, candidates: Candidates) -> Columns:
        """Return the same values as ``read``, (n, len(names)), but as float64.

        Args:
            steps: Of the program (``program_kernel.steps_of``).
            moment: The state, and the question.
            candidates: The rows, n of them.
        """
        now_ms, loaded = moment.query.now_ms, np.empty((0, len(candidates)))
        if self.program.cells:
            loaded = moment.table(Cells).read(self.program.cells, _keys(moment, candidates), now_ms).T
        inputs = self._inputs(moment, candidates, at_once)
        return compute(steps, np.ascontiguousarray(loaded), inputs, now_ms)

    def _inputs(self, moment: Moment, candidates: Candidates, attempt: Attempt) -> Columns:
        """Return the values of the program's inputs, (inputs, n)."""
        inputs = np.empty((len(self.program.inputs), len(candidates)))
        inputs.fill(np.nan)
        self._fill(inputs, moment, candidates, attempt)
        return inputs

    def _fill(self, inputs: Columns, moment: Moment, candidates: Candidates, attempt: Attempt) -> None:
        """Let each reader fill its columns; those of a failed one are NaN."""
        start = 0
        fields: dict[int, tuple[ItemFieldReader, Columns]] = {}
        for number, reader in enumerate(self.readers):
            found = inputs[start : start + reader.rows]
            start += reader.rows
            if isinstance(reader, ItemFieldReader):
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
        features: In the order of their columns. Free of faults (``features.checking``).
        attributes: Declared item attributes, which features may read.
        among: Further features that expressions may name.
        tables: Content of the tables that they read.
    """
    return _block(program_of(features, attributes, among), tables)


def block_of(columns: Mapping[str, Expression], tables: Tables = _NO_TABLES) -> DeclaredFeatures:
    """Return the block that reads columns by their names.

    Args:
        columns: Expression of each.
        tables: Content of the tables that they read.
    """
    return _block(compile_columns(columns), tables)


def _block(program: Program, tables: Tables) -> DeclaredFeatures:
    """Return the block that runs a program."""
    readers = tuple(dict.fromkeys(bound(cast("Reader", each.reader), tables) for each in program.inputs))
    return DeclaredFeatures(program, readers)


def _keys(moment: Moment, candidates: Candidates) -> CellOwners:
    """Return the keys of the cells."""
    return CellOwners(candidates.item_index, moment.user_index, moment.user_hash, moment.session_number)
