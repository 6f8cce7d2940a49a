"""Columns of one shop in each store, in a layout of its own, and the configuration that fetches them."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.libraries import library
from tests.support.services.server import Server

STOCK: Mapping[str, float | None] = {"lamp": 3.0, "desk": 0.0, "chair": 12.5, "it's 🛋️": 7.0, "unknown": None}
"""Of a fetch of items: ``None`` = there is no such row."""
LIMITS = """
[limits]
users_max = 100
items_max = 2_000
click_items_max = 2_000
sessions_max = 100
event_ids_max = 5_000
"""
HOME = """
[[features]]
name = "stock"
kind = "item_field"

[[placements]]
name = "home"
deadline = "{deadline}"
slate_size = 20
fetches = ["warehouse"]
filter = 'if_nan(stock, 1) > 0'
"""


@dataclass(frozen=True)
class StoreShop:
    """A store with columns of a shop."""

    name: str
    server: Server
    component: str
    """Its table in the configuration, after ``component =``."""
    fill: Callable[[Mapping[str, float | None]], None]
    """Writes stock by item, beside what is there."""

    def config(self, *, timeout: str = "5s", age_max: str = "0s", deadline: str = "10s") -> str:
        """Return a configuration whose placement filters by stock."""
        fetch = (
            f'[[fetches]]\nname = "warehouse"\nof = "item"\ncomponent = {self.component}\n'
            f'columns = {{ stock = "number", on_sale = "boolean" }}\nage_max = "{age_max}"\ntimeout = "{timeout}"\n'
        )
        return fetch + HOME.format(deadline=deadline) + LIMITS

    def write(self, folder: Path, **times: str) -> None:
        """Write the configuration into a folder."""
        (folder / "midstream.toml").write_text(self.config(**times), "utf-8")


def redis_shop(server: Server, layout: str = "hash") -> StoreShop:
    """Hashes, or JSON objects as text."""

    def fill(stock: Mapping[str, float | None]) -> None:
        import json

        with redis_client(server.address) as client:
            for each, pieces in stock.items():
                if pieces is None:
                    continue
                key = f"{layout}:{{shop}}:{each}"
                row = {"qty": pieces, "on_sale": each == "lamp"}
                if layout == "json":
                    client.set(key, json.dumps(row))
                else:
                    client.hset(key, mapping={"qty": repr(pieces), "on_sale": str(int(each == "lamp"))})

    component = (
        f'{{ kind = "redis", url = "redis://{server.address}/0", key = "{layout}:{{shop}}:{{id}}", '
        f'layout = "{layout}", fields = {{ stock = "qty" }} }}'
    )
    return StoreShop(f"{server.system.name} {layout}", server, component, fill)


def postgresql_shop(server: Server, way: str = "table", *, pooler: bool = False) -> StoreShop:
    """A table, or a query over it."""
    name = f"stock_{way}"

    def fill(stock: Mapping[str, float | None]) -> None:
        with postgresql_session(server.address) as session:
            session.execute("CREATE SCHEMA IF NOT EXISTS shop")
            session.execute(
                f'CREATE TABLE IF NOT EXISTS shop.{name} (sku text PRIMARY KEY, "Qty" numeric, on_sale boolean)'
            )
            with session.cursor() as cursor:
                cursor.executemany(
                    f"INSERT INTO shop.{name} VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",  # noqa: S608  the name is one of two
                    [(each, pieces, each == "lamp") for each, pieces in stock.items() if pieces is not None],
                )

    where = f'table = "shop.{name}", id = "sku", fields = {{ stock = "Qty" }}'
    if way == "query":
        query = f'SELECT sku AS id, \\"Qty\\" AS stock, on_sale FROM shop.{name} WHERE sku = ANY(:ids)'  # noqa: S608  as above
        where = f'query = "{query}"'
    url = f"postgresql://postgres@{server.address}/postgres"
    pooled = ", pooler = true" if pooler else ""
    return StoreShop(
        f"{server.system.name} {way}", server, f'{{ kind = "postgresql", url = "{url}", {where}{pooled} }}', fill
    )


def cassandra_shop(server: Server) -> StoreShop:
    """A table."""

    def fill(stock: Mapping[str, float | None]) -> None:
        with cassandra_session(server.address) as session:
            session.execute(
                "CREATE KEYSPACE IF NOT EXISTS shop "
                "WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
            )
            session.execute(
                'CREATE TABLE IF NOT EXISTS shop.stock (sku text PRIMARY KEY, "Qty" decimal, on_sale boolean)'
            )
            insert = session.prepare('INSERT INTO shop.stock (sku, "Qty", on_sale) VALUES (?, ?, ?)')
            decimal = library("decimal").Decimal
            for each, pieces in stock.items():
                if pieces is not None:
                    session.execute(insert, (each, decimal(repr(pieces)), each == "lamp"))

    component = (
        f'{{ kind = "cassandra", url = "cassandra://{server.address}/shop", table = "stock", id = "sku", '
        'fields = { stock = "Qty" } }'
    )
    return StoreShop("cassandra table", server, component, fill)


def redis_client(address: str) -> Any:
    """A client that waits."""
    host, _, port = address.partition(":")
    return library("redis").Redis(host, int(port), socket_timeout=60)


def postgresql_session(address: str) -> Any:
    """A session in which each statement is a transaction."""
    host, _, port = address.partition(":")
    return library("psycopg").connect(
        host=host, port=port, user="postgres", dbname="postgres", autocommit=True, prepare_threshold=None
    )


@contextmanager
def cassandra_session(address: str) -> Any:
    """A session of one node."""
    driver, policies = library("cassandra.cluster"), library("cassandra.policies")
    host, _, port = address.partition(":")
    profile = driver.ExecutionProfile(
        load_balancing_policy=policies.WhiteListRoundRobinPolicy([host]), request_timeout=60
    )
    cluster = driver.Cluster(
        [host], int(port), connect_timeout=60, execution_profiles={driver.EXEC_PROFILE_DEFAULT: profile}
    )
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()


def shop_of(server: Server) -> StoreShop:
    """Return the first layout of a server's system."""
    match server.system.name:
        case "postgresql" | "pgbouncer":
            return postgresql_shop(server, pooler=server.system.name == "pgbouncer")
        case "cassandra":
            return cassandra_shop(server)
        case _:
            return redis_shop(server)
