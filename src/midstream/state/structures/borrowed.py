"""Arrays that a kernel uses without counting references to them: a caller holds them for as long as it runs.

numba counts references to each array in each function that is handed it, with an atomic addition of 20 cycles or more,
and again when it is left, unless it sees that both cancel out, which it does for straight code alone. An event that
passes thirty small functions with five arrays each pays a microsecond for that. A borrowed array has nothing to count:
to the same memory, shape and type it brings no owner. So whoever borrows must have a caller that owns, as that of a
kernel always does, and must not keep what it borrowed or return it.
"""

from typing import TYPE_CHECKING, Any, TypeVar

from midstream.state.structures.kernel import intrinsic

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


if TYPE_CHECKING:

    def borrowed(held: T) -> T:
        """Return an array, or the arrays of a tuple, without owners; numbers stay as they are."""
        ...
else:
    borrowed = intrinsic(_borrowed)
