"""Columns of a state as kernels borrow them: by address, since a shop declares any number of them.

An argument for each would need a version of a kernel for each number. What is borrowed brings no owner: whoever hands
addresses to a kernel holds the arrays for as long as it runs.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from midstream.state.structures.kernel import intrinsic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def address_of(column: "NDArray[Any]") -> int:
    """Return where a column begins, for as long as it is held.

    Raises:
        ValueError: Its numbers do not lie end to end.
    """
    if not column.flags.c_contiguous:
        message = f"{column.dtype} with strides of {column.strides} bytes came where numbers end to end would do"
        raise ValueError(message)
    return int(column.ctypes.data)


def _column_at(name: str, width: int) -> Callable[..., Any]:
    """Return what writes the code that makes an array of an address and a length."""

    def generator(_typing: Any, _address: Any, _count: Any) -> Any:  # noqa: ANN401  # numba's own
        from numba import types
        from numba.np import arrayobj

        kind = types.Array(getattr(types, name), 1, "C")
        signature = kind(types.int64, types.int64)

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
            address, count = arguments
            array = context.make_array(kind)(context, builder)
            size = context.get_constant(types.intp, width)
            arrayobj.populate_array(  # type: ignore[no-untyped-call]  # numba has no types
                array,
                data=builder.inttoptr(address, array.data.type),
                shape=[count],
                strides=[size],
                itemsize=size,
                meminfo=None,
            )
            return array._getvalue()  # noqa: SLF001  # as numba's own code does

        return signature, generate

    return generator


if TYPE_CHECKING:

    def numbers_at(address: int, count: int) -> NDArray[np.float64]:
        """Return the float64 numbers from an address on, (count,), without an owner."""
        ...

    def flags_at(address: int, count: int) -> NDArray[np.int8]:
        """Return the same of int8."""
        ...

    def times_at(address: int, count: int) -> NDArray[np.int64]:
        """Return the same of int64."""
        ...

    def hashes_at(address: int, count: int) -> NDArray[np.uint64]:
        """Return the same of uint64."""
        ...
else:
    numbers_at = intrinsic(_column_at("float64", 8))
    flags_at = intrinsic(_column_at("int8", 1))
    times_at = intrinsic(_column_at("int64", 8))
    hashes_at = intrinsic(_column_at("uint64", 8))
