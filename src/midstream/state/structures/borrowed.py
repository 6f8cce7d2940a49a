"""Arrays that a kernel uses without counting references to them: a caller holds them for as long as it runs.

numba counts references to each array in each function that is handed it, with an atomic addition of 20 cycles or more,
and again when it is left, unless it sees that both cancel out, which it does for straight code alone. An event that
passes thirty small functions with five arrays each pays a microsecond for that. A borrowed array has nothing to count:
to the same memory, shape and type it brings no owner. So whoever borrows must have a caller that owns, as that of a
kernel always does, and must not keep what it borrowed or return it.

Of columns of which there are as many as a shop declares, a kernel is handed the addresses in one array: an argument for
each would need a version of the kernel for each number of them.
"""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from midstream.state.structures.kernel import intrinsic

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


def _borrowed(_typing: Any, held: Any) -> Any:  # noqa: ANN401  # numba's own
    from numba import types

    def without_owner(context: Any, builder: Any, kind: Any, value: Any) -> Any:  # noqa: ANN401
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, value)
            array.meminfo = context.get_constant_null(types.voidptr)
            array.parent = context.get_constant_null(types.pyobject)
            return array._getvalue()  # noqa: SLF001  # as numba's own code does
        if isinstance(kind, types.BaseTuple):
            parts: Any = kind
            for place, each in enumerate(parts):
                part = without_owner(context, builder, each, builder.extract_value(value, place))
                value = builder.insert_value(value, part, place)
        return value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        return without_owner(context, builder, signature.args[0], arguments[0])

    return held(held), generate


def address_of(codes: "NDArray[np.int32]") -> int:
    """Return where the numbers of a column of codes begin, for ``codes_at``: for as long as it is held.

    Raises:
        ValueError: They do not lie end to end.
    """
    if codes.dtype != np.int32 or not codes.flags.c_contiguous:
        message = f"{codes.dtype} with strides of {codes.strides} bytes came where int32 that lie end to end would do"
        raise ValueError(message)
    return int(codes.ctypes.data)


def _codes_at(_typing: Any, _address: Any, _rows: Any, _width: Any) -> Any:  # noqa: ANN401  # numba's own
    from numba import types
    from numba.np import arrayobj

    kind = types.Array(types.int32, 2, "C")
    signature = kind(types.int64, types.int64, types.int64)

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        address, rows, width = arguments
        array = context.make_array(kind)(context, builder)
        size = context.get_constant(types.intp, 4)
        arrayobj.populate_array(  # type: ignore[no-untyped-call]  # numba has no types
            array,
            data=builder.inttoptr(address, array.data.type),
            shape=[rows, width],
            strides=[builder.mul(width, size), size],
            itemsize=size,
            meminfo=None,
        )
        return array._getvalue()  # noqa: SLF001  # as above

    return signature, generate


if TYPE_CHECKING:

    def codes_at(address: int, rows: int, width: int) -> "NDArray[np.int32]":
        """Return the int32 numbers from an address on, (rows, width), without an owner."""
        ...

    def borrowed(held: T) -> T:
        """Return an array, or the arrays of a tuple, without owners; numbers stay as they are."""
        ...
else:
    borrowed = intrinsic(_borrowed)
    codes_at = intrinsic(_codes_at)
