"""One kernel from a question to all columns of a block: inputs, rows of cells, cells, steps, and float32.

What readers of the package take from the items' columns is read here, block by block of candidates, right before the
steps that use it; what is the same for all candidates is a number; what other readers filled is a row. The readers one
by one, and ``Cells.columns`` behind them, are the plain twin: equal to the bit.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask
from midstream.features.column_memory import flags_at, hashes_at, numbers_at, times_at
from midstream.features.random_kernel import draw_one, mixed
from midstream.state.cells.columns import spread
from midstream.state.cells.layout import CODES, SCOPE
from midstream.state.cells.read import BOUNDS, PLAN_ROWS, plan_at, read_rows
from midstream.state.cells.rows import Places, is_of_items, place_items, write_codes
from midstream.state.cells.windows import Octets, Words
from midstream.state.expressions.program_kernel import BLOCK, WIDTH, fill_constants, run_steps
from midstream.state.structures.borrowed import borrowed, codes_at
from midstream.state.structures.kernel import kernel, signed
from midstream.state.users.user_rows import ADDED, RING_MAX, act_at

SAME, GIVEN, NUMBER, FLAG, ARRIVAL, SHARE, DRAW, BUCKET, CLOCK = range(9)
"""Kinds of inputs: a number for all candidates; a row that a reader filled; a number attribute; a boolean one; when
the catalogue first named the item; the share of the last items that have a value of the item; a number drawn from the
seed; the bucket of the hash of the item's value; a part of the time of the question."""
CLOCK_PARTS: Final = ("hour", "time_of_day", "weekday")
"""Parts of a time that need no calendar."""
ADDRESS, LENGTH, ACROSS, OTHER, BUCKETS = range(5)
"""Rows of the table of inputs: where the column begins, its rows, and its numbers a row; where the hashes of values
begin, the hash of the name that is drawn with, as its bits, how many last items count at most, or how many minutes
clocks are ahead; the number of buckets, whether last items are the user's, or the number of the part."""
INPUT_ROWS: Final = 5
_HOUR, _TIME_OF_DAY = 0, 1
_FLOAT32_MAX: Final = np.float32(np.finfo(np.float32).max)
_MINUTE_MS, _SECOND_MS, _HOUR_S, _DAY_S, _THURSDAY = 60_000, 1_000, 3_600, 86_400, 3
_SIZE, _KNOWN, _PLACES = range(3)
"""Rows of what is found of each share: the size of its table, how many of the last items have a value, where the table
begins; behind the last one, where all end."""


class BlockTables(NamedTuple):
    """All of a block that does not change with the question, and the state's arrays."""

    groups: Places
    """Of ``Reading``, like the next three."""
    starts: Places
    wanted: Places
    place_of: Places
    spec: Places
    """Parameters of all cells."""
    codes: Places
    """Address, rows, width and first column of the codes of each attribute whose values are keys, (attributes, 4)."""
    widths: Places
    """Columns of all codes, (1,)."""
    words: Words
    """All rows of cells, and the same memory as octets."""
    octets: Octets
    keys: NDArray[np.void]
    tables: Index
    item_hash: NDArray[np.uint64]
    """Of the id of each item."""
    table: NDArray[np.int32]
    """Of ``ProgramTables``, like the next four."""
    constants: Words
    once: Places
    each: Places
    outputs: Places
    inputs: Places
    """What the inputs are read from, (INPUT_ROWS, inputs)."""
    leaves: Places
    """Register and number of each input that a step uses, (2, leaves)."""
    acts: Mask
    """Which acts of a user make last items of each input, (inputs, actions)."""
    ring_ints: NDArray[np.int32]
    """Of ``RingColumns``, like the next two."""
    ring_tails: NDArray[np.int32]
    ring_at: Places


class BlockQuestion(NamedTuple):
    """All that a question brings."""

    user_index: int
    """Slot of the user, -1 = not known."""
    user_hash: np.uint64
    """0 = none."""
    session_number: int
    """-1 = none."""
    now_ms: int
    seed: np.uint64
    item_index: Index
    """Of the candidates, -1 = not known, (n,), n > 0."""
    item_count: int
    """Items that there are: no index is as high."""
    recent: Index
    """Items of the asking session, oldest first."""
    kinds: Places
    """How each input is read, (inputs,)."""
    same: Words
    """Those that are ``SAME``, (inputs,)."""
    given: Words
    """Those that are ``GIVEN``, (inputs, n); without any, (0, 0)."""


