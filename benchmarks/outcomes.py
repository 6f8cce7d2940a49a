"""The join of slates with what followed: beside a join in plain dictionaries, and what it costs the fold.

First a log of slates of five to ten items, with 1.5 outcomes each, 30 % of all events a second time, late, shuffled and
early ones: the table's final outcomes of every slate, as they leave or as they are held at the end, against those of
``tests.support.join``. Then the rate of the whole fold with one served record of ten items in five events, with
the join, with its decoding alone, and without. About four minutes at full size.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from statistics import median

import numpy as np
import xxhash

from midstream.core.fold_step import FoldStep
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.events.kernel import frozen_columns
from midstream.events.schema import Event, build
from midstream.state.fold import Fold
from midstream.state.outcomes.outcomes import Outcomes, Slates
from midstream.state.settings import FoldSettings, StateLimits
from tests.support.events import START_MS, served_body
from tests.support.followed import LogShape
from tests.support.join import JoinedSlate, ReferenceJoin, slates_as_told

STEP = 10_000
_SERVED = int(Kind.SERVED)


def resident() -> float:
    """Return the largest resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


def said(slate: JoinedSlate) -> int:
    """Return a hash of all that is known of a slate."""
    rows = [
        (row.item, sorted(row.actions), row.count, row.value, row.seen_after_ms, row.acted_after_ms)
        for row in slate.positions
    ]
    text = repr((slate.request, slate.user, slate.log_position, slate.log_time_ms, slate.group, rows))
    return xxhash.xxh3_64_intdigest(text.encode())


def by_table(log: LogShape, settings: FoldSettings) -> tuple[list[int], Fold, float]:
    """Return a hash of each slate as it left or is held, the fold, and the seconds of the table's own work."""
    fold, left, spent = Fold(settings), list[int](), [0.0, 0.0]
    outcomes, names = fold.outcomes, settings.action_names()
    fold_in = outcomes.apply

    def note(some: Slates) -> None:
        began = time.perf_counter()
        left.extend(said(each) for each in slates_as_told(outcomes, some, names))
        spent[1] += time.perf_counter() - began

    def timed(step: FoldStep) -> None:
        began = time.perf_counter()
        fold_in(step)
        spent[0] += time.perf_counter() - began

    outcomes.apply = timed  # type: ignore[method-assign]
    outcomes.leaving = note
    for batch in log.batches(STEP):
        fold.apply(fold.log_position, batch)
    table_s = spent[0] - spent[1]
    for some in outcomes.held():
        note(some)
    return left, fold, table_s


def by_dictionaries(log: LogShape, settings: FoldSettings) -> tuple[list[int], ReferenceJoin, float]:
    """Return the same of the reference, which knows duplicates by a set of ids."""
    twin, known, left, spent_s = ReferenceJoin(settings), set[str](), list[int](), 0.0
    for position, event in enumerate(log.events()):
        began = time.perf_counter()
        twin.pass_time(event.log_time_ms)
        name = event.event_id or event.request_id
        if name not in known:
            known.add(name)
            twin.add(event, position, event.log_time_ms)
        spent_s += time.perf_counter() - began
        left.extend(map(said, twin.left))
        twin.left.clear()
    left.extend(map(said, twin.slates.values()))
    return left, twin, spent_s


def compare(slates: int) -> None:
    """Print whether both say the same, and what each took."""
    settings, log = FoldSettings(limits=StateLimits(users_max=250_000)), LogShape(slates)
    before = resident()
    found, fold, table_s = by_table(log, settings)
    totals, size = fold.outcomes.totals, fold.sizes()["outcomes"]
    print(f"{slates:,} slates, {fold.log_position:,} events, {fold.counts()['duplicate']:,} of them again")
    print(
        f"table: {table_s:.1f} s; {size.bytes_now / 2**20:.0f} MiB in use of {size.bytes_max / 2**20:.0f}; process "
        f"{before:.0f} -> {resident():.0f} MiB"
    )
    expected, twin, spent_s = by_dictionaries(log, settings)
    print(f"dictionaries: {spent_s:.1f} s; process {resident():.0f} MiB")
    print(", ".join(f"{name} {count:,}" for name, count in totals.items()), f"waiting {fold.outcomes.waiting_count:,}")
    sums = {
        (tuple(each.group), name): count
        for each in fold.outcomes.counts()
        for name, count in {"slates": each.slates, "impression": each.impressions, **each.acted}.items()
        if count
    }
    same_sums = sums == {key: count for key, count in twin.counts.items() if count and key[1] != "positions"}
    same = found == expected and same_sums and all(twin.totals[name] == count for name, count in totals.items())
    print("equal: every slate, every sum" if same else "NOT EQUAL")


def mix(count: int) -> Iterator[Event]:
    """Yield events of which one in five is a slate of ten items; half of the others name one of the last 500."""
    rng = np.random.default_rng(3)
    item, user = ((n ** rng.random(count)).astype(int).tolist() for n in (100_000, 300_000))
    back, draw = rng.integers(1, 500, count).tolist(), rng.random(count).tolist()
    for place in range(count):
        now = START_MS + place * 10
        if place % 5 == 0:
            ids = [f"i{(item[place] + each * 37) % 100_000}" for each in range(10)]
            body = served_body(f"r{place}", ids)
            yield Event(Kind.SERVED, user_id=f"u{user[place]}", request_id=f"r{place}", body=body, log_time_ms=now)
            continue
        of = max(0, place // 5 - back[place]) * 5
        request, item_id = "", f"i{item[place]}"
        if draw[place] < 0.5:
            request, item_id = f"r{of}", f"i{(item[of] + place % 10 * 37) % 100_000}"
        yield Event(
            Kind.IMPRESSION if draw[place] < 0.25 else Kind.INTERACTION,
            event_id=f"e{place}",
            action="" if draw[place] < 0.25 else "click",
            user_id=f"u{user[place]}",
            item_id=item_id,
            request_id=request,
            log_time_ms=now,
        )


def rate(count: int, repeats: int) -> None:
    """Print the events a CPU-second of the fold with the join, with its decoding alone, and without all of it."""
    events = tuple(mix(count))
    rows = [build(events[start : start + STEP]) for start in range(0, count, STEP)]

    def only_read(outcomes: Outcomes, step: FoldStep) -> None:
        batch = step.events
        served = np.flatnonzero((batch.kind == _SERVED) & batch.folded & (batch.request_hash != 0))
        rows, text = frozen_columns(batch.source)
        outcomes._read(rows, text, served)

    def nothing(_: Outcomes, __: FoldStep) -> None:
        pass

    ways = {"with the join": Outcomes.apply, "bodies decoded alone": only_read, "without": nothing}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            fold = Fold(FoldSettings())
            fold.outcomes.apply = way.__get__(fold.outcomes)  # type: ignore[method-assign]
            half = len(rows) // 2
            for batch in rows[:half]:
                fold.apply(LogPosition(fold.log_position), batch)
            began = time.thread_time()
            for batch in rows[half:]:
                fold.apply(LogPosition(fold.log_position), batch)
            found[name].append((len(rows) - half) * STEP / (time.thread_time() - began))
    for name, rates in found.items():
        print(f"fold {name}: {median(rates):,.0f} events/CPU-s ({1e6 / median(rates):.2f} µs an event)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slates", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    compare(options.slates)
    if options.repeats:
        rate(options.events, options.repeats)


if __name__ == "__main__":
    main()
