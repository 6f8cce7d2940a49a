"""Machines, memory, partitions and cost of shops from today's size to 10,000 times of it, from measurements.

    python -m benchmarks.sizing            # prints the tables of docs/scaling.md
    python -m benchmarks.sizing --write    # puts them into the page
    python -m benchmarks.sizing --events 5000 --users 3e7 --items 3e5 --requests 800

Memory is that of ``midstream size``: the bytes of each table at its maximum, from the same functions. Rates are figures
of docs/benchmarks.md, each named; a test finds every one of them there. Prices are assumptions.
"""

import argparse
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from midstream.state.settings import FoldSettings, StateLimits
from midstream.state.tables import TABLES

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
GB, MS_PER_DAY, S_PER_MONTH = 1e9, 86_400_000, 2_628_000


@dataclass(frozen=True)
class Measured:
    """One figure, and the words around it in a page of docs, by which a test finds it."""

    value: float
    page: str
    text: str


FOLD = Measured(1_133_000, "benchmarks.md", "**1,133,000** (951,000 to 1,314,000)")
"""Events/s that one core folds, batches of 10,000, all tables."""
SLATE_US = Measured(815, "benchmarks.md", "815 (645 to 1,108)")
"""CPU of the server for one composed slate."""
INGEST = Measured(159_000, "benchmarks.md", "**159,000** (130,000 to 195,000)")
"""Events a CPU-second over HTTP, JSON in bodies of 100, fold included."""
LOG_MIB = Measured(906, "benchmarks.md", "| log on the disk, MiB | 95 | 906 |")
"""Of 10 M events, as they stand in segments and in a topic."""
SEALED_MIB = Measured(95, "benchmarks.md", "| log on the disk, MiB | 95 | 906 |")
"""Of the same as Parquet."""
RECORD_KB = Measured(0.7, "data.md", "takes about 0.7 kB with ids of 12 characters")
"""A served record of 20 items."""
CHILD_MB_S = Measured(64, "benchmarks.md", "at most 64 MB/s")
"""A snapshot is written at this rate at most."""
PROCESS_GB = Measured(0.2, "cli.md", "0.2 GB for the interpreter")
"""Beside the tables, in each process."""
DELTA_BYTES = Measured(1_023, "scaling.md", "| 126 + 777 + 120 |")
"""Of an event in deltas of shop-wide tables, at the end of an epoch in which few rows changed twice."""
MEASURED = (FOLD, SLATE_US, INGEST, LOG_MIB, SEALED_MIB, RECORD_KB, CHILD_MB_S, PROCESS_GB, DELTA_BYTES)

TURN_SHARE = 0.5
"""Folding gets at most half of the event loop's time while requests wait."""
BUSY = 0.5
"""Of each core, planned: p99 rises steeply beyond."""
SESSION_EVENTS, SESSION_S = 10, 1_800
"""Acts of a session, and silence after which it is over."""
NODES_MIN = 3
"""So that one may fail and two are left; Kafka's brokers are three for the same reason."""
KEPT_DAYS, HISTORY_DAYS, COPIES = 7, 365, 3
"""Of a topic; of history as Parquet; copies of a topic."""


@dataclass(frozen=True)
class Machine:
    """What is rented, and assumed prices in USD: of a large cloud, on demand, rounded; no discount, no support."""

    cores: int = 8
    memory_gb: float = 64.0
    core_hour: float = 0.04
    gb_hour: float = 0.005
    disk_gb_month: float = 0.10
    zone_gb: float = 0.01
    """Of a GB between zones, each way."""


@dataclass(frozen=True)
class Shop:
    """What comes at the busiest hour, and what is held."""

    name: str
    users: float
    items: float
    events_s: float
    requests_s: float
    average: float = 0.4
    """Of the busiest hour's rates, over a day."""


SHOPS = (
    Shop("today", 1e5, 2e4, 20, 5),
    Shop("10 ×", 1e6, 6e4, 200, 50),
    Shop("100 ×", 1e7, 2e5, 2_000, 500),
    Shop("10,000 ×", 1e9, 2e6, 200_000, 50_000),
)


@dataclass(frozen=True)
class Sizing:
    """What a shop needs, on replicas or with its users by shard."""

    shop: Shop
    shards: int
    state_gb: float
    """Of one process: its users, and all that is shop-wide."""
    log_events_s: float
    """Through the one order, or through that of a shard."""
    fold_share: float
    """Of one core, in each process."""
    processes: int
    """Of the whole shop, followers among them."""
    machines: int
    topic_mb_s: float
    """Into Kafka, at the busiest hour, before copies."""
    read_mb_s: float
    """Out of Kafka to all machines."""
    disk_gb: float
    """Of one machine: snapshots, hot log and history."""
    kafka_gb: float
    snapshot_s: float
    usd_month: float
    usd_per_1000: float
    """Of requests."""

    @property
    def is_possible(self) -> bool:
        """Whether each process folds its order in half of its time, and fits its machine."""
        return self.fold_share <= TURN_SHARE and self.state_gb <= Machine().memory_gb


