"""Thirty-two numbers looked at together: which of them equal a value, and which is the smallest.

A loop over the places of a row takes several instructions a place, and what a compiler makes of it for any length
spends more on the ends of the loop than on the row. Here the length is fixed, so all of it is a dozen instructions of
whatever width the CPU has; LLVM puts smaller ones in their place where it has none. Nothing is rounded or reordered:
equality and order of whole numbers are the same one by one.

A caller makes sure that all ``LANES`` numbers lie in the array.
"""

from typing import TYPE_CHECKING, Any, Final, SupportsInt

import numpy as np

from midstream.core.types import Index
from midstream.state.structures.kernel import inlined, intrinsic

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANES: Final = 32
"""Neighbours of an item as the settings have them, unless told otherwise."""


def _ir() -> Any:  # noqa: ANN401  # llvmlite has no types
    """Return what writes LLVM's code."""
    from llvmlite import ir  # type: ignore[import-untyped]  # as above

    return ir


def _lanes(context: Any, builder: Any, kind: Any, arguments: Any) -> Any:  # noqa: ANN401  # numba's own
    """Return the numbers from ``array[row, start]`` on as one vector."""
    ir = _ir()
    found = context.make_array(kind)(context, builder, arguments[0])
    strides = [builder.extract_value(found.strides, axis) for axis in range(2)]
    word: Any = strides[0].type
    place = builder.add(
        builder.mul(arguments[1], strides[0]), builder.mul(arguments[2], word(kind.dtype.bitwidth // 8))
    )
    address = builder.add(builder.ptrtoint(found.data, word), place)
    vector = ir.VectorType(ir.IntType(kind.dtype.bitwidth), LANES)
    return builder.load(builder.inttoptr(address, vector.as_pointer()), align=kind.dtype.bitwidth // 8)


def _splat(builder: Any, value: Any) -> Any:  # noqa: ANN401  # as above
    ir = _ir()
    kind = ir.VectorType(value.type, LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _equal_lanes(_typing: Any, array: Any, _row: Any, _start: Any, _value: Any) -> Any:  # noqa: ANN401  # as above
    from numba import types

    ir = _ir()

    signature = types.uint32(array, types.int64, types.int64, array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        held = _lanes(context, builder, signature.args[0], arguments)
        same = builder.icmp_signed("==", held, _splat(builder, arguments[3]))
        return builder.bitcast(same, ir.IntType(LANES))

    return signature, generate


def _lowest_lane(_typing: Any, array: Any, _row: Any, _start: Any) -> Any:  # noqa: ANN401  # as above
    from numba import types

    ir = _ir()

    signature = array.dtype(array, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        held, length = _lanes(context, builder, signature.args[0], arguments), LANES
        while length > 1:
            length //= 2
            number = ir.VectorType(ir.IntType(32), length)
            low = builder.shuffle_vector(held, held, ir.Constant(number, list(range(length))))
            high = builder.shuffle_vector(held, held, ir.Constant(number, list(range(length, 2 * length))))
            held = builder.select(builder.icmp_signed("<", low, high), low, high)
        return builder.extract_element(held, ir.IntType(32)(0))

    return signature, generate


def _lowest_bit(_typing: Any, _bits: Any) -> Any:  # noqa: ANN401  # as above
    from numba import types

    ir = _ir()

    signature = types.int64(types.uint32)

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        return builder.zext(builder.cttz(arguments[0], ir.IntType(1)(0)), ir.IntType(64))

    return signature, generate


if TYPE_CHECKING:

    def equal_lanes(array: NDArray[np.integer], row: int, start: int, value: SupportsInt) -> np.uint32:
        """Return a bit for each of the ``LANES`` numbers from ``array[row, start]`` on: 1 = it is the value."""
        ...

    def lowest_lane(array: NDArray[np.integer], row: int, start: int) -> int:
        """Return the smallest of the ``LANES`` numbers from ``array[row, start]`` on."""
        ...

    def lowest_bit(bits: np.uint32) -> int:
        """Return the place of the lowest bit that is 1; ``LANES`` where none is."""
        ...
else:
    equal_lanes = intrinsic(_equal_lanes)
    lowest_lane = intrinsic(_lowest_lane)
    lowest_bit = intrinsic(_lowest_bit)


@inlined
def first_equal(items: Index, line: int, start: int, count: int, item: int) -> int:
    """Return the first place of a number among ``count`` of a line from ``start`` on, -1 = nowhere."""
    found = -1
    at = 0
    while found < 0 and at + LANES <= count:
        bits = equal_lanes(items, line, start + at, np.int32(item))
        found = at + lowest_bit(bits) if bits != np.uint32(0) else -1
        at += LANES
    while found < 0 and at < count:
        found = at if items[line, start + at] == np.int32(item) else -1
        at += 1
    return found