class CellPlan(NamedTuple):
    """What a time and each cell decide, and where the rows of the candidates are."""

    plan: Places
    """As ``plan_at`` writes it, like the next three."""
    factors: Words
    nothing: Words
    bounds: Places
    row_of: Places
    """As ``place_items`` writes it, of each scope."""


@kernel
def read_block(block: BlockTables, question: BlockQuestion, found: NDArray[np.float32]) -> bool:
    """Write the columns of a block as of a time; return False, with nothing written, where an index is no item's.

    Args:
        block: All that does not change with the question.
        question: The question.
        found: For the columns, (columns, n). What float32 cannot hold is NaN.
    """
    item_index, kinds, inputs, leaves = (
        borrowed(question.item_index),
        borrowed(question.kinds),
        borrowed(block.inputs),
        borrowed(block.leaves),
    )
    if item_index.max() >= question.item_count:
        return False
    groups, starts, words, octets = (
        borrowed(block.groups),
        borrowed(block.starts),
        borrowed(block.words),
        borrowed(block.octets),
    )
    registers = np.empty((block.table.shape[1], WIDTH), dtype=np.float64)
    fill_constants(block.table, block.constants, float(question.now_ms), registers)
    fill_same(leaves, kinds, question.same, registers)
    fill_clocks(leaves, kinds, inputs, question.now_ms, registers)
    cells = _begin(block, question, registers)
    run_steps(block.table, block.once, WIDTH, registers)
    acted, acted_at = last_items(block, question)
    shares = share_sizes(inputs, kinds, acted_at)
    held = np.full(shares[_PLACES, -1], -1, dtype=np.int32)
    counts = np.zeros(shares[_PLACES, -1], dtype=np.int32)
    count_shares(inputs, kinds, acted, acted_at, held, counts, shares)
    for start in range(0, len(item_index), BLOCK):
        stop = min(start + BLOCK, len(item_index))
        for g in range(groups.shape[1]):
            if is_of_items(groups[SCOPE, g]):
                group = groups[:, g].copy()
                read_rows(
                    group, cells.row_of[g, : max(1, group[CODES])], start, stop, starts[g], starts[g + 1],
                    cells.bounds[g], block.spec, block.wanted, cells.plan, cells.factors, cells.nothing,
                    question.now_ms, words, octets, registers,
                )  # fmt: skip
        for leaf in range(leaves.shape[1]):
            register, number, some = leaves[0, leaf], leaves[1, leaf], item_index[start:stop]
            if kinds[number] == SHARE:
                fill_share(inputs[:, number], some, held, counts, shares[:, number], registers[register])
            elif kinds[number] == GIVEN:
                registers[register, : stop - start] = question.given[number, start:stop]
            elif kinds[number] != SAME and kinds[number] != CLOCK:
                kind = signed(kinds[number])
                fill_of_items(kind, inputs[:, number], some, block.item_hash, question.seed, registers[register])
        run_steps(block.table, block.each, stop - start, registers)
        narrow_block(registers, block.outputs, start, stop - start, found)
    return True


@kernel
def narrow_block(registers: Words, outputs: Places, start: int, count: int, found: NDArray[np.float32]) -> None:
    """Write registers as float32 into columns from a candidate on, as ``program_kernel.narrow`` does.

    A place without a sign is written side by side with the next ones, in a third of the time: LLVM has to look at one
    that might be below 0 by itself.
    """
    for column in range(len(outputs)):
        step = outputs[column]
        for k in range(count):
            value = np.float32(registers[step, k])
            found[column, np.uint64(start + k)] = value if abs(value) <= _FLOAT32_MAX else np.float32(np.nan)


