"""Data sets in the order of time together with what is known of their items: what a ranker can be judged on.

A catalogue is folded before the first act, as a shop puts its items there before it sells them. What it says of an item
never comes from an act: category, colour and price of a shop's pages, words of a name, the first price that was asked.
"""

import csv
import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.quality.session_sets import eshop, online_retail
from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch
from midstream.evaluation.data.interactions import InteractionTable
from midstream.evaluation.data.tables import whole_table
from midstream.events.schema import Event, build

Catalogue = Mapping[str, Mapping[str, object]]
"""Item id to attribute to value."""
WORDS_MAX = 8
"""Of a name, kept as tags: the longest name of a gift has seven."""
_LETTERS_MIN = 3


@dataclass(frozen=True, slots=True, eq=False)
class ShopData:
    """Acts by time, and the catalogue."""

    name: str
    rows: InteractionTable
    catalogue: Catalogue = field(default_factory=dict[str, Mapping[str, object]])
    """Of items that are acted on."""

    def opening(self) -> EventBatch:
        """Return the events that put the catalogue there, at the time of the first act."""
        now_ms = int(self.rows.time_ms[0]) if len(self.rows) else 0
        return build(
            [
                Event(
                    Kind.ITEM,
                    Operation.PUT,
                    item_id=item_id,
                    body=msgspec.json.encode(attributes),
                    event_time_ms=now_ms,
                    log_time_ms=now_ms,
                )
                for item_id, attributes in self.catalogue.items()
            ]
        )


def eshop_with_catalogue(folder: Path) -> ShopData:
    """Return the clothing shop: ``category``, ``colour``, ``price``, ``page``, ``location`` and ``photo`` of each item.

    Raises:
        NotFound: There is no such file.
    """
    rows = eshop(folder)
    path = folder / "eshop-clothing-2008" / "e-shop_clothing_2008.csv.gz"
    found: dict[str, Mapping[str, object]] = {}
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter=";"):
            if row["page 2 (clothing model)"] not in found:
                found[row["page 2 (clothing model)"]] = {
                    "category": row["page 1 (main category)"],
                    "colour": row["colour"],
                    "location": row["location"],
                    "photo": row["model photography"],
                    "price": float(row["price"]),
                    "page": float(row["page"]),
                }
    return ShopData("eshop-clothing-2008", rows, found)


def online_retail_with_catalogue(folder: Path) -> ShopData:
    """Return the gift shop: ``price``, the first that an invoice has, and ``words``, those of the first name.

    Raises:
        NotFound: There is no such file.
    """
    rows = online_retail(folder)
    table = whole_table(folder / "online-retail" / "onlineretail.parquet")
    known = set(np.unique(rows.item_id).tolist())
    found: dict[str, Mapping[str, object]] = {}
    columns = (table.column(name).to_pylist() for name in ("StockCode", "Description", "UnitPrice"))
    for code, name, price in zip(*columns, strict=True):
        if code in known and code not in found and price > 0 and name:
            words = [word for word in str(name).lower().split() if len(word) >= _LETTERS_MIN]
            found[code] = {"price": float(price), "words": list(dict.fromkeys(words))[:WORDS_MAX]}
    return ShopData("online-retail", rows, found)


SHOPS: Mapping[str, Callable[[Path], ShopData]] = {
    "eshop-clothing-2008": eshop_with_catalogue,
    "online-retail": online_retail_with_catalogue,
}
