"""One structure of numba that holds all of a block that does not change with the question.

Twenty arrays one by one cost 4 µs a call, one structure that holds them a tenth of that. It is made by a kernel, whose
code is cached: made from Python it would be compiled in each process. This module imports numba, so it is imported when
the first block is read.
"""

from typing import Any

import numpy as np
from numba import types
from numba.experimental import structref
from numpy.typing import NDArray

from midstream.features.block_kernel import BlockQuestion, BlockTables, read_block
from midstream.state.structures.kernel import kernel


@structref.register  # pyright: ignore[reportUnknownMemberType]  # it has no types
class BoundBlockType(types.StructRef):
    """Type of the structure."""

    def preprocess_fields(self, fields: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
        """Return the fields with types of values, as numba's documents say."""
        return tuple((name, types.unliteral(kind)) for name, kind in fields)  # type: ignore[no-untyped-call]


class BoundBlock(structref.StructRefProxy):
    """The structure as Python holds it: it keeps its arrays alive. Kernels read its field."""

    tables: BlockTables


structref.define_proxy(BoundBlock, BoundBlockType, list(BoundBlock.__annotations__))  # type: ignore[no-untyped-call]


@kernel
def make_block(tables: BlockTables) -> BoundBlock:
    """Return the structure of a block's tables."""
    return BoundBlock(tables)  # type: ignore[no-untyped-call]


@kernel
def read_bound(block: BoundBlock, question: BlockQuestion, found: NDArray[np.float32]) -> bool:
    """Write the columns of a block as ``read_block`` does."""
    return read_block(block.tables, question, found)
