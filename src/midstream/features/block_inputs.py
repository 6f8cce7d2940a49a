"""Inputs of a block as its kernel reads them: each reader of the package as a kind and numbers, the others as rows.

A reader whose kind is not known here, such as one of a shop's own, fills its row as it does elsewhere. One that is
derived from a reader of the package is such a one: it may fill another row. Which is which depends on the readers
alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Candidates, Mask, Moment
from midstream.features.block_kernel import (
    ARRIVAL,
    BUCKET,
    CLOCK,
    CLOCK_PARTS,
    DRAW,
    FLAG,
    GIVEN,
    INPUT_ROWS,
    NUMBER,
    SAME,
    SHARE,
    BlockTables,
)
from midstream.features.column_memory import address_of
from midstream.features.readers.coding import Coding
from midstream.features.readers.condition_inputs import TextAmong, ZoneTime
from midstream.features.readers.history_inputs import Last, Shared
from midstream.features.readers.inputs import Reader
from midstream.features.readers.item_inputs import ItemArrival, ItemCategory, ItemNumber
from midstream.features.readers.request_inputs import (
    Agent,
    CameFrom,
    ContextValue,
    ItemFieldReader,
    LocalTimeReader,
    RandomReader,
    ToldCategory,
    ToldNumbers,
    ToldWords,
    fill_fields,
)
from midstream.state.attributes.attributes import value_hash
from midstream.state.cells.cells import Cells
from midstream.state.cells.rows import Places
from midstream.state.expressions.program import Columns, Input, Program
from midstream.state.expressions.program_kernel import steps_of
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import AVAILABLE, Items
from midstream.state.users.users import Users

_SAME_FOR_ALL: Final = frozenset({
    Agent, CameFrom, ContextValue, Last, LocalTimeReader, TextAmong, ToldCategory, ToldNumbers, ToldWords, ZoneTime,
})  # fmt: skip
"""Readers that write the same numbers for all candidates and look at none of them."""
TOGETHER: Final = -1
"""In the place of a reader's number: all ``ItemFieldReader``, which are filled in one call."""
Attempt: TypeAlias = Callable[[int, Callable[[], None]], bool]
"""Calls the reader of a number (its place in ``readers``, or ``TOGETHER``), and returns whether it filled its
columns. If it returns False it has handled the exception: the columns are then NaN."""
Asked: TypeAlias = tuple[Places, Columns, Columns]
"""Kinds, numbers and rows, as ``read_block`` takes them."""
BOUND_TABLES: Final = frozenset({Cells, Items, Users, Vocabulary})
"""Tables of a state that a block is bound to."""
NOTHING_GIVEN: Final[Columns] = np.empty((0, 0))
_CODED: Final = frozenset({"category", "tags"})
Held: TypeAlias = list[object]
"""Arrays whose addresses the tables have."""
Row: TypeAlias = tuple[int, int, int, int, int]
"""Of the table of inputs."""
_Rows: TypeAlias = dict[int, Row]


@dataclass(frozen=True, slots=True, eq=False)
class BlockInputs:
    """A block's inputs, and what its kernel takes that does not change with the question."""

    bound: Any
    """``BoundBlock`` of the block and the state: numba's."""
    kinds: Places
    """How each input is read where no reader fails, (inputs,)."""
    same: tuple[tuple[int, int, Reader], ...]
    """Number, first input and reader of those that are read for one candidate in place of all."""
    given: tuple[tuple[int, int, Reader], ...]
    """The same of those that fill rows for all candidates; fields of the request's items are among them."""
    fields: tuple[tuple[int, int, ItemFieldReader], ...]
    """Those of them that are fields, which are filled together."""
    held: Held
    """What the structure has addresses of."""
    vocabulary: Vocabulary
    """Of the state that they are bound to, as are the items."""
    items: Items


