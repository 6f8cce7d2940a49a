"""Words of many rows side by side: eight rows at a time, of each the word of one cell.

Rows lie anywhere, so a loop over them is compiled to one load after another, and to a branch where some rows have
nothing, which is guessed wrong as often as not. Here it is written in LLVM's own vectors: one instruction that gathers
eight words where a CPU has one (AVX2, AVX-512), and eight loads where it has none. What is computed is the same to the
bit on every CPU; of a row without anything no word is read.

Reference: LLVM Language Reference Manual, masked gather and masked store.
"""

from typing import TYPE_CHECKING, Any, Final

from midstream.state.structures.kernel import intrinsic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LANES: Final = 8
_LANE_BITS: Final = 3
_WORD_BYTES: Final = 8


class _Lanes:
    """Code that takes eight rows after eight."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:  # noqa: ANN401  # numba's own
        """Take words, rows, where their values go, and numbers of a cell."""
        from llvmlite import ir  # type: ignore[import-untyped]  # the package brings no types
        from numba import types

        self.ir, self.builder = ir, builder
        self.bit, self.whole, self.real = (
            ir.VectorType(each, _LANES) for each in (ir.IntType(1), ir.IntType(64), ir.DoubleType())
        )
        self.word = ir.IntType(64)

        def part(argument: int, place: int, kind: Any) -> Any:  # noqa: ANN401
            value = builder.extract_value(arguments[argument], place)
            return context.cast(builder, value, signature.args[argument][place], kind)

        def array(kind: Any, value: Any) -> Any:  # noqa: ANN401
            return context.make_array(kind)(context, builder, value)

        rows, to, cell = signature.args[1:]
        words = array(signature.args[0], arguments[0])
        self.rows, self.times, found = (
            array(kind[place], builder.extract_value(arguments[which], place))
            for kind, which, place in ((rows, 1, 0), (rows, 1, 1), (to, 2, 0))
        )
        self.count = part(1, 2, types.int64)
        self.base = self.splat(builder.ptrtoint(words.data, self.word))
        at = builder.mul(part(2, 1, types.int64), builder.extract_value(found.strides, 0))
        at = builder.add(at, builder.mul(part(2, 2, types.int64), self.word(_WORD_BYTES)))
        self.out = builder.add(builder.ptrtoint(found.data, self.word), at)
        kinds = [types.float64 if isinstance(each, types.Float) else types.int64 for each in cell]
        self.cell = [self.splat(part(3, place, kind)) for place, kind in enumerate(kinds)]
        self.index: Any = None
        self.row: Any = None
        self.time: Any = None
        self.is_known: Any = None

    def splat(self, value: Any) -> Any:  # noqa: ANN401
        """Return a vector of one number."""
        ir, kind = self.ir, self.ir.VectorType(value.type, _LANES)
        number = ir.IntType(32)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, number(0))
        places = ir.Constant(ir.VectorType(number, _LANES), [0] * _LANES)
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), places)

    def wholes(self, number: int) -> Any:  # noqa: ANN401
        """Return a vector of a whole number."""
        return self.ir.Constant(self.whole, [number] * _LANES)

    def reals(self, number: float) -> Any:  # noqa: ANN401
        """Return a vector of a float64."""
        return self.ir.Constant(self.real, [number] * _LANES)

    def at(self, index: Any) -> None:  # noqa: ANN401
        """Begin with the eight rows of a number: whose first words and log times are those."""
        builder = self.builder
        self.index = builder.shl(index, self.word(_LANE_BITS))
        self.row, self.time = (
            builder.load(builder.bitcast(builder.gep(each.data, [self.index]), self.whole.as_pointer()), align=8)
            for each in (self.rows, self.times)
        )
        self.is_known = builder.icmp_signed(">", self.time, self.wholes(0))

    def gathered(self, word: Any, mask: Any) -> Any:  # noqa: ANN401
        """Return a word of each row, 0 where a bit is not set: then none is read."""
        ir, builder = self.ir, self.builder
        place = builder.shl(builder.add(self.row, word), self.wholes(_LANE_BITS))
        pointers = ir.VectorType(ir.IntType(8).as_pointer(), _LANES)
        kind = ir.FunctionType(self.real, [pointers, ir.IntType(32), self.bit, self.real])
        function = self._function(kind, "llvm.masked.gather.v8f64.v8p0")
        address = builder.inttoptr(builder.add(self.base, place), pointers)
        return builder.call(function, [address, ir.IntType(32)(_WORD_BYTES), mask, self.reals(0.0)])

    def store(self, value: Any, none: Any) -> None:  # noqa: ANN401
        """Write the values of the rows there are: ``none`` of one without anything, NaN of one that is not known."""
        ir, builder = self.ir, self.builder
        is_none = builder.icmp_signed("==", self.time, self.wholes(0))
        other = builder.select(is_none, none, self.reals(float("nan")))
        value = builder.select(self.is_known, value, other)
        lanes = ir.Constant(self.whole, list(range(_LANES)))
        is_there = builder.icmp_signed("<", builder.add(self.splat(self.index), lanes), self.splat(self.count))
        kind = ir.FunctionType(ir.VoidType(), [self.real, self.real.as_pointer(), ir.IntType(32), self.bit])
        place = builder.add(self.out, builder.shl(self.index, self.word(_LANE_BITS)))
        function = self._function(kind, "llvm.masked.store.v8f64.p0")
        to = builder.inttoptr(place, self.real.as_pointer())
        builder.call(function, [value, to, ir.IntType(32)(_WORD_BYTES), is_there])

    def _function(self, kind: Any, name: str) -> Any:  # noqa: ANN401
        from numba.core import cgutils

        return cgutils.get_or_insert_function(self.builder.module, kind, name)  # type: ignore[no-untyped-call]

    def each(self) -> Any:  # noqa: ANN401
        """Return the loop over all rows, eight at a time."""
        from numba.core import cgutils

        rounds = self.builder.lshr(self.builder.add(self.count, self.word(_LANES - 1)), self.word(_LANE_BITS))
        return cgutils.for_range(self.builder, rounds, intp=self.word)  # pyright: ignore[reportUnknownMemberType]


def _scaled(_typing: Any, words: Any, rows: Any, to: Any, cell: Any) -> Any:  # noqa: ANN401  # numba's own
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        lanes = _Lanes(context, builder, signature, arguments)
        word, factor, none = lanes.cell
        with lanes.each() as loop:
            lanes.at(loop.index)
            lanes.store(builder.fmul(lanes.gathered(word, lanes.is_known), factor), none)
        return context.get_dummy_value()

    return types.void(words, rows, to, cell), generate


def _windowed(_typing: Any, words: Any, rows: Any, to: Any, cell: Any) -> Any:  # noqa: ANN401  # numba's own
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        lanes = _Lanes(context, builder, signature, arguments)
        word, ring, edge, latest, begin, none = lanes.cell
        with lanes.each() as loop:
            lanes.at(loop.index)
            is_after = builder.icmp_signed(">=", lanes.time, edge)
            is_part = builder.and_(is_after, builder.icmp_signed("<", lanes.time, latest))
            is_kept = builder.icmp_signed(">=", lanes.time, begin)
            total = lanes.gathered(word, lanes.is_known)
            before = lanes.gathered(ring, builder.and_(lanes.is_known, is_part))
            whole = builder.fmul(total, builder.select(is_kept, lanes.reals(1.0), lanes.reals(0.0)))
            sign = builder.select(is_kept, lanes.reals(-1.0), lanes.reals(1.0))
            part = builder.fmul(before, builder.select(is_part, sign, lanes.reals(0.0)))
            lanes.store(builder.fadd(whole, part), none)
        return context.get_dummy_value()

    return types.void(words, rows, to, cell), generate


if TYPE_CHECKING:
    Rows = tuple[NDArray[np.int64], NDArray[np.int64], int]
    """First word of each row and its log time (0 = it has nothing, below = its key is not known), both in whole eights,
    and how many there are."""
    Place = tuple[NDArray[np.float64], int, int]
    """A matrix whose rows lie end to end, the row of it, and the first column."""

    def read_scaled(words: NDArray[np.float64], rows: Rows, to: Place, cell: tuple[int, float, float]) -> None:
        """Write a word of each row times a factor; the last number is that of a row that has nothing."""
        ...

    def read_windows(
        words: NDArray[np.float64], rows: Rows, to: Place, cell: tuple[int, int, int, int, int, float]
    ) -> None:
        """Write a window of each row.

        Of the cell: the word of its total, that of its ring, from which log time on and before which one that is read,
        from which one on the total counts, and what the ring has is taken off it; what a row has that has nothing.
        """
        ...
else:
    read_scaled = intrinsic(_scaled)
    read_windows = intrinsic(_windowed)
