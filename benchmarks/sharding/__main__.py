"""Users by shard against one order: how far answers of merged tables are from those of the exact fold.

    python -m benchmarks.sharding rsc15 --data FOLDER
    python -m benchmarks.sharding season --shards 2 4 16 --in-flight 10 100 1000 10000

Each shard folds the events of its users with the real fold. At the end of an epoch, of so many events of the shop, it
publishes the rows that changed; deltas come in any order, a fifth of them twice. At some moments, one event before the
end of an epoch, when the shard that asks lacks most of the others, its next visitors ask: what the merged tables answer
is compared with what the fold of all events answers at the same moment. ``--in-flight`` is the length of an epoch:
events a second times 100 ms. ``alone`` merges nothing.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from scipy import stats

from benchmarks.sharding.delta_merge import Publisher, Replica, Words, disordered
from benchmarks.sharding.event_streams import EventStream, apply, rsc15, season
from benchmarks.sharding.shop_rows import HEAT, PAIRS, SESSIONS, merge_rows, shop_rows
from midstream.app.config.schema import Config
from midstream.app.wiring import plans
from midstream.core.durations import Duration
from midstream.core.types import Models, Query, TimestampMs
from midstream.ranking import pipeline
from midstream.retrieval.session_knn import SessionKnn
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings, StateLimits

REPEATED = 0.2
WARM_UP = 0.4
"""Share of a stream before the first moment."""
SLATE, LISTED, NEIGHBOURS = 20, 50, 10
KNN = SessionKnn(limit=SLATE)
PLAN = next(iter(plans(Config()).values())).serving(Models({}))
TABLES = (HEAT, PAIRS, SESSIONS)


def settings_of(stream: EventStream) -> FoldSettings:
    """Return fold settings with room for a stream; a session ends with its id alone."""
    items = len(stream.items) + 1
    limits = StateLimits(
        users_max=len(set(stream.user.tolist())) + 1,
        items_max=items,
        click_items_max=items,
        index_sessions_max=len(set(stream.session.tolist())) + 1,
        event_ids_max=1_000,
        outcome_items_max=1_000,
        requests_max=1_000,
        outcome_slates_max=1_000,
    )
    return msgspec.structs.replace(Config().fold_settings(), limits=limits, session_gap=Duration("7d"))


@dataclass(slots=True)
class Shard:
    """One shard: its fold, what it published, and where in the stream its events are."""

    fold: Fold
    publisher: Publisher
    places: Words
    first_acts: Words
    done: int = 0
    """Place in the stream up to which it has folded."""

    def advance(self, stream: EventStream, until: int) -> None:
        """Fold its events before a place of the stream."""
        now = self.places[np.searchsorted(self.places, self.done) : np.searchsorted(self.places, until)]
        if len(now):
            apply(self.fold, stream.batch(now))
        self.done = max(self.done, until)

    def rows(self, epoch_events: int, items: int) -> dict[str, Words]:
        """Return its rows of the shop-wide tables."""
        begun = self.first_acts[: np.searchsorted(self.first_acts, self.done)] // epoch_events
        return shop_rows(self.fold, begun, items)


@dataclass(slots=True)
class Found:
    """What one run measured; each a list of shares, 1 = equal to the exact fold."""

    counters: list[float] = field(default_factory=list[float])
    """1 - relative difference of decayed counters, summed over items."""
    trending: list[float] = field(default_factory=list[float])
    neighbours: list[float] = field(default_factory=list[float])
    session_knn: list[float] = field(default_factory=list[float])
    slates: list[float] = field(default_factory=list[float])
    order: list[float] = field(default_factory=list[float])
    """Kendall's tau of the common items of slates."""
    same: list[float] = field(default_factory=list[float])
    """Whether a slate is equal, place by place."""
    hits: list[float] = field(default_factory=list[float])
    """Whether a slate has the item that is acted on next."""
    exact_hits: list[float] = field(default_factory=list[float])
    published: Counter[str] = field(default_factory=Counter[str])
    """Bytes of deltas by table."""
    events_published: int = 0


