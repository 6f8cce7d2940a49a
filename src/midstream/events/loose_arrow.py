"""pyarrow without its stubs, which are generic in what columns hold: that is known at run time only."""

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
