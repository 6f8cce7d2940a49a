"""The kernel that scans vectors of 16 bits a number, and multiplies out those that may be among the best.

Vectors lie in tiles of 16: of each two dimensions the 16 words of both numbers of each vector. So a lane is a vector,
nothing is added up across lanes, and memory is read from its beginning to its end.
"""

from typing import TYPE_CHECKING, Any, Final, SupportsInt

import numpy as np

from midstream.events.kernel import intrinsic, kernel
from midstream.models.kernels.simd_dot import LANES, code_tools, inner, llvm_ir
from midstream.models.kernels.top_k_kernels import keep_greatest, key_of, score_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLOAT_BYTES: Final = 4
_CHAINS: Final = 4
"""Sums that do not wait for each other."""
SAMPLED: Final = 16
"""Of so many tiles one says first which score will do."""
_INFINITE: Final = 0x7F800000
"""The bits of inf."""
_LOW: Final = 0xFFFFFFFF
TINY: Final = 2.0**-120
"""More than what products below the normal numbers can be off by, and nothing beside any score."""


def _words() -> Any:  # noqa: ANN401  # llvmlite's own
    ir = llvm_ir()
    return ir.VectorType(ir.IntType(32), LANES)


def _floats() -> Any:  # noqa: ANN401  # as above
    ir = llvm_ir()
    return ir.VectorType(ir.FloatType(), LANES)


def _are(kind: Any, *arrays: Any) -> bool:  # noqa: ANN401
    """Return whether types are of one element and without gaps."""
    return all(getattr(each, "dtype", None) == kind and each.layout == "C" for each in arrays)


def _everywhere(builder: Any, value: Any) -> Any:  # noqa: ANN401
    """Return a vector of one value."""
    ir = llvm_ir()
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(_words(), [0] * LANES))


def _vector(builder: Any, address: Any, kind: Any) -> Any:  # noqa: ANN401
    """Read 16 elements that begin anywhere."""
    found = builder.load(builder.bitcast(address, kind.as_pointer()))
    found.align = _FLOAT_BYTES
    return found


def _tile_products(builder: Any, tile: Any, query: Any, pairs: Any) -> Any:  # noqa: ANN401
    """Return the products of the 16 vectors of a tile and the query, a lane each; ``pairs`` is even."""
    ir = llvm_ir()
    tools = code_tools()
    kind = ir.FunctionType(_floats(), [_floats()] * 3)
    add = tools.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    sums = [tools.alloca_once(builder, _floats()) for _ in range(_CHAINS)]
    for each in sums:
        builder.store(ir.Constant(_floats(), [0.0] * LANES), each)
    with tools.for_range(builder, builder.sdiv(pairs, pairs.type(2))) as loop:
        for half in range(2):
            pair = builder.add(builder.mul(loop.index, pairs.type(2)), pairs.type(half))
            words = _vector(builder, builder.gep(tile, [builder.mul(pair, pairs.type(LANES))]), _words())
            even = builder.shl(words, ir.Constant(_words(), [16] * LANES))
            odd = builder.and_(words, ir.Constant(_words(), [0xFFFF0000] * LANES))
            for place, numbers in enumerate((even, odd)):
                at = builder.add(builder.mul(pair, pairs.type(2)), pairs.type(place))
                asked = _everywhere(builder, builder.load(builder.gep(query, [at])))
                chain = sums[2 * half + place]
                builder.store(
                    builder.call(add, [builder.bitcast(numbers, _floats()), asked, builder.load(chain)]), chain
                )
    one, two, three, four = (builder.load(each) for each in sums)
    return builder.fadd(builder.fadd(one, two), builder.fadd(three, four))


def _bounds(_typing: Any, high: Any, _tile: Any, query: Any, length: Any, edges: Any) -> Any:  # noqa: ANN401
    from numba import types

    ir = llvm_ir()
    if not (_are(types.uint32, high) and _are(types.float32, query, length, edges)):
        return None
    signature = types.int64(high, types.int64, query, length, edges)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        high, tile, query, length, edges = arguments
        made = [context.make_array(signature.args[place]) for place in (0, 2, 3, 4)]
        tiles, asked, lengths, written = (
            make(context, builder, value) for make, value in zip(made, (high, query, length, edges), strict=True)
        )
        off, least = (
            _everywhere(builder, builder.load(builder.gep(written.data, [tile.type(place)])))
            for place in (2 * LANES, 2 * LANES + 1)
        )
        pairs = builder.extract_value(tiles.shape, 1)
        start = builder.gep(tiles.data, [builder.mul(tile, builder.mul(pairs, tile.type(LANES)))])
        score = _tile_products(builder, start, asked.data, pairs)
        long = _vector(builder, builder.gep(lengths.data, [builder.mul(tile, tile.type(LANES))]), _floats())
        bound = builder.fadd(builder.fmul(long, off), ir.Constant(_floats(), [TINY] * LANES))
        upper = builder.fadd(score, bound)
        for place, value in enumerate((builder.fsub(score, bound), upper)):
            address = builder.gep(written.data, [tile.type(place * LANES)])
            kept = builder.store(value, builder.bitcast(address, _floats().as_pointer()))
            kept.align = _FLOAT_BYTES
        # Unordered: where one of both is no number, the vector is looked at.
        above = builder.fcmp_unordered(">", upper, least)
        return builder.zext(builder.bitcast(above, ir.IntType(LANES)), ir.IntType(64))

    return signature, generate


