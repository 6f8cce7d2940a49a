"""Shards and sums by Spark: rows of a shard in one partition and in order, and the heaviest neighbours of each item."""

from typing import Any

from midstream.events.loose_arrow import Schema
from midstream.integrations.spark.frames import MapBatches, mapped
from midstream.integrations.spark.library import spark_module


def folded_by_shard(
    frame: Any,  # noqa: ANN401  DataFrames
    work: MapBatches,
    schema: Schema,
    shards: int,
) -> Any:  # noqa: ANN401  as above
    """Return what a function makes of shards, each whole and sorted by its first position.

    By hash some tasks have two shards and some none; by range the rows would be made twice, to find the bounds.
    """
    return mapped(frame.repartition(shards, "shard").sortWithinPartitions("shard", "first"), work, schema)


def heaviest(parts: Any, neighbours: int) -> Any:  # noqa: ANN401  as above
    """Return sums of parts of pairs: of each item its heaviest neighbours, with their rank and the item's whole weight.

    Args:
        parts: ``item_id``, ``neighbour_id``, ``weight``, ``pairs``.
        neighbours: Kept of each item; of equally heavy ones those with the lower id.
    """
    functions, window = spark_module("sql.functions"), spark_module("sql.window").Window
    sums = parts.groupBy("item_id", "neighbour_id").agg(
        functions.sum("weight").alias("weight"), functions.sum("pairs").alias("pairs")
    )
    of_item = window.partitionBy("item_id")
    ranked = of_item.orderBy(functions.col("weight").desc(), functions.col("neighbour_id"))
    whole = sums.withColumn("share", functions.sum("weight").over(of_item))
    return whole.withColumn("rank", functions.row_number().over(ranked)).where(f"rank <= {int(neighbours)}")
