"""A ranking of 200 items whose columns come from a store, beside the same ranking without: each store on loopback.

Starts the real servers (tests/support/services), fills them with 10,000 items, and asks each placement in turn, in one
process: Redis, Valkey, PostgreSQL, PostgreSQL through PgBouncer, Cassandra. The cache is off (``age_max = "0s"``), so
each request asks for all of its items. Prints the whole request and the call of the component alone. About 2 minutes.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from midstream.app.opening import config_to_read, open_shop
from midstream.engine.recommender import Recommender
from tests.support.services.server import Server
from tests.support.services.systems import BRIEF
from tests.support.store_shops import LIMITS, StoreShop, cassandra_shop, postgresql_shop, redis_shop

ITEMS = 10_000
ASKED = 200
WARM_UP = 30
SHOPS: dict[str, Callable[[Server], StoreShop]] = {
    "redis": redis_shop,
    "valkey": redis_shop,
    "postgresql": postgresql_shop,
    "pgbouncer": lambda server: postgresql_shop(server, pooler=True),
    "cassandra": cassandra_shop,
}
PLAIN = "without"


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--stores", nargs="*", default=list(SHOPS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        servers = {name: Server(BRIEF[name], root / "servers" / name, is_tied=True) for name in options.stores}
        try:
            for name, server in servers.items():
                print("starting", name, file=sys.stderr)
                server.up()
            shops = {name: SHOPS[name](server) for name, server in servers.items()}
            stock = {f"item-{number:05d}": float(number % 50) for number in range(ITEMS)}
            for name, shop in shops.items():
                if name != "pgbouncer":  # it has the table of PostgreSQL
                    print("filling", name, file=sys.stderr)
                    shop.fill(stock)
            (root / "shop").mkdir()
            (root / "shop" / "midstream.toml").write_text(config(shops), "utf-8")
            with open_shop(root / "shop", config_to_read(root / "shop")) as shop:
                for start in range(0, ITEMS, 1_000):
                    shop.record([put(number) for number in range(start, start + 1_000)])
                report(measured(shop, [PLAIN, *shops], options.rounds))
        finally:
            for server in reversed(servers.values()):
                server.down()


def put(number: int) -> dict[str, object]:
    """Return an item of the catalogue."""
    return {"type": "item", "operation": "put", "item_id": f"item-{number:05d}", "attributes": {"available": True}}


def config(shops: dict[str, StoreShop]) -> str:
    """Return a placement without a fetch and one of each store, which are the same otherwise."""
    text = '[[features]]\nname = "stock"\nkind = "item_field"\n'
    for name, shop in shops.items():
        text += (
            f'[[fetches]]\nname = "{name}"\nof = "item"\ncomponent = {shop.component}\n'
            'columns = { stock = "number", on_sale = "boolean" }\nage_max = "0s"\ntimeout = "1s"\n'
        )
    for name in (PLAIN, *shops):
        fetches = "" if name == PLAIN else f'fetches = ["{name}"]\n'
        text += f'[[placements]]\nname = "{name}"\ndeadline = "5s"\nfilter = "if_nan(stock, 1) >= 0"\n{fetches}'
    limits = LIMITS.replace("items_max = 2_000\n", "items_max = 20_000\n")
    return text + limits


def measured(shop: Recommender, names: list[str], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return milliseconds of each placement's requests, which take turns: by the clock, and of CPU of this process."""
    took_ms: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for number in range(WARM_UP + rounds):
        items = [f"item-{(number * ASKED + place) * 37 % ITEMS:05d}" for place in range(ASKED)]
        for name in names:
            began, worked = time.perf_counter(), time.process_time()
            answer = shop.rank(items, name, user_id="ann")
            ended, worked = time.perf_counter(), time.process_time() - worked
            if number >= WARM_UP:
                assert answer.tier == "full", answer.failures
                took_ms[name].append(((ended - began) * 1_000, worked * 1_000))
    return took_ms


def report(took_ms: dict[str, list[tuple[float, float]]]) -> None:
    """Print medians and 99th percentiles, and the CPU of this process: on a shared machine the clock counts others."""
    print(f"| {ASKED} items from | p50 ms | p99 ms | CPU of this process, p50 ms |\n|---|---|---|---|")
    for name, values in took_ms.items():
        clock, worked = zip(*values, strict=True)
        last = statistics.quantiles(clock, n=100)[98]
        print(f"| {name} | {statistics.median(clock):.1f} | {last:.1f} | {statistics.median(worked):.1f} |")


if __name__ == "__main__":
    main()
