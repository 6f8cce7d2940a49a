"""Rows a second of a catalogue from PostgreSQL: imported, followed, and imported from a CSV file of the same rows.

``python -m benchmarks.tables --rows 200000`` starts a real PostgreSQL (tests/support/services) with a table of items of
eight columns, and records it three times, each time into a log of its own, durable and folded. About a minute at full
size; the first run on a machine compiles before.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from midstream.app.ingest.import_file import import_file
from midstream.app.ingest.import_table import TableOptions, import_table
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.opening import config_of
from midstream.app.operate.consume import ConsumeOptions, consume
from tests.support.services.server import Server
from tests.support.services.systems import BRIEF
from tests.support.store_shops import postgresql_session

NAMES = ("price", "category", "brand", "tags", "on_sale", "stock")
MAP = {f"attributes.{each}": each for each in NAMES}
CONFIG = """
[items.attributes]
price = "number"
category = "category"
brand = "category"
tags = "tags"
on_sale = "boolean"
stock = "number"

[limits]
items_max = {items}
users_max = 1_000
sessions_max = 1_000
"""
INPUT = """
[[inputs]]
name = "products"
kind = "postgresql"
url = "{url}"
table = "products"
key = "id"
map = {{ {mapping} }}
"""
FILL = """
CREATE TABLE products AS SELECT n AS id, (n % 9000) / 100.0 AS price, 'c' || n % 50 AS category,
    'b' || n % 500 AS brand,
    ARRAY['t' || n % 20, 'u' || n % 30] AS tags, n % 2 = 0 AS on_sale, n % 100 AS stock,
    timestamptz '2026-01-01' + n * interval '1 second' AS updated_at FROM generate_series(1, {rows}) AS n
"""


def folder_of(root: Path, name: str, rows: int, inputs: str = "") -> Path:
    """Make a folder with a configuration that has room for all rows."""
    found = root / name
    found.mkdir()
    (found / "midstream.toml").write_text(CONFIG.format(items=rows + 1_000) + inputs, "utf-8")
    return found


def timed(name: str, rows: int, work: Callable[[], int]) -> None:
    """Print the rate of some work, which returns the rows that it recorded."""
    began, cpu = time.perf_counter(), time.process_time()
    recorded = work()
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    if recorded != rows:
        message = f"{name}: {recorded} of {rows} rows were recorded"
        raise RuntimeError(message)
    print(f"{name}: {rows / seconds:,.0f} rows/s, {rows / cpu_s:,.0f} a CPU second of this process", flush=True)


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        server = Server(BRIEF["postgresql"], root / "server", is_tied=True)
        server.up()
        try:
            run(root, server.address, rows)
        finally:
            server.down()


def run(root: Path, address: str, rows: int) -> None:
    """Fill the table, then record it three times."""
    url = f"postgresql://postgres@{address}/postgres"
    with postgresql_session(address) as session:
        session.execute(FILL.format(rows=rows))
        session.execute("ALTER TABLE products ADD PRIMARY KEY (id), ALTER COLUMN updated_at SET NOT NULL")
        session.execute("CREATE INDEX ON products (updated_at, id)")
        session.execute("ANALYZE products")
        texts = "id, price, category, brand, array_to_string(tags, '|') AS tags, on_sale::int AS on_sale, stock"
        copy = f"COPY (SELECT {texts} FROM products) TO STDOUT (FORMAT csv, HEADER)"  # noqa: S608  a constant
        with (root / "products.csv").open("wb") as file, session.cursor() as cursor, cursor.copy(copy) as copied:
            file.writelines(copied)
    print(f"{rows:,} rows, {os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}", flush=True)
    columns = ColumnOptions({"item_id": "id", **MAP}, {"type": "item"})
    file_shop, table_shop = folder_of(root, "file", rows), folder_of(root, "table", rows)
    mapping = ", ".join(f'"{name}" = "{column}"' for name, column in MAP.items())
    followed = folder_of(root, "followed", rows, INPUT.format(url=url, mapping=mapping))
    (root / "small.csv").write_text("id\n1\n")
    import_file(
        folder_of(root, "warm", rows),
        config_of(root / "warm"),
        root / "small.csv",
        ColumnOptions({"item_id": "id"}, {"type": "item"}),
    )
    timed(
        "import of CSV",
        rows,
        lambda: import_file(file_shop, config_of(file_shop), root / "products.csv", columns).recorded,
    )
    table = TableOptions(url, table="products", key="id")
    timed(
        "import of the table",
        rows,
        lambda: import_table(table_shop, config_of(table_shop), table, ColumnOptions(MAP)).recorded,
    )
    timed(
        "import again, nothing new",
        rows,
        lambda: import_table(table_shop, config_of(table_shop), table, ColumnOptions(MAP)).known,
    )
    until = ConsumeOptions(until_end=True)
    timed(
        "following from the start",
        rows,
        lambda: consume(followed, config_of(followed), until, lambda _: None).inputs[0].events,
    )


if __name__ == "__main__":
    main()
