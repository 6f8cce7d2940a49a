"""Loops of the kernel of ranked trees in LLVM's own vectors: as wide as a CPU is, with the same bits on every one.

Written as loops over rows they are compiled to one load after another, since LLVM does not gather where it is not told
to, and to vectors of numbers four times as wide as the ranks are. LLVM makes AVX-512, AVX2 or SSE of these, or what
another CPU has, and one load after another where none of them gathers; ``NUMBA_CPU_NAME`` says for which CPU.

Reference: LLVM Language Reference Manual, vector types and masked gather.
"""

from typing import TYPE_CHECKING, Any, Final

from midstream.events.kernel import intrinsic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LANES: Final = 64
"""Rows of a vector of ranks: all loops take whole ones."""
BLOCK: Final = 512
"""Rows of a block: 40 features with 80 ways of what is missing are then 40 KiB of ranks."""
ENTRY: Final = 3
"""Numbers of an entry: where the ranks of its column begin, its limit and its mask, each four times in a word."""
_TOGETHER: Final = 4
"""Vectors that a loop keeps in registers: so many waits for memory, or uses of one entry, at a time."""


class _Code:
    """Code of one loop."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:  # noqa: ANN401  # numba's own
        """Take where arrays begin, and numbers as they are."""
        from llvmlite import ir  # type: ignore[import-untyped]  # the package brings no types
        from numba import types

        self.ir, self.builder = ir, builder
        self.octet, self.number, self.word = ir.IntType(8), ir.IntType(32), ir.IntType(64)
        self.ranks = ir.VectorType(self.octet, LANES)
        self.parts = [
            context.make_array(kind)(context, builder, each).data if isinstance(kind, types.Array) else each
            for kind, each in zip(signature.args, arguments, strict=True)
        ]

    def same(self, kind: Any, number: float) -> Any:  # noqa: ANN401
        """Return a vector of one constant."""
        return self.ir.Constant(kind, [number] * kind.count)

    def splat(self, value: Any, count: int) -> Any:  # noqa: ANN401
        """Return a vector of one number."""
        kind = self.ir.VectorType(value.type, count)
        nothing = self.ir.Constant(kind, self.ir.Undefined)
        first = self.builder.insert_element(nothing, value, self.number(0))
        places = self.same(self.ir.VectorType(self.number, count), 0)
        return self.builder.shuffle_vector(first, nothing, places)

    def load(self, pointer: Any, place: Any, kind: Any) -> Any:  # noqa: ANN401
        """Return the vector from a place of an array on."""
        builder = self.builder
        return builder.load(builder.bitcast(builder.gep(pointer, [place]), kind.as_pointer()), align=1)

    def store(self, value: Any, pointer: Any, place: Any) -> None:  # noqa: ANN401
        """Write a vector from a place of an array on."""
        builder = self.builder
        builder.store(value, builder.bitcast(builder.gep(pointer, [place]), value.type.as_pointer()), align=1)

    def gathered(self, pointer: Any, places: Any, kind: Any, name: str) -> Any:  # noqa: ANN401
        """Return what an array has at each of some places."""
        from llvmlite.ir import (  # type: ignore[import-untyped]
            instructions,  # pyright: ignore[reportMissingTypeStubs]
        )

        ir, builder, count = self.ir, self.builder, kind.count
        pointers = ir.VectorType(self.octet.as_pointer(), count)
        # By an index of 32 bits, as that is what the instruction takes sixteen of.
        address = instructions.GEPInstr(
            builder.block, pointer, [places], inbounds=False, name="", source_etype=kind.elements[0]
        )
        address.type = pointers
        builder._insert(address)  # noqa: SLF001  # its own ``gep`` knows no vectors
        bits = ir.VectorType(ir.IntType(1), count)
        function = self.function(ir.FunctionType(kind, [pointers, self.number, bits, kind]), f"masked.gather.{name}")
        return builder.call(function, [address, self.number(4), self.same(bits, 1), self.same(kind, 0.0)])

    def function(self, kind: Any, name: str) -> Any:  # noqa: ANN401
        """Return an operation of LLVM's."""
        from numba.core import cgutils

        return cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}")  # type: ignore[no-untyped-call]

    def times(self, count: Any) -> Any:  # noqa: ANN401
        """Return a loop."""
        from numba.core import cgutils

        return cgutils.for_range(self.builder, count, intp=self.word)  # pyright: ignore[reportUnknownMemberType]

    def kept(self, kind: Any, value: Any) -> Any:  # noqa: ANN401
        """Return a variable, which LLVM keeps in a register."""
        from numba.core import cgutils

        place: Any = cgutils.alloca_once(self.builder, kind)  # type: ignore[no-untyped-call]
        self.builder.store(value, place)
        return place  # pyright: ignore[reportUnknownVariableType]


