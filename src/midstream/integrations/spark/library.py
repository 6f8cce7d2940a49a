"""Modules of PySpark, which the extra ``spark`` brings, and the types of DataFrames as they are written in DDL."""

from importlib import import_module
from typing import Any

from midstream.core.errors import ExtraMissing
from midstream.events.loose_arrow import Schema


def spark_module(name: str) -> Any:  # noqa: ANN401  the library is not there to be checked against
    """Return a module of PySpark, such as ``sql.functions``.

    Raises:
        ExtraMissing: PySpark is not installed, or pandas, which it calls functions with.
    """
    try:
        import_module("pandas")  # without it PySpark calls no function over record batches
        return import_module(f"pyspark.{name}")
    except ImportError as error:
        raise ExtraMissing("DataFrames are those of PySpark, with pandas: install midstream[spark]") from error


def spark_schema(schema: Schema) -> Any:  # noqa: ANN401  as above
    """Return the type of a DataFrame whose partitions are record batches of an Arrow schema."""
    return spark_module("sql.pandas.types").from_arrow_schema(schema)
