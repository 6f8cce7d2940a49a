"""Batches of Structured Streaming in one order: the same rows in the same places, however often Spark hands them over.

Spark hands a batch over again after a failure: the same rows under the same number, in whatever order its tasks make
them. Sorted by all of its columns, in the order of their names, each row has one place, so that a writer knows which
rows it has already. A batch has to have the same rows each time: a column of ``rand()`` has others.

Reference: Apache Spark, Structured Streaming Programming Guide, foreachBatch.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

from midstream.core.errors import Fault, Invalid
from midstream.events.loose_arrow import Batch
from midstream.integrations.spark.frames import to_driver
from midstream.integrations.spark.library import spark_module

PAGE: Final = "/docs/spark.md"
_QUERY: Final = "sql.streaming.queryId"
"""Property that Spark sets on the thread of a query; its checkpoint keeps it."""
_UNORDERED: Final = ("map", "variant")


def query_id(frame: Any) -> str:  # noqa: ANN401  a DataFrame
    """Return the id of the query that hands a batch over, which its checkpoint keeps.

    Raises:
        Invalid: None is known: nothing would tell two queries apart.
    """
    found = frame.sparkSession.sparkContext.getLocalProperty(_QUERY)
    if not found:
        came = "A batch came that no query hands over, on this thread."
        right = "The sink as the function of foreachBatch, called on its thread; a DataFrame is a backfill."
        raise Invalid((Fault("query", came, right, PAGE),))
    return str(found)


def columns_key(frame: Any) -> str:  # noqa: ANN401  as above
    """Return a hash of the names and types of columns, whatever their order."""
    told = sorted(f"{field.name} {field.dataType.simpleString()}" for field in frame.schema.fields)
    return sha256("\n".join(told).encode()).hexdigest()[:16]


def ordered_rows(frame: Any, first: str) -> Iterator[Batch]:  # noqa: ANN401  as above
    """Yield the rows of a batch, by one column first and then by all others as their names are, nulls before all.

    Args:
        frame: The batch.
        first: Column by which they are ordered before all others, where there is one of this name.

    Raises:
        Invalid: Rows cannot be ordered by a column.
    """
    _require_order(frame)
    names = sorted(frame.columns, key=lambda name: (name != first, name))
    functions = spark_module("sql.functions")
    keys = [functions.col(f"`{name}`").asc_nulls_first() for name in names]
    return to_driver(frame.coalesce(1).sortWithinPartitions(*keys))


def _require_order(frame: Any) -> None:  # noqa: ANN401  as above
    faults = tuple(
        Fault(field.name, f"Its type is {field.dataType.simpleString()}, which has no order.", _RIGHT, PAGE)
        for field in frame.schema.fields
        if _has_no_order(field.dataType)
    )
    if faults:
        raise Invalid(faults)


def _has_no_order(kind: Any) -> bool:  # noqa: ANN401  a type of Spark
    name = kind.typeName()
    inner = [each.dataType for each in getattr(kind, "fields", ())] if name == "struct" else []
    if name == "array":
        inner = [kind.elementType]
    return name in _UNORDERED or any(map(_has_no_order, inner))


_RIGHT: Final = "A struct, or JSON as text: to_json(context) AS context."