class Sharded:
    """A stream folded by shards, and by one fold beside them."""

    def __init__(self, stream: EventStream, shard_count: int, in_flight: int, seed: int) -> None:
        """Give every fold the catalogue, so that items have equal indices in all of them."""
        settings, catalogue = settings_of(stream), stream.catalogue()
        owner, first = stream.shards(shard_count), stream.first_acts()
        self.stream, self.in_flight = stream, in_flight
        self.owner, self.items = owner, len(stream.items)
        self.exact, self.view = Fold(settings), Fold(settings)
        apply(self.exact, catalogue)
        self.shards: list[Shard] = []
        for number in range(shard_count):
            fold = Fold(settings)
            apply(fold, catalogue)
            places = np.flatnonzero(owner == number)
            self.shards.append(Shard(fold, Publisher(number), places, first[owner[first] == number]))
        self.replica, self.rng = Replica(), np.random.default_rng(seed)
        self.exact_done = 0

    def moment(self, epoch: int, *, merges: bool) -> tuple[int, int, Counter[str]]:
        """Fold and publish up to an epoch, then up to the last event of the next one in the shard that asks.

        Returns:
            Place of the question in the stream, the shard that asks, and the bytes of the epoch's deltas by table.
        """
        boundary = epoch * self.in_flight
        place = min(boundary + self.in_flight - 1, len(self.stream) - 1)
        self._publish(epoch - 1, merges=merges)
        published = self._publish(epoch, merges=merges)
        asking = int(self.owner[place])
        self.shards[asking].advance(self.stream, place)
        apply(self.exact, self.stream.batch(np.arange(self.exact_done, place)))
        self.exact_done = place
        self._merge(asking)
        return place, asking, published

    def _publish(self, epoch: int, *, merges: bool) -> Counter[str]:
        """Fold up to the end of an epoch and publish what changed; return the bytes of it by table."""
        for shard in self.shards:
            shard.advance(self.stream, epoch * self.in_flight)
        if not merges:
            return Counter()
        rows = [(shard.publisher, shard.rows(self.in_flight, self.items)) for shard in self.shards]
        deltas = [delta for publisher, each in rows for delta in publisher.deltas(epoch, each)]
        self.replica.join_all(disordered(deltas, self.rng, REPEATED))
        found = Counter[str]()
        for each in deltas:
            found[each.table] += each.bytes
        return found

    def _merge(self, asking: int) -> None:
        """Make the view of the shard that asks: its own rows of now, those of the others as published."""
        shard = self.shards[asking]
        own, live = shard.fold.arrays(), shard.rows(self.in_flight, self.items)
        rows = {table: {**self.replica.rows(table), asking: live[table]} for table in TABLES}
        merged = merge_rows(rows, own, shard.fold.settings)
        numbers, held = merged.numbers[asking], own["sessions.number"].astype(np.int64)
        mapped = {
            "sessions.number": np.where(held >= 0, numbers[held], -1),
            "sessions.counters": own["sessions.counters"].copy(),
        }
        mapped["sessions.counters"][0] = len(np.concatenate(list(merged.numbers.values())))
        self.view.restore({**own, **merged.arrays, **mapped})


def measure(
    stream: EventStream, shard_count: int, in_flight: int, options: argparse.Namespace, *, merges: bool
) -> Found:
    """Return how far merged tables are from the exact fold, over some moments."""
    sharded, found = Sharded(stream, shard_count, in_flight, options.seed), Found()
    first, last = int(WARM_UP * len(stream)) // in_flight, (len(stream) - 2 * options.questions) // in_flight - 1
    epochs = np.unique(np.linspace(first, max(first, last), options.moments).astype(np.int64)).tolist()
    for epoch in epochs:
        place, asking, published = sharded.moment(epoch, merges=merges)
        found.published += published
        found.events_published += in_flight
        compare_tables(sharded, found)
        mine = sharded.shards[asking].places
        for asked in mine[np.searchsorted(mine, place) :][: options.questions].tolist():
            compare_answers(sharded, asked, found)
    return found


def compare_tables(sharded: Sharded, found: Found) -> None:
    """Compare counters, the list of what trends, and the neighbours of the most looked at items."""
    exact, view, settings = sharded.exact, sharded.view, sharded.exact.settings
    now, every = exact.log_time_ms, np.arange(sharded.items, dtype=np.int32)
    for half_life in settings.half_lives:
        right = exact.items.decayed_count("view", half_life.ms, now, every)
        came = view.items.decayed_count("view", half_life.ms, now, every)
        found.counters.append(1 - float(np.abs(right - came).sum() / right.sum()))
    hot = exact.items.hottest(settings.half_lives[0].ms, LISTED)[0]
    found.trending.append(overlap(hot, view.items.hottest(settings.half_lives[0].ms, LISTED)[0]))
    for item in exact.items.hottest(settings.half_lives[-1].ms, 4 * LISTED)[0].tolist():
        right = best(*exact.pairs.neighbours(item, now))
        if len(right):
            found.neighbours.append(overlap(right, best(*view.pairs.neighbours(item, now))))


