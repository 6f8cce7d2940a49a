"""Products of float32 rows, 16 elements at a time, added in one order on every CPU.

numba does not turn a loop that adds into vector instructions, as that changes the order of the sum, and with it the
bits. Here the order is part of the promise: element i goes to sum i modulo 16, each of the 16 in order; then sums 8
apart are added, 4, 2 and 1 apart; what is left of a row whose length is no multiple of 16 is added last, in order. A
product is rounded before it is added, and a sum begins with 0, so none is −0. So a row gives the same bits wherever it
lies and whatever is computed beside it, and a twin in NumPy is equal to it. LLVM makes of 16 lanes what the CPU has:
one register of AVX-512, four of SSE or Neon.
"""

from typing import TYPE_CHECKING, Any, Final, SupportsFloat, SupportsInt

import numpy as np

from midstream.events.kernel import intrinsic, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANES: Final = 16
EIGHT: Final = 8
"""Rows that are multiplied side by side: their sums wait for each other less, and are added up together."""
_FLOAT_BYTES = 4


def llvm_ir() -> Any:  # noqa: ANN401  # llvmlite's own
    """Return what LLVM's code is written with; it is loaded where a kernel is compiled, and nowhere else."""
    from llvmlite import ir  # type: ignore[import-untyped]  # the package brings no types

    return ir


def code_tools() -> Any:  # noqa: ANN401  # numba's own
    """Return numba's helpers for such code."""
    from numba.core import cgutils

    return cgutils


def _vector_type() -> Any:  # noqa: ANN401  # llvmlite's own
    ir = llvm_ir()
    return ir.VectorType(ir.FloatType(), LANES)


def _are(dimensions: int, *arrays: Any) -> bool:  # noqa: ANN401
    """Return whether types are float32 without gaps, which is all that is read here."""
    from numba import types

    return all(
        getattr(each, "dtype", None) == types.float32 and (each.ndim, each.layout) == (dimensions, "C")
        for each in arrays
    )


def _address(context: Any, builder: Any, kind: Any, value: Any, row: Any) -> Any:  # noqa: ANN401
    """Return where a row begins, as a pointer to vectors."""
    array = context.make_array(kind)(context, builder, value)
    stride = builder.extract_value(array.strides, 0)
    place = builder.add(builder.ptrtoint(array.data, stride.type), builder.mul(row, stride))
    return builder.inttoptr(place, _vector_type().as_pointer())


def _blocks(context: Any, builder: Any, kind: Any, value: Any) -> Any:  # noqa: ANN401
    """Return the number of whole vectors in a row."""
    length = builder.extract_value(context.make_array(kind)(context, builder, value).shape, 1)
    return builder.sdiv(length, length.type(LANES))


def _load(builder: Any, place: Any) -> Any:  # noqa: ANN401
    """Read a vector; rows begin at any multiple of 4 bytes."""
    found = builder.load(place)
    found.align = _FLOAT_BYTES
    return found


def _total(builder: Any, vector: Any) -> Any:  # noqa: ANN401
    """Add up the lanes: halves onto each other until one is left."""
    ir = llvm_ir()
    count = LANES
    while count > 1:
        count //= 2
        places = ir.VectorType(ir.IntType(32), count)
        nothing = ir.Constant(vector.type, ir.Undefined)
        low = builder.shuffle_vector(vector, nothing, ir.Constant(places, list(range(count))))
        high = builder.shuffle_vector(vector, nothing, ir.Constant(places, list(range(count, 2 * count))))
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, ir.IntType(32)(0))


def _products(builder: Any, one: Any, two: Any, blocks: Any) -> Any:  # noqa: ANN401
    """Return the sums of the products of two rows, one a lane."""
    ir = llvm_ir()
    tools = code_tools()
    zero = ir.Constant(_vector_type(), [0.0] * LANES)
    sums = tools.alloca_once_value(builder, zero)
    builder.store(zero, sums)
    with tools.for_range(builder, blocks) as loop:
        product = builder.fmul(
            _load(builder, builder.gep(one, [loop.index])), _load(builder, builder.gep(two, [loop.index]))
        )
        builder.store(builder.fadd(builder.load(sums), product), sums)
    return builder.load(sums)