def bind(program: Program, readers: Sequence[Reader], moment: Moment) -> BlockInputs:
    """Return the inputs of a block, bound to the state of a moment."""
    items, held = moment.table(Items), list[object]()
    kinds, table = np.full(len(program.inputs), SAME, dtype=np.int64), dict[int, Row]()
    same: list[tuple[int, int, Reader]] = []
    given: list[tuple[int, int, Reader]] = []
    fields: list[tuple[int, int, ItemFieldReader]] = []
    start = 0
    for number, reader in enumerate(readers):
        stop = start + reader.rows
        if type(reader) is LocalTimeReader and not reader.offset and reader.part in CLOCK_PARTS:
            kinds[start], table[start] = CLOCK, (0, 0, 0, reader.offset_minutes, CLOCK_PARTS.index(reader.part))
        elif type(reader) in _SAME_FOR_ALL:
            same.append((number, start, reader))
        elif type(reader) is ItemFieldReader:
            fields.append((number, start, reader))
        elif (found := _of_items(reader, items, held)) is not None:
            kinds[start], table[start] = found
        else:
            kinds[start:stop] = GIVEN
            given.append((number, start, reader))
        start = stop
    alike = frozenset((*_inputs_of(same), *np.flatnonzero(kinds == CLOCK).tolist()))
    bound = _bound(program, (_table(table, len(kinds)), _acts(readers, kinds, moment)), alike, moment)
    vocabulary = moment.table(Vocabulary)
    return BlockInputs(bound, kinds, tuple(same), tuple(given), tuple(fields), held, vocabulary, items)


def ask(inputs: BlockInputs, moment: Moment, candidates: Candidates, attempt: Attempt) -> Asked:
    """Return what readers say of a question; those that take columns of the items are read by the kernel itself.

    Args:
        inputs: Of the block.
        moment: The state, and the query.
        candidates: The rows.
        attempt: Around each reader that is called. Inputs of a failed one are NaN.
    """
    count = len(inputs.kinds)
    same, given, kinds = np.full((count, 1), np.nan), NOTHING_GIVEN, inputs.kinds
    for number, start, reader in inputs.same:
        found = same[start : start + reader.rows]
        if not attempt(number, partial(reader.fill, moment, candidates, found)):
            found[:] = np.nan
    is_sent = bool(inputs.fields and moment.query.item_fields)
    if inputs.given or is_sent:
        given = np.full((count, len(candidates)), np.nan)
        for number, start, reader in inputs.given:
            fill_one(reader, given[start : start + reader.rows], number, moment, candidates, attempt)
    if is_sent:
        fill_together(inputs.fields, given, moment, candidates, attempt)
        kinds = kinds.copy()
        kinds[[start for _, start, _ in inputs.fields]] = GIVEN
    return kinds, same.ravel(), given


def fill_one(
    reader: Reader, found: Columns, number: int, moment: Moment, candidates: Candidates, attempt: Attempt
) -> None:
    """Let a reader fill its rows; those of a failed one are NaN."""
    if not attempt(number, partial(reader.fill, moment, candidates, found)):
        found[:] = np.nan


def fill_together(
    fields: Sequence[tuple[int, int, ItemFieldReader]],
    given: Columns,
    moment: Moment,
    candidates: Candidates,
    attempt: Attempt,
) -> None:
    """Fill all fields of the request's items in one call, or one by one where that fails."""
    together = {reader.field: given[start] for _, start, reader in fields}
    if attempt(TOGETHER, partial(fill_fields, together, moment, candidates)):
        return
    for number, start, reader in fields:  # one by one it shows which it is
        given[start] = np.nan
        fill_one(reader, given[start : start + 1], number, moment, candidates, attempt)


def _inputs_of(readers: Sequence[tuple[int, int, Reader]]) -> list[int]:
    """Return the numbers of the inputs of some readers."""
    return [place for _, start, reader in readers for place in range(start, start + reader.rows)]


