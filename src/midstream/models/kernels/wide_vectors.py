"""The widest vectors that the CPU has, for a kernel that is worth them.

LLVM takes half of an AVX-512 register where a CPU says that it prefers so, as those of Intel do: for code that uses
wide registers now and then the slower clock that they once came with costs more than they save. A kernel that does
hardly anything else is faster with all of them. It is said of one kernel and holds for no other; a CPU without such
registers, or without that preference, gets what it got before. What is computed is the same to the bit: a loop that
adds floats is not made wide here either.
"""

from typing import TYPE_CHECKING, Any, Final

from midstream.events.kernel import intrinsic

_ATTRIBUTE: Final = '"prefer-vector-width"="512"'


def _wide_vectors(_typing: Any) -> Any:  # noqa: ANN401  # numba's own
    from numba import types

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:  # noqa: ANN401
        # ``add`` of the attributes knows those without a value alone.
        set[str].add(builder.function.attributes, _ATTRIBUTE)
        return context.get_dummy_value()

    return types.void(), generate


if TYPE_CHECKING:

    def wide_vectors() -> None:
        """Compile the kernel that calls it for the widest vectors; it does nothing when it runs."""
else:
    wide_vectors = intrinsic(_wide_vectors)