def _dot(_typing: Any, rows: Any, _row: Any, others: Any, _other: Any) -> Any:  # noqa: ANN401
    from numba import types

    if not _are(2, rows, others):
        return None
    signature = types.float32(rows, types.int64, others, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        rows, row, others, other = arguments
        one = _address(context, builder, signature.args[0], rows, row)
        blocks = _blocks(context, builder, signature.args[0], rows)
        two = _address(context, builder, signature.args[2], others, other)
        return _total(builder, _products(builder, one, two, blocks))

    return signature, generate


def _pairs(builder: Any, vectors: list[Any]) -> Any:  # noqa: ANN401
    """Add up the lanes of eight vectors as ``_total`` does each, two vectors at a time; their sums in order."""
    ir = llvm_ir()
    apart = LANES // 2
    nothing = ir.Constant(_vector_type(), ir.Undefined)
    while apart:
        # What stands ``apart`` lanes from each other in one sum: the first and the second half of each stretch.
        low = [lane for lane in range(2 * LANES) if not lane & apart]
        ones = list(zip(vectors[::2], vectors[1::2], strict=True)) if len(vectors) > 1 else [(vectors[0], nothing)]
        count = LANES if len(vectors) > 1 else EIGHT
        places = ir.VectorType(ir.IntType(32), count)
        first = ir.Constant(places, low[:count])
        second = ir.Constant(places, [lane + apart for lane in low[:count]])
        vectors = [
            builder.fadd(builder.shuffle_vector(one, two, first), builder.shuffle_vector(one, two, second))
            for one, two in ones
        ]
        apart //= 2
    return vectors[0]


def _eight(_typing: Any, rows: Any, _row: Any, query: Any, found: Any, _threshold: Any) -> Any:  # noqa: ANN401
    from numba import types

    ir = llvm_ir()
    if not (_are(2, rows, query) and _are(1, found)):
        return None
    signature = types.int64(rows, types.int64, query, found, types.float32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        rows, row, query, found, threshold = arguments
        two = _address(context, builder, signature.args[2], query, row.type(0))
        blocks = _blocks(context, builder, signature.args[0], rows)
        # One row after another: eight at once read memory in strides, which costs twice the time where it is far.
        sums = [
            _products(
                builder, _address(context, builder, signature.args[0], rows, builder.add(row, row.type(n))), two, blocks
            )
            for n in range(EIGHT)
        ]
        eight = _pairs(builder, sums)
        start = context.make_array(signature.args[3])(context, builder, found).data
        place = builder.bitcast(start, eight.type.as_pointer())
        written = builder.store(eight, place)
        written.align = _FLOAT_BYTES
        first = builder.insert_element(ir.Constant(eight.type, ir.Undefined), threshold, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), EIGHT), [0] * EIGHT)
        level = builder.shuffle_vector(first, ir.Constant(eight.type, ir.Undefined), everywhere)
        above = builder.bitcast(builder.fcmp_ordered(">", eight, level), ir.IntType(EIGHT))
        return builder.zext(above, ir.IntType(64))

    return signature, generate


def _add_scaled(_typing: Any, _factor: Any, rows: Any, _row: Any, others: Any, _other: Any) -> Any:  # noqa: ANN401
    from numba import types

    ir = llvm_ir()
    tools = code_tools()
    if not _are(2, rows, others):
        return None
    signature = types.void(types.float32, rows, types.int64, others, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        factor, rows, row, others, other = arguments
        blocks = _blocks(context, builder, signature.args[1], rows)
        one = _address(context, builder, signature.args[1], rows, row)
        two = _address(context, builder, signature.args[3], others, other)
        nothing = ir.Constant(_vector_type(), ir.Undefined)
        first = builder.insert_element(nothing, factor, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        scale = builder.shuffle_vector(first, nothing, everywhere)
        with tools.for_range(builder, blocks) as loop:
            place = builder.gep(two, [loop.index])
            product = builder.fmul(scale, _load(builder, builder.gep(one, [loop.index])))
            written = builder.store(builder.fadd(_load(builder, place), product), place)
            written.align = _FLOAT_BYTES
        return context.get_dummy_value()

    return signature, generate


if TYPE_CHECKING:

    def dot(rows: "NDArray[Any]", row: SupportsInt, others: "NDArray[Any]", other: SupportsInt) -> np.float32:
        """Return the product of two rows as far as there are whole 16 elements."""
        ...

    def add_scaled(
        factor: SupportsFloat, rows: "NDArray[Any]", row: SupportsInt, others: "NDArray[Any]", other: SupportsInt
    ) -> None:
        """Add ``factor`` times a row to another row as far as there are whole 16 elements."""

    def eight(
        rows: "NDArray[Any]", row: SupportsInt, query: "NDArray[Any]", found: "NDArray[Any]", threshold: SupportsFloat
    ) -> int:
        """Write what ``dot`` gives of a query (1, d) and eight rows from ``row`` on to ``found`` (8,).

        Returns a bit for each, the lowest of the first, whether it is above the threshold.
        """
        ...

else:
    dot = intrinsic(_dot)
    eight = intrinsic(_eight)
    add_scaled = intrinsic(_add_scaled)


@kernel
def inner(rows: "NDArray[Any]", row: int, query: "NDArray[Any]") -> np.float32:
    """Return the product of a row and a query (1, d), d any number, as this module adds."""
    length = rows.shape[1]
    total = dot(rows, row, query, 0)
    for column in range(length - length % LANES, length):
        total += rows[row, column] * query[0, column]
    return total


@kernel
def inner_eight(
    rows: "NDArray[Any]", row: int, query: "NDArray[Any]", found: "NDArray[Any]", threshold: SupportsFloat
) -> int:
    """Write what ``inner`` gives for eight rows from ``row`` on to ``found`` (8,).

    Returns a bit for each, the lowest of the first: 0 only if none is above the threshold; exact where the length of
    the rows is a multiple of 16.
    """
    length = rows.shape[1]
    above = eight(rows, row, query, found, threshold)
    if length % LANES == 0:
        return above
    for number in range(EIGHT):
        for column in range(length - length % LANES, length):
            found[number] += rows[row + number, column] * query[0, column]
    return (1 << EIGHT) - 1