def _table(rows: _Rows, count: int) -> Places:
    """Return the table of inputs."""
    found = np.zeros((INPUT_ROWS, count), dtype=np.int64)
    for number, row in rows.items():
        found[:, number] = row
    return found


def _acts(readers: Sequence[Reader], kinds: Places, moment: Moment) -> Mask:
    """Return which acts of a user make last items of each input, (inputs, actions)."""
    users, start = moment.table(Users), 0
    found = np.zeros((len(kinds), len(users.is_positive)), dtype=np.bool_)
    for reader in readers:
        if type(reader) is Shared:
            if reader.actions:
                found[start, users.action_numbers(reader.actions)] = True
            else:
                found[start] = users.is_positive
        start += reader.rows
    return found


def _bound(program: Program, inputs: tuple[Places, Mask], same: frozenset[int], moment: Moment) -> Any:  # noqa: ANN401  # numba's own
    """Return the structure that the kernel takes."""
    from midstream.features.bound_block import make_block

    parts, vocabulary = moment.table(Cells).parts_of(program), moment.table(Vocabulary)
    steps, reading = steps_of(program, same), parts.reading
    number = {each: place for place, each in enumerate(program.inputs)}
    leaves = [(place, number[step.leaf]) for place, step in enumerate(program.steps) if isinstance(step.leaf, Input)]
    rings = moment.table(Users).ring_columns
    tables = BlockTables(
        reading.groups, reading.starts, reading.wanted, reading.place_of, parts.spec, parts.codes,
        np.array([parts.code_count], dtype=np.int64), parts.words, parts.octets, parts.keys, parts.tables,
        vocabulary.columns.item_hash, steps.table, steps.constants, steps.once, steps.each, steps.outputs, inputs[0],
        np.ascontiguousarray(np.array(leaves, dtype=np.int64).reshape(-1, 2).T), inputs[1], rings.ints, rings.tails,
        rings.at,
    )  # fmt: skip
    return make_block(tables)


def _of_items(reader: Reader, items: Items, held: Held) -> tuple[int, Row] | None:
    """Return the kind and the row of the table of a reader that takes a column of the items; None = it is another.

    An attribute that is not declared, or of another kind, makes it another: it says itself what is wrong.
    """
    if type(reader) is RandomReader:
        return DRAW, (0, 0, 0, _bits(value_hash(reader.name)), 0)
    if type(reader) is ItemArrival:
        return ARRIVAL, _column(items.arrival_times, held)
    kinds = {**dict(items.declared), AVAILABLE: "boolean"}
    kind = kinds.get(reader.attribute) if isinstance(reader, ItemNumber | Shared | ItemCategory) else None
    found: tuple[int, Row] | None = None
    if type(reader) is ItemNumber and kind == "number":
        found = NUMBER, _column(items.number(reader.attribute), held)
    elif type(reader) is ItemNumber and kind == "boolean":
        found = FLAG, _column(items.boolean(reader.attribute), held)
    elif type(reader) is Shared and kind in _CODED:
        column = _column(items.codes(reader.attribute), held)
        found = SHARE, (*column[:3], reader.last, int(reader.scope == "user"))
    elif type(reader) is ItemCategory and kind in _CODED and _is_bucket(reader.coding):
        hashes = items.value_hashes(reader.attribute)
        held.append(hashes)
        codes = _column(items.codes(reader.attribute), held)
        found = BUCKET, (*codes[:3], address_of(hashes), reader.coding.buckets)
    return found


def _is_bucket(coding: Coding) -> bool:
    """Return whether a value becomes the bucket of its hash."""
    return type(coding) is Coding and coding.form == "hashed"


def _column(column: NDArray[Any], held: Held) -> Row:
    """Return the row of the table of a column, which is held."""
    held.append(column)
    return address_of(column), len(column), column.shape[1] if column.ndim > 1 else 1, 0, 0


def _bits(number: int) -> int:
    """Return the int64 of the same bits as an unsigned number."""
    return int(np.uint64(number).view(np.int64))
