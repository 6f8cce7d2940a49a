"""Asking for memory ahead of its use: a fold waits for rows that lie anywhere in gigabytes more than it works.

A kernel that knows which rows its next events need asks for them some events ahead, so that they come while it is at
the events before. That changes no value and reads none: what a kernel gives is the same to the bit, and a place that
is not in the array does no harm.

Reference: S. Chen, A. Ailamaki, P. B. Gibbons, T. C. Mowry, "Improving Hash Join Performance through Prefetching",
ICDE 2004.
"""

from typing import TYPE_CHECKING, Any, Final

from midstream.state.structures.kernel import inlined, intrinsic

if TYPE_CHECKING:
    from numpy.typing import NDArray

AHEAD: Final = 8
"""Events between the request for a row and its use: at 50 to 100 ns each, several times the 0.1 µs of a wait."""
FURTHER: Final = 16
"""Events ahead at which that is asked for in which the place of a row is looked up."""
NEAR: Final = 4
"""Events ahead at which that is asked for which a row that was asked for names."""
BLOCK: Final = 16
"""Events for which a fold asks in one go. Before a request leaves the CPU its address is translated, which takes 30 to
60 ns in tables of gigabytes; several are translated at a time where nothing but requests stands between them, and none
where the work of an event does. A power of two."""
LINE_BYTES: Final = 64
"""Memory comes in lines of so many bytes on every CPU there are wheels of numba for."""
_WRITES, _STAYS, _OF_DATA = 1, 3, 1


def _prefetch(_typing: Any, array: Any, _index: Any, _offset: Any) -> Any:  # noqa: ANN401  # numba's own
    from llvmlite import ir  # type: ignore[import-untyped]  # the package brings no types
    from numba import types

    signature = types.void(array, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        found = context.make_array(signature.args[0])(context, builder, arguments[0])
        stride = builder.extract_value(found.strides, 0)
        word: Any = stride.type
        place = builder.add(builder.mul(arguments[1], stride), arguments[2])
        address = builder.add(builder.ptrtoint(found.data, word), place)
        octet, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [octet, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [octet], kind)
        hints = [number(_WRITES), number(_STAYS), number(_OF_DATA)]
        builder.call(function, [builder.inttoptr(address, octet), *hints])
        return context.get_dummy_value()

    return signature, generate


if TYPE_CHECKING:

    def prefetch(array: "NDArray[Any]", index: int, offset: int) -> None:
        """Ask for the 64 bytes at ``offset`` bytes into ``array[index]``, to be written soon."""
else:
    prefetch = intrinsic(_prefetch)


@inlined
def block_ahead(event: int, count: int, blocks: int) -> tuple[int, int]:
    """Return the events, from one to before another, for which is asked at an event: none but at the first of a block.

    Args:
        event: That one. At the very first one is asked for all blocks up to there.
        count: Of all events.
        blocks: How many blocks ahead.
    """
    is_first = event & (BLOCK - 1) == 0
    start = event + blocks * BLOCK if event > 0 else 0
    stop = event + (blocks + 1) * BLOCK if is_first else 0
    return min(start, count), min(stop, count)
