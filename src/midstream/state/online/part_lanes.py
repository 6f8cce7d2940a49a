"""Vectorised FTRL step: four parts of a row are moved together, each to the bits that it would have by itself.

The four numbers of a part lie side by side in 32 bytes. Four parts are four loads and a transposition in registers, one
vector root, one vector quotient, and four stores; a loop over columns of numbers passes each of them through memory
twice, which takes longer than the arithmetic. IEEE 754 rounds sums, products, quotients and roots exactly, no two of
them are contracted into one, and LLVM splits the vectors where a CPU has smaller ones: the bits are those of any CPU.

Places are not checked, and a negative one is no place from the end: callers hand over places that are there.
"""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from midstream.state.structures.kernel import intrinsic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LANES: Final = 4
"""Parts that are learned, and weights that are added, side by side."""
_ROW_BYTES: Final = 8 * LANES
_FIRST_PAIRS, _SECOND_PAIRS = (0, 4, 2, 6), (1, 5, 3, 7)
_LOW_HALVES, _HIGH_HALVES = (0, 1, 4, 5), (2, 3, 6, 7)


class RowStep(NamedTuple):
    """What a row moves each of its parts by."""

    gradient: float
    square: float
    """Of the gradient."""
    rate: float
    """1 / alpha."""
    beta: float
    l1: float
    """Penalty that z must exceed for a weight other than 0."""
    l2: float


class _Vectors:
    """LLVM code of vectors of four float64."""

    def __init__(self, builder: Any) -> None:  # noqa: ANN401  # llvmlite has no types
        """Write to a builder of LLVM's."""
        from llvmlite import ir  # type: ignore[import-untyped]  # the package brings no types

        self.ir, self.builder = ir, builder
        self.number = ir.DoubleType()
        self.vector = ir.VectorType(self.number, LANES)

    def shuffled(self, low: Any, high: Any, places: tuple[int, ...]) -> Any:  # noqa: ANN401  # as above
        """Return numbers of two vectors by their places in both."""
        kind = self.ir.VectorType(self.ir.IntType(32), LANES)
        return self.builder.shuffle_vector(low, high, self.ir.Constant(kind, list(places)))

    def transposed(self, rows: list[Any]) -> list[Any]:
        """Return the columns of four rows."""
        low, high = (
            [self.shuffled(rows[each], rows[each + 1], pairs) for each in (0, 2)]
            for pairs in (_FIRST_PAIRS, _SECOND_PAIRS)
        )
        return [
            self.shuffled(pairs[0], pairs[1], halves) for halves in (_LOW_HALVES, _HIGH_HALVES) for pairs in (low, high)
        ]

    def splat(self, number: Any) -> Any:  # noqa: ANN401  # as above
        """Return a vector of one number."""
        undefined = self.ir.Constant(self.vector, self.ir.Undefined)
        one = self.builder.insert_element(undefined, number, self.ir.IntType(32)(0))
        return self.shuffled(one, one, (0,) * LANES)

    def called(self, name: str, value: Any) -> Any:  # noqa: ANN401  # as above
        """Return the result of a vector function of LLVM."""
        kind = self.ir.FunctionType(self.vector, [self.vector])
        return self.builder.call(self.builder.module.declare_intrinsic(f"{name}.v{LANES}f64", fnty=kind), [value])


def _place_of(context: Any, builder: Any, kinds: Any, arguments: Any, lane: int) -> Any:  # noqa: ANN401  # numba's own
    """Return the address of the row of the part that stands ``lane`` behind a place of ``parts``."""
    sums, parts = (context.make_array(kinds[each])(context, builder, arguments[each]) for each in range(2))
    word: Any = arguments[2].type
    part = builder.load(builder.gep(parts.data, [builder.add(arguments[2], word(lane))]))
    return builder.add(builder.ptrtoint(sums.data, word), builder.mul(part, word(_ROW_BYTES)))


def _stepped(code: _Vectors, columns: list[Any], step: list[Any]) -> list[Any]:
    """Return weight, z, n and root of four parts after a row."""
    builder = code.builder
    weight, z, n, root = columns
    gradient, square, rate, beta, l1, l2 = map(code.splat, step)
    n = builder.fadd(n, square)
    after = code.called("llvm.sqrt", n)
    moved = builder.fmul(builder.fmul(builder.fsub(after, root), rate), weight)
    z = builder.fadd(z, builder.fsub(gradient, moved))
    zero = code.ir.Constant(code.vector, [0.0] * LANES)
    shrunk = builder.select(builder.fcmp_ordered("<", z, zero), builder.fneg(l1), l1)
    slowed = builder.fadd(builder.fmul(builder.fadd(beta, after), rate), l2)
    free = builder.fdiv(builder.fsub(shrunk, z), slowed)
    is_free = builder.fcmp_ordered(">", code.called("llvm.fabs", z), l1)
    return [builder.select(is_free, free, zero), z, n, after]


def _step_lanes(_typing: Any, sums: Any, parts: Any, _start: Any, step: Any) -> Any:  # noqa: ANN401  # numba's own
    from numba import types

    signature = types.void(sums, parts, types.int64, step)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        code = _Vectors(builder)
        addresses = [_place_of(context, builder, signature.args, arguments, lane) for lane in range(LANES)]
        places = [builder.inttoptr(each, code.vector.as_pointer()) for each in addresses]
        rows = [builder.load(each, align=8) for each in places]
        step = [builder.extract_value(arguments[3], place) for place in range(len(RowStep._fields))]
        columns = _stepped(code, code.transposed(rows), step)
        for place, row in zip(places, code.transposed(columns), strict=True):
            builder.store(row, place, align=8)
        return context.get_dummy_value()

    return signature, generate


def _weight_at(_typing: Any, sums: Any, parts: Any, _place: Any) -> Any:  # noqa: ANN401  # numba's own
    from numba import types

    signature = types.float64(sums, parts, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        address = _place_of(context, builder, signature.args, arguments, 0)
        return builder.load(builder.inttoptr(address, _Vectors(builder).number.as_pointer()))

    return signature, generate


if TYPE_CHECKING:

    def weight_at(sums: NDArray[np.float64], parts: NDArray[np.int64], place: int) -> float:
        """Return the weight of the part at a place of ``parts``, as ``step_lanes`` has both."""
        ...

    def step_lanes(sums: NDArray[np.float64], parts: NDArray[np.int64], start: int, step: RowStep) -> None:
        """Move four parts by the gradient of a row.

        Args:
            sums: Of each part its weight, z, n and the root of n, (parts, 4), C order. Changed.
            parts: Rows of ``sums``. A row that is named twice by the four has the numbers of either afterwards.
            start: First of the four in ``parts``.
            step: Of the row.
        """
        ...
else:
    weight_at = intrinsic(_weight_at)
    step_lanes = intrinsic(_step_lanes)