def _rank(_typing: Any, values: Any, _rows: Any, limits: Any, _steps: Any, found: Any) -> Any:  # noqa: ANN401
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        code = _Code(context, builder, signature, arguments)
        values, rows, limits, steps, found = code.parts
        real = code.ir.VectorType(code.ir.FloatType(), LANES // _TOGETHER)
        whole = code.ir.VectorType(code.number, real.count)
        before, last = builder.gep(limits, [code.word(-1)]), builder.sub(steps, code.word(1))
        with code.times(builder.udiv(rows, code.word(LANES))) as loop:
            first = builder.mul(loop.index, code.word(LANES))
            at = [builder.add(first, code.word(each * real.count)) for each in range(_TOGETHER)]
            asked = [code.load(values, each, real) for each in at]
            below = [code.kept(whole, code.same(whole, 0)) for _ in at]
            with code.times(steps) as halving:
                half = builder.shl(code.word(1), builder.sub(last, halving.index))
                step = code.splat(builder.trunc(half, code.number), whole.count)
                for value, place in zip(asked, below, strict=True):
                    held = builder.load(place)
                    tried = builder.add(held, step)
                    limit = code.gathered(before, tried, real, "v16f32.v16p0")
                    builder.store(builder.select(builder.fcmp_ordered("<", limit, value), tried, held), place)
            ranks = code.ir.VectorType(code.octet, real.count)
            for place, where in zip(below, at, strict=True):
                rank = builder.trunc(builder.load(place), ranks)
                code.store(builder.add(rank, code.same(ranks, -128)), found, where)
        return context.get_dummy_value()

    return types.void(values, types.int64, limits, types.int64, found), generate


def _mask(_typing: Any, ranks: Any, _rows: Any, entries: Any, _count: Any, left: Any) -> Any:  # noqa: ANN401  # numba's own
    from numba import types

    def masked(code: _Code, first: Any, together: int) -> None:  # noqa: ANN401
        builder = code.builder
        ranks, _, entries, count, left = code.parts
        at = [builder.add(first, code.word(each * LANES)) for each in range(together)]
        held = [code.kept(code.ranks, code.same(code.ranks, -1)) for _ in at]
        with code.times(count) as loop:
            entry = builder.gep(entries, [builder.mul(loop.index, code.word(ENTRY))])
            column, limit, mask = (builder.load(builder.gep(entry, [code.word(each)])) for each in range(ENTRY))
            # A word of four equal octets comes from memory into all lanes; an octet would take a turn of a port more.
            limits, masks = (builder.bitcast(code.splat(each, LANES // 4), code.ranks) for each in (limit, mask))
            mine = builder.gep(ranks, [builder.sext(column, code.word)])
            for place, where in zip(held, at, strict=True):
                stays = builder.icmp_signed("<=", code.load(mine, where, code.ranks), limits)
                kept = builder.or_(masks, builder.sext(stays, code.ranks))
                builder.store(builder.and_(builder.load(place), kept), place)
        for place, where in zip(held, at, strict=True):
            code.store(builder.load(place), left, where)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        code = _Code(context, builder, signature, arguments)
        wide = code.word(_TOGETHER * LANES)
        rounds = builder.udiv(code.parts[1], wide)
        with code.times(rounds) as loop:
            masked(code, builder.mul(loop.index, wide), _TOGETHER)
        done = builder.mul(rounds, wide)
        with code.times(builder.udiv(builder.sub(code.parts[1], done), code.word(LANES))) as loop:
            masked(code, builder.add(done, builder.mul(loop.index, code.word(LANES))), 1)
        return context.get_dummy_value()

    return types.void(ranks, types.int64, entries, types.int64, left), generate


def _add(_typing: Any, left: Any, _octets: Any, _rows: Any, values: Any, total: Any) -> Any:  # noqa: ANN401
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        code = _Code(context, builder, signature, arguments)
        left, octets, rows, values, total = code.parts
        real, bit = code.ir.VectorType(code.ir.DoubleType(), 8), code.ir.IntType(1)
        lowest = code.function(code.ir.FunctionType(code.ranks, [code.ranks, bit]), "cttz.v64i8")
        with code.times(builder.udiv(rows, code.word(LANES))) as loop:
            row = builder.mul(loop.index, code.word(LANES))
            leaf = code.kept(code.ranks, code.same(code.ranks, 0))
            with code.times(octets) as each:
                octet = builder.sub(builder.sub(octets, code.word(1)), each.index)
                bits = code.load(left, builder.add(builder.mul(octet, code.word(BLOCK)), row), code.ranks)
                first = code.splat(builder.trunc(builder.shl(octet, code.word(3)), code.octet), LANES)
                found = builder.add(builder.call(lowest, [bits, bit(0)]), first)
                is_there = builder.icmp_unsigned("!=", bits, code.same(code.ranks, 0))
                builder.store(builder.select(is_there, found, builder.load(leaf)), leaf)
            leaves = builder.load(leaf)
            for first in range(0, LANES, real.count):
                places = code.ir.Constant(code.ir.VectorType(code.number, real.count), list(range(first, first + 8)))
                some = builder.shuffle_vector(leaves, code.ir.Constant(code.ranks, code.ir.Undefined), places)
                index = builder.zext(some, code.ir.VectorType(code.number, real.count))
                value = code.gathered(values, index, real, "v8f64.v8p0")
                at = builder.add(row, code.word(first))
                code.store(builder.fadd(code.load(total, at, real), value), total, at)
        return context.get_dummy_value()

    return types.void(left, types.int64, types.int64, values, total), generate


if TYPE_CHECKING:

    def rank_rows(
        values: NDArray[np.float32], rows: int, limits: NDArray[np.float32], steps: int, found: NDArray[np.int8]
    ) -> None:
        """Write how many limits are below each value, less 128; of NaN -128.

        Args:
            values: No less than ``rows``.
            rows: How many, in whole ``LANES``.
            limits: Ascending, 2^steps - 1 of them: above the last that counts stands infinity.
            steps: At most 8.
            found: For the ranks, as long as ``values``.
        """
        ...

    def mask_rows(
        ranks: NDArray[np.int8], rows: int, entries: NDArray[np.int32], count: int, left: NDArray[np.int8]
    ) -> None:
        """Write which of eight leaves are left for each row: all, less those of each entry whose limit it is above.

        Args:
            ranks: Of all columns.
            rows: How many, in whole ``LANES``.
            entries: ``ENTRY`` numbers each.
            count: Of entries.
            left: For the bits, no less than ``rows``.
        """
        ...

    def add_leaves(
        left: NDArray[np.int8], octets: int, rows: int, values: NDArray[np.float64], total: NDArray[np.float64]
    ) -> None:
        """Add the value of the first leaf that is left to each row's total.

        Args:
            left: Bits of eight leaves after eight, ``BLOCK`` rows of each.
            octets: How many eights.
            rows: How many, in whole ``LANES``.
            values: Of the leaves.
            total: Is added to, no less than ``rows``.
        """
        ...
else:
    rank_rows = intrinsic(_rank)
    mask_rows = intrinsic(_mask)
    add_leaves = intrinsic(_add)