def limits_of(shop: Shop, shards: int) -> StateLimits:
    """Return the limits of one process of a shop: users, sessions and ids by shard, all else whole."""
    usual = StateLimits()
    users, items = math.ceil(shop.users / shards), math.ceil(shop.items)
    open_sessions = math.ceil(shop.events_s / SESSION_EVENTS * SESSION_S / shards)
    day_events = math.ceil(shop.events_s * shop.average * MS_PER_DAY / 1_000 / shards)
    slates = math.ceil(shop.requests_s * shop.average * MS_PER_DAY / 1_000 / shards)
    held = min(max(slates, 1_000), 2_000_000)
    return msgspec.structs.replace(
        usual,
        users_max=users,
        items_max=items,
        click_items_max=max(items // 10, 1),
        sessions_max=max(open_sessions, 1_000),
        event_ids_max=min(max(day_events, 100_000), usual.event_ids_max),
        requests_max=min(held, usual.requests_max),
        outcome_slates_max=held,
        outcome_items_max=20 * held,
        document_bytes_max=670 * items,
        aliases_max=max(users // 5, 1_000),
    )


def state_bytes(limits: StateLimits) -> int:
    """Return the bytes of all tables at their maximum, as ``midstream size`` prints them."""
    settings = FoldSettings(limits=limits)
    return sum(each.bytes_for(settings) for each in TABLES)


def sizing_of(shop: Shop, shards: int = 1, machine: Machine = Machine()) -> Sizing:
    """Return what a shop needs; with one shard, replicas of the whole."""
    event_bytes, record_bytes = LOG_MIB.value * 2**20 / 1e7, RECORD_KB.value * 1e3
    log_s = (shop.events_s + shop.requests_s) / shards
    fold_share = log_s / FOLD.value
    state_gb = state_bytes(limits_of(shop, shards)) / GB + PROCESS_GB.value
    # Cores for requests and for decoding of what comes over HTTP; each process folds its order beside them.
    request_cores = shop.requests_s * SLATE_US.value / 1e6 + shop.events_s / INGEST.value
    free = max(BUSY - fold_share, 0.05)
    processes = max(math.ceil(request_cores / free), NODES_MIN * shards)
    by_memory = max(int(machine.memory_gb * 0.9 / state_gb), 1)
    a_machine = min(machine.cores, by_memory)
    machines = max(math.ceil(processes / a_machine), NODES_MIN)
    topic = (shop.events_s * event_bytes + shop.requests_s * record_bytes) / 1e6
    deltas = shop.events_s * DELTA_BYTES.value / 1e6 if shards > 1 else 0.0
    nodes_reading = machines / shards if shards > 1 else machines
    read = topic * nodes_reading + deltas * machines
    month_events = shop.events_s * shop.average * S_PER_MONTH
    kafka_gb = (topic + deltas * 0.01) * shop.average * KEPT_DAYS * 86_400 / 1e3 * COPIES
    history = month_events / 1e7 * SEALED_MIB.value * 2**20 / GB * HISTORY_DAYS * 86_400 / S_PER_MONTH / shards
    hot = topic * shop.average * 2 * 86_400 / 1e3 / shards
    disk = 2 * state_gb + history + hot
    hours = S_PER_MONTH / 3_600
    per_hour = machines * (machine.cores * machine.core_hour + machine.memory_gb * machine.gb_hour)
    brokers = NODES_MIN * (machine.cores / 2 * machine.core_hour + machine.memory_gb / 4 * machine.gb_hour)
    brokers *= max(1, math.ceil(topic * COPIES / 200))
    network = (topic * (COPIES - 1) + read) * shop.average * S_PER_MONTH / 1e3 * machine.zone_gb * 2 / 3
    usd = (per_hour + brokers) * hours + (disk * machines + kafka_gb) * machine.disk_gb_month + network
    requests = shop.requests_s * shop.average * S_PER_MONTH
    return Sizing(
        shop, shards, state_gb, log_s, fold_share, processes, machines, topic, read, disk, kafka_gb,
        state_gb * GB / (CHILD_MB_S.value * 1e6), usd, usd / requests * 1_000,
    )  # fmt: skip


def fitting(shop: Shop) -> Sizing:
    """Return replicas where they can be, else the cheapest number of shards that can, else the most."""
    tried = [sizing_of(shop, 2**power) for power in range(11)]
    possible = [each for each in tried if each.is_possible]
    if tried[0].is_possible or not possible:
        return possible[0] if possible else tried[-1]
    return min(possible, key=lambda each: each.usd_month)


def table(sizings: list[Sizing]) -> Iterator[str]:
    """Yield the sizing table, a line each."""
    rows = (
        ("users; items", lambda s: f"{s.shop.users:,.0f}; {s.shop.items:,.0f}"),
        ("events/s; requests/s, busiest hour", lambda s: f"{s.shop.events_s:,.0f}; {s.shop.requests_s:,.0f}"),
        ("orders (partitions of the log)", lambda s: f"{s.shards}"),
        ("state of a process, GB", lambda s: f"{s.state_gb:,.1f}"),
        ("share of a core that folds, each process", lambda s: f"{100 * s.fold_share:.2f} %"),
        ("processes, followers among them", lambda s: f"{s.processes:,}"),
        ("machines of 8 cores, 64 GB", lambda s: f"{s.machines:,}"),
        ("disk of a machine, GB, a year of history", lambda s: f"{s.disk_gb:,.0f}"),
        ("snapshot of a process, s", lambda s: f"{s.snapshot_s:,.0f}"),
        ("into Kafka; out of it, MB/s", lambda s: f"{s.topic_mb_s:,.2f}; {s.read_mb_s:,.2f}"),
        ("Kafka's disk, 7 days, 3 copies, GB", lambda s: f"{s.kafka_gb:,.0f}"),
        ("USD a month; per 1,000 requests", lambda s: f"{s.usd_month:,.0f}; {s.usd_per_1000:.4f}"),
    )
    yield "| | " + " | ".join(each.shop.name for each in sizings) + " |"
    yield "|---|" + "---|" * len(sizings)
    for name, form in rows:
        yield f"| {name} | " + " | ".join(form(each) for each in sizings) + " |"


def breaks(shops: tuple[Shop, ...] = SHOPS) -> Iterator[str]:
    """Yield what each shop would take of one machine that holds it all in one process, a line each."""
    rows = (
        ("memory of users, GB", lambda s, _: f"{_of('users', s):,.1f}"),
        ("memory of items (items, pairs, lists of sessions), GB", lambda s, _: f"{_of_items(s):,.1f}"),
        ("memory of all tables, GB", lambda _, z: f"{z.state_gb:,.1f}"),
        ("one order: share of a core that folds", lambda _, z: f"{100 * z.fold_share:.2f} %"),
        ("cores for slates, busiest hour", lambda s, _: f"{s.requests_s * SLATE_US.value / 1e6:,.2f}"),
        ("the topic, once, MB/s", lambda _, z: f"{z.topic_mb_s:,.2f}"),
        ("served records, share of that", lambda s, z: f"{s.requests_s * RECORD_KB.value / 1e3 / z.topic_mb_s:.0%}"),
        ("a snapshot, s", lambda _, z: f"{z.snapshot_s:,.0f}"),
        ("a rebuild of a year, h", lambda s, _: f"{_year(s) / FOLD.value / 3_600:,.2f}"),
        ("10 M event ids reach back, h", lambda s, _: f"{min(1e7 / (s.events_s * s.average) / 3_600, 24):,.1f}"),
    )
    yield "| | " + " | ".join(each.name for each in shops) + " |"
    yield "|---|" + "---|" * len(shops)
    for name, form in rows:
        yield f"| {name} | " + " | ".join(form(each, sizing_of(each)) for each in shops) + " |"


def _year(shop: Shop) -> float:
    return shop.events_s * shop.average * 86_400 * HISTORY_DAYS


def _of(table_name: str, shop: Shop) -> float:
    settings = FoldSettings(limits=limits_of(shop, 1))
    return next(each.bytes_for(settings) for each in TABLES if each.name == table_name) / GB


def _of_items(shop: Shop) -> float:
    """Return the bytes that grow with items alone: the difference that one more item makes."""
    limits = limits_of(shop, 1)
    more = msgspec.structs.replace(limits, items_max=2 * limits.items_max)
    return (state_bytes(more) - state_bytes(limits) + limits.document_bytes_max) / GB


def written(text: str) -> str:
    """Return the page with its two tables made anew."""
    for name, lines in (("breaks", breaks()), ("sizing", table([fitting(each) for each in SHOPS]))):
        begin, end = f"<!-- {name}: python -m benchmarks.sizing --write -->", f"<!-- end of {name} -->"
        made = "\n".join([begin, *lines, end])
        text = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _, made=made: made, text, flags=re.DOTALL)
    return text


def main() -> None:
    """Print or write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true")
    for name in ("users", "items", "events", "requests"):
        parser.add_argument(f"--{name}", type=float)
    options = parser.parse_args()
    if options.write:
        PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    elif options.users:
        own = replace(SHOPS[0], name="this shop", users=options.users, items=options.items or 2e4)
        own = replace(own, events_s=options.events or 20.0, requests_s=options.requests or 5.0)
        print("\n".join(table([fitting(own)])))
    else:
        print("\n".join([*breaks(), "", *table([fitting(each) for each in SHOPS])]))


if __name__ == "__main__":
    main()
