"""Declared features of a plan as one block of columns: reads cells and inputs, then one kernel computes all columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

import numpy as np

from midstream.core.types import Candidates, Moment, Score
from midstream.events.wire import AttributeKind
from midstream.features.block_inputs import BOUND_TABLES, Attempt, BlockInputs, ask, bind, fill_one, fill_together
from midstream.features.block_kernel import BlockQuestion
from midstream.features.kinds.kinds import AnyFeature, program_of
from midstream.features.readers.external import Tables, bound
from midstream.features.readers.inputs import Reader
from midstream.features.readers.request_inputs import ItemFieldReader
from midstream.state.cells.cells import CellOwners, Cells
from midstream.state.expressions.program import Columns, Expression, Program, compile_columns
from midstream.state.expressions.program_kernel import ProgramTables, compute
from midstream.state.ids.vocabulary import Vocabulary

_BITS: Final = (1 << 64) - 1
_NO_TABLES: Tables = MappingProxyType({})


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

        Raises:
            IndexError: A row is of an item that there is not.
        """
        is_whole = len(candidates) > 0 and moment.tables.keys() >= BOUND_TABLES
        read = self._read_at_once if is_whole else self.read_by_readers
        return read(moment, candidates, attempt)

    def read_by_readers(self, moment: Moment, candidates: Candidates, attempt: Attempt = at_once) -> Score:
        """Return what ``read`` does, to the bit, from inputs that readers fill one by one: the plain twin."""
        _refuse_beyond(moment, candidates)
        inputs = self._inputs(moment, candidates, attempt)
        return moment.table(Cells).columns(self.program, _keys(moment, candidates), inputs, moment.query.now_ms)

    def _read_at_once(self, moment: Moment, candidates: Candidates, attempt: Attempt) -> Score:
        """Return the columns by one kernel."""
        from midstream.features.bound_block import read_bound

        inputs, query = self._bound(moment), moment.query
        question = BlockQuestion(
            moment.user_index, np.uint64(moment.user_hash), moment.session_number, query.now_ms,
            np.uint64(query.seed & _BITS), np.ascontiguousarray(candidates.item_index, dtype=np.int32),
            inputs.vocabulary.item_count,
            np.ascontiguousarray(moment.recent_item_index, dtype=np.int32),
            *ask(inputs, moment, candidates, attempt),
        )  # fmt: skip
        found = np.empty((len(self.program.outputs), len(candidates)), dtype=np.float32)
        if not read_bound(inputs.bound, question, found):
            raise _no_such_item(candidates, inputs.vocabulary.item_count)
        return found.T

    def _bound(self, moment: Moment) -> BlockInputs:
        """Return the inputs as the kernel takes them, bound to the state of a moment."""
        return moment.table(Cells).kept(self, lambda: bind(self.program, self.readers, moment))

    def numbers(self, steps: ProgramTables, moment: Moment, candidates: Candidates) -> Columns:
        """Return the same values as ``read``, (n, len(names)), but as float64.

        Args:
            steps: Of the program (``program_kernel.steps_of``).
            moment: The state, and the question.
            candidates: The rows, n of them.

        Raises:
            IndexError: As ``read`` does.
        """
        _refuse_beyond(moment, candidates)
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
        fields: list[tuple[int, int, ItemFieldReader]] = []
        for number, reader in enumerate(self.readers):
            if type(reader) is ItemFieldReader:
                fields.append((number, start, reader))
            else:
                fill_one(reader, inputs[start : start + reader.rows], number, moment, candidates, attempt)
            start += reader.rows
        if fields:
            fill_together(fields, inputs, moment, candidates, attempt)


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


def _refuse_beyond(moment: Moment, candidates: Candidates) -> None:
    """Raise where an index is too large: kernels of readers and of cells would read what lies there."""
    if len(candidates) and Vocabulary in moment.tables:
        count, item_index = moment.table(Vocabulary).item_count, candidates.item_index
        if item_index[item_index.argmax()] >= count:  # the place of the largest is found faster than itself
            raise _no_such_item(candidates, count)


def _no_such_item(candidates: Candidates, count: int) -> IndexError:
    """Return what is raised where an index is too large."""
    beyond = candidates.item_index.max()
    return IndexError(f"item index {beyond} came where 0 to {count - 1} would do, or -1 for an unknown item")


def _keys(moment: Moment, candidates: Candidates) -> CellOwners:
    """Return the keys of the cells."""
    return CellOwners(candidates.item_index, moment.user_index, moment.user_hash, moment.session_number)