if TYPE_CHECKING:

    def bounds_of(
        high: "NDArray[Any]", tile: SupportsInt, query: "NDArray[Any]", length: "NDArray[Any]", edges: "NDArray[Any]"
    ) -> int:
        """Write the least and the most that the products of a tile can be to the first rows of ``edges``, (3, 16).

        Its last begins with by how much of its length a product may be off, and with what the most has to be above.
        Returns a bit for each vector, the lowest of the first: 0 only where it is not.
        """
        ...

else:
    bounds_of = intrinsic(_bounds)


@kernel
def scan_halves(
    query: "NDArray[np.float32]",
    items: "NDArray[np.float32]",
    asked: "NDArray[np.float32]",
    high: "NDArray[np.uint32]",
    length: "NDArray[np.float32]",
    off: np.float32,
    k: int,
    keys: "NDArray[np.int64]",
    maybe: "NDArray[np.int64]",
) -> int:
    """Write the keys of the best items, and of some more, to the front of ``maybe``, in no order; return how many.

    A part of the tiles says which score will do, so that few are looked at of all. Where it said too much, which the
    count of those that reach it shows, all are scanned again without it.

    Args:
        query: (1, d).
        items: (n, d).
        asked: The query, filled up with 0, (2 pairs,).
        high: (tiles, pairs, 16).
        length: Of each vector, or more, (16 tiles,).
        off: By how much of its length a product may be off.
        k: How many are wanted, 1 to n.
        keys: (2 k + 64,): written.
        maybe: (n,): written.
    """
    count, nothing = len(items), np.float32(-np.inf)
    share = k / SAMPLED
    some = int(share + 4.0 * np.sqrt(share) + 4.0)
    left, least = _scan(count, asked, high, length, off, SAMPLED, nothing, some, keys[: 2 * some], maybe)
    left, found = _scan(count, asked, high, length, off, 1, least, k, keys[: 2 * k], maybe)
    if found == nothing and least > nothing:
        left, found = _scan(count, asked, high, length, off, 1, nothing, k, keys[: 2 * k], maybe)
    return _multiplied(query, items, found, maybe, left)


@kernel
def _scan(
    count: int,
    asked: "NDArray[np.float32]",
    high: "NDArray[np.uint32]",
    length: "NDArray[np.float32]",
    off: np.float32,
    step: int,
    least: np.float32,
    k: int,
    keys: "NDArray[np.int64]",
    maybe: "NDArray[np.int64]",
) -> tuple[int, np.float32]:
    """Write keys of the most that vectors can be to ``maybe``; return how many, and the k-th best of the least.

    A vector is passed by when the most that it can be is not above ``least``, nor above the k-th best of the least that
    those before it can be: so there are k before it that are as good. With less than k that reach ``least`` the
    result is −inf.
    """
    edges = np.empty((3, LANES), dtype=np.float32)
    edges[2, 0], edges[2, 1] = off, least
    bits = edges.view(np.int32)
    filled, left, most = 0, 0, np.float32(np.inf)
    for tile in range(0, len(high), step):
        may = bounds_of(high, tile, asked, length, edges)
        lane, row = 0, tile * LANES
        while may and row < count:
            if may & 1:
                is_number = abs(edges[1, lane]) < most
                maybe[left] = key_of(int(bits[1, lane]) if is_number else _INFINITE, row)
                left += 1
                if least <= edges[0, lane] < most:
                    keys[filled] = key_of(int(bits[0, lane]), row)
                    filled += 1
                    if filled == len(keys):
                        keep_greatest(keys, filled, k)
                        filled = k
                        least = edges[2, 1] = score_of(keys[k - 1])
            may >>= 1
            lane += 1
            row += 1
    if filled < k:
        return left, np.float32(-np.inf)
    if filled > k:
        keep_greatest(keys, filled, k)
    return left, score_of(keys[:k].min())


@kernel
def _multiplied(
    query: "NDArray[np.float32]",
    items: "NDArray[np.float32]",
    least: np.float32,
    maybe: "NDArray[np.int64]",
    count: int,
) -> int:
    """Put the keys of the exact scores of what may be as good as ``least`` in the place of the others."""
    one = np.empty(1, dtype=np.float32)
    bits = one.view(np.int32)
    found = 0
    for place in range(count):
        if score_of(maybe[place]) >= least:
            row = np.int64(_LOW) - (maybe[place] & np.int64(_LOW))
            one[0] = inner(items, row, query)
            if one[0] > -np.inf:
                maybe[found] = key_of(int(bits[0]), row)
                found += 1
    return found