@kernel
def _begin(block: BlockTables, question: BlockQuestion, registers: Words) -> CellPlan:
    """Find the rows of the candidates, and fill the registers of cells that are the same for all."""
    groups, starts, wanted, item_index = block.groups, block.starts, block.wanted, question.item_index
    plan, factors = np.empty((PLAN_ROWS, len(wanted)), dtype=np.int64), np.empty(len(wanted), dtype=np.float64)
    nothing = np.empty(len(wanted), dtype=np.float64)
    bounds = np.empty((groups.shape[1], BOUNDS), dtype=np.int64)
    plan_at(starts, wanted, block.place_of, block.spec, question.now_ms, plan, factors, nothing, bounds)
    codes = np.empty((len(item_index), block.widths[0]), dtype=np.int32)
    for attribute in range(len(block.codes)):
        address, rows, width, first = block.codes[attribute]
        write_codes(codes_at(address, rows, width), item_index, codes[:, first : first + width])
    row_of = np.empty((groups.shape[1], max(1, codes.shape[1]), len(item_index)), dtype=np.int64)
    for g in range(groups.shape[1]):
        group = groups[:, g].copy()
        mine = row_of[g, : max(1, group[CODES])]
        place_items(
            group, question.user_index, question.user_hash, question.session_number, item_index, block.item_hash, codes,
            block.keys, block.tables, mine,
        )  # fmt: skip
        if not is_of_items(group[SCOPE]):
            read_rows(
                group, mine[:, :1], 0, 1, starts[g], starts[g + 1], bounds[g], block.spec, wanted, plan, factors,
                nothing, question.now_ms, block.words, block.octets, registers,
            )  # fmt: skip
            spread(block.place_of[starts[g] : starts[g + 1]], registers)
    return CellPlan(plan, factors, nothing, bounds, row_of)


@kernel
def fill_same(leaves: Places, kinds: Places, same: Words, registers: Words) -> None:
    """Fill the registers of inputs that are the same for all candidates."""
    for leaf in range(leaves.shape[1]):
        if kinds[leaves[1, leaf]] == SAME:
            registers[leaves[0, leaf]] = same[leaves[1, leaf]]