def compare_answers(sharded: Sharded, asked: int, found: Found) -> None:
    """Ask both for the user of an event that is about to happen, and note whether its item was in the slate."""
    stream = sharded.stream
    now = TimestampMs(sharded.exact.log_time_ms)
    query = Query("r" * 32, "default", str(stream.user[asked]), str(stream.session[asked]), SLATE, now, asked)
    moments = [fold.moment(query, Models({})) for fold in (sharded.exact, sharded.view)]
    right, came = (KNN.retrieve(each).item_index for each in moments)
    if len(right):
        found.session_knn.append(overlap(right, came))
    slates = [slate(fold, query) for fold in (sharded.exact, sharded.view)]
    found.slates.append(overlap(*slates))
    found.same.append(float(np.array_equal(*slates)))
    common = [each for each in slates[0].tolist() if each in set(slates[1].tolist())]
    if len(common) > 1:
        places = [slates[1].tolist().index(each) for each in common]
        found.order.append(float(stats.kendalltau(range(len(common)), places).statistic))
    wanted = sharded.exact.vocabulary.item_indices([str(stream.item[asked])])[0]
    found.exact_hits.append(float(wanted in slates[0]))
    found.hits.append(float(wanted in slates[1]))


def slate(fold: Fold, query: Query) -> Words:
    """Return the items that the default placement serves."""
    served = asyncio.run(pipeline.recommend(PLAN, partial(fold.moment, models=PLAN.models), query, lambda: 60.0))
    return np.asarray(served.candidates.item_index[served.selection.chosen], dtype=np.int64)


def best(items: Words, weights: Words) -> Words:
    """Return the neighbours with the highest weights, equal ones by index."""
    return items[np.lexsort((items, -weights))][:NEIGHBOURS]


def overlap(right: Sequence[int] | Words, came: Sequence[int] | Words) -> float:
    """Return how much of one list the other one has."""
    return len(np.intersect1d(right, came)) / max(len(right), 1)


def rows_of(stream: EventStream, options: argparse.Namespace) -> Iterator[str]:
    """Yield a line of the table for each setting."""
    yield (
        "| shards | events in flight | counters | trending @50 | pair neighbours @10 | session kNN @20 | slate @20"
        " | order, τ | equal slates | next item in slate, exact → merged"
        " | bytes an event: heat + pairs + sessions |"
    )
    yield "|" + "---|" * 11
    for shard_count in options.shards:
        for in_flight in options.in_flight:
            yield line(
                str(shard_count), f"{in_flight:,}", measure(stream, shard_count, in_flight, options, merges=True)
            )
        alone = measure(stream, shard_count, options.in_flight[-1], options, merges=False)
        yield line(str(shard_count), "alone: nothing merged", alone)


def line(shards: str, in_flight: str, found: Found) -> str:
    """Return one line."""
    names = [each.name for each in fields(Found)][:7]
    shares = " | ".join(f"{np.mean(getattr(found, name)):.4f}" for name in names)
    hits = f"{np.mean(found.exact_hits):.3f} → {np.mean(found.hits):.3f}"
    sizes = " + ".join(f"{found.published[table] / found.events_published:,.0f}" for table in TABLES)
    return f"| {shards} | {in_flight} | {shares} | {hits} | {sizes} |"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stream", choices=("rsc15", "season"))
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of public data sets")
    parser.add_argument("--shards", type=int, nargs="+", default=[2, 4, 16])
    parser.add_argument("--in-flight", type=int, nargs="+", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--moments", type=int, default=6)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--people", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    stream = rsc15(options.data) if options.stream == "rsc15" else season(options.seed, options.people, options.days)
    sessions = len(set(stream.session.tolist()))
    print(f"{stream.name}: {len(stream):,} events, {len(stream.items):,} items, {sessions:,} sessions\n")
    for each in rows_of(stream, options):
        print(each, flush=True)


if __name__ == "__main__":
    main()
