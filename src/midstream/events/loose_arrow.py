"""pyarrow without its stubs, which are generic in what columns hold: that is known at run time only.

And what it raises of a file that is damaged: which of these depends on the byte.
"""

from typing import Any, TypeAlias

import pyarrow  # noqa: ICN001  pa is the loose one
import pyarrow.types

pa: Any = pyarrow
pt: Any = pyarrow.types
Array: TypeAlias = Any
"""``pa.Array``"""
Batch: TypeAlias = Any
"""``pa.RecordBatch``"""
Schema: TypeAlias = Any
"""``pa.Schema``"""
DataType: TypeAlias = Any
"""``pa.DataType``, of which each kind has members of its own."""

UNREADABLE: tuple[type[Exception], ...] = (
    pyarrow.ArrowException,
    OSError,
    ValueError,
    ArithmeticError,
    LookupError,
    MemoryError,
    EOFError,
)
"""``OSError`` of a footer, a page or a packing; ``ValueError`` and ``ArithmeticError`` of values that Python has no
object for; ``LookupError`` where a column or a row is missing; ``MemoryError`` of sizes that are none."""


def said(error: Exception) -> str:
    """Return what an error of a damaged file says, in one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")[:200]