@kernel
def fill_clocks(leaves: Places, kinds: Places, inputs: Places, now_ms: int, registers: Words) -> None:
    """Fill the registers of parts of the time of the question."""
    for leaf in range(leaves.shape[1]):
        number = leaves[1, leaf]
        if kinds[number] == CLOCK:
            second = (now_ms + inputs[OTHER, number] * _MINUTE_MS) // _SECOND_MS
            if inputs[BUCKETS, number] == _HOUR:
                registers[leaves[0, leaf]] = np.float64(second % _DAY_S // _HOUR_S)
            elif inputs[BUCKETS, number] == _TIME_OF_DAY:
                registers[leaves[0, leaf]] = np.float64(second % _DAY_S) / np.float64(_HOUR_S)
            else:
                registers[leaves[0, leaf]] = np.float64((second // _DAY_S + _THURSDAY) % 7)


@kernel
def last_items(block: BlockTables, question: BlockQuestion) -> tuple[Index, Places]:
    """Return the last distinct items, newest first, of each input that needs some, and where they begin, (inputs + 1,).

    As ``state.users.recent_items.distinct_items`` has them.
    """
    inputs, kinds, recent, user = block.inputs, question.kinds, question.recent, question.user_index
    acted_at = np.zeros(len(kinds) + 1, dtype=np.int64)
    ring_max = block.ring_at[RING_MAX]
    room = 0
    for number in range(len(kinds)):
        if kinds[number] == SHARE:
            room += min(inputs[OTHER, number], max(len(recent), ring_max))
    acted, count = np.empty(room, dtype=np.int32), 0
    for number in range(len(kinds)):
        first, is_users = count, inputs[BUCKETS, number] == 1
        acted_at[number] = first
        if kinds[number] == SHARE and (user >= 0 or not is_users):
            added = signed(block.ring_ints[user, ADDED]) if is_users else len(recent)
            length = ring_max if is_users else len(recent)
            most = min(inputs[OTHER, number], length)
            for back in range(1, min(added, length) + 1):
                if count - first == most:
                    break
                place = (added - back) % length
                if is_users:
                    item, action = act_at(block.ring_ints, block.ring_tails, block.ring_at, user, place)
                    is_new = block.acts[number, action]
                else:
                    item, is_new = signed(recent[place]), True
                for other in range(first, count):
                    is_new = is_new and acted[other] != item
                if is_new:
                    acted[count] = item
                    count += 1
    acted_at[len(kinds)] = count
    return acted, acted_at


@kernel
def fill_of_items(
    kind: int, given: Places, item_index: Index, item_hash: NDArray[np.uint64], seed: np.uint64, found: Words
) -> None:
    """Fill the beginning of a register with what a column has of each item; NaN = missing, or the index is -1."""
    if kind == NUMBER:
        numbers = numbers_at(given[ADDRESS], given[LENGTH])
        for k in range(len(item_index)):
            found[k] = numbers[item_index[k]] if item_index[k] >= 0 else np.nan
    elif kind == FLAG:
        flags = flags_at(given[ADDRESS], given[LENGTH])
        for k in range(len(item_index)):
            flag = flags[item_index[k]] if item_index[k] >= 0 else -1
            found[k] = np.float64(flag) if flag >= 0 else np.nan
    elif kind == ARRIVAL:
        times = times_at(given[ADDRESS], given[LENGTH])
        for k in range(len(item_index)):
            at = times[item_index[k]] if item_index[k] >= 0 else 0
            found[k] = np.float64(at) if at > 0 else np.nan
    elif kind == DRAW:
        start = mixed(seed ^ np.uint64(given[OTHER]))
        for k in range(len(item_index)):
            found[k] = draw_one(start, np.uint64(item_hash[item_index[k]])) if item_index[k] >= 0 else np.nan
    else:
        codes, hashes = (
            codes_at(given[ADDRESS], given[LENGTH], given[ACROSS]),
            hashes_at(given[OTHER], 0),
        )  # codes are below its length
        buckets = np.uint64(given[BUCKETS])
        for k in range(len(item_index)):
            code = codes[item_index[k], 0] if item_index[k] >= 0 else -1
            found[k] = np.float64(hashes[code] % buckets) if code >= 0 else np.nan


@kernel
def share_sizes(inputs: Places, kinds: Places, acted_at: Places) -> Places:
    """Return the sizes and places of the tables of values of last items, each at most half full, (3, inputs + 1)."""
    shares = np.zeros((3, len(kinds) + 1), dtype=np.int64)
    for number in range(len(kinds)):
        size = 0
        if kinds[number] == SHARE:
            size = 2
            while size < 2 * (acted_at[number + 1] - acted_at[number]) * inputs[ACROSS, number]:
                size *= 2
        shares[_SIZE, number] = size
        shares[_PLACES, number + 1] = shares[_PLACES, number] + size
    return shares


@kernel
def count_shares(
    inputs: Places, kinds: Places, acted: Index, acted_at: Places, held: Index, counts: Index, shares: Places
) -> None:
    """Count each value of the last items, as ``state.attributes.value_overlap`` does."""
    for number in range(len(kinds)):
        if kinds[number] != SHARE:
            continue
        base, mask = shares[_PLACES, number], shares[_SIZE, number] - 1
        codes = codes_at(inputs[ADDRESS, number], inputs[LENGTH, number], inputs[ACROSS, number])
        for item in acted[acted_at[number] : acted_at[number + 1]]:
            has_any = 0
            for column in range(inputs[ACROSS, number] if item >= 0 else 0):
                value = codes[item, column]
                if value >= 0:
                    has_any = 1
                    at = signed(value) & mask
                    while held[base + at] >= 0 and held[base + at] != value:
                        at = (at + 1) & mask
                    held[base + at] = value
                    counts[base + at] += 1
            shares[_KNOWN, number] += has_any


@kernel
def fill_share(given: Places, item_index: Index, held: Index, counts: Index, share: Places, found: Words) -> None:
    """Fill the beginning of a register with the mean share of the last items that have a value of each item."""
    codes = codes_at(given[ADDRESS], given[LENGTH], given[ACROSS])
    base, mask, known = share[_PLACES], share[_SIZE] - 1, share[_KNOWN]
    for k in range(len(item_index)):
        values = shared = 0
        for column in range(given[ACROSS] if item_index[k] >= 0 else 0):
            value = codes[item_index[k], column]
            if value >= 0:
                values += 1
                at = signed(value) & mask
                while held[base + at] >= 0 and held[base + at] != value:
                    at = (at + 1) & mask
                shared += counts[base + at] if held[base + at] >= 0 else 0
        found[k] = shared / (values * known) if values > 0 and known > 0 else np.nan
