"""Event streams in log order, and shards of them: clicks of a public data set, and a season of a simulated shop."""

import asyncio
import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.sharding.delta_merge import Words
from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import Event, build
from midstream.simulation.audience import AudienceOptions
from midstream.simulation.policies import Events, Policy, popularity_policy
from midstream.simulation.season import SeasonOptions, run_season
from midstream.state.fold import Fold
from midstream.state.structures.hashing import NO_KEY, id_hash, id_key_of

LOGICAL = 1_024
"""Logical shards, fixed when a shop is created; a machine has a range of them."""
Text = NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class EventStream:
    """Acts of users, in log order."""

    name: str
    user: Text
    session: Text
    item: Text
    action: Text
    time_ms: Words
    opens: NDArray[np.bool_]
    """Whether the act belongs to a session: those against an item do not."""

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.time_ms)

    @property
    def items(self) -> list[str]:
        """All items, in the order in which every fold is told them."""
        return sorted(set(self.item.tolist()))

    def shards(self, count: int) -> Words:
        """Return the machine of each event: that of its user's logical shard."""
        key = id_key_of(NO_KEY)
        names, inverse = np.unique(self.user, return_inverse=True)
        logical = np.array([id_hash(each, key) % LOGICAL for each in names.tolist()], dtype=np.int64)
        return (logical * count // LOGICAL)[inverse]

    def catalogue(self) -> EventBatch:
        """Return the events that put all items into a catalogue, before the first act."""
        first = int(self.time_ms[0])
        put = [
            Event(Kind.ITEM, Operation.PUT, item_id=each, body=b"{}", event_time_ms=first, log_time_ms=first)
            for each in self.items
        ]
        return build(put)

    def batch(self, places: Words) -> EventBatch:
        """Return the events at some places, ascending."""
        columns = zip(
            self.action[places].tolist(),
            self.user[places].tolist(),
            self.item[places].tolist(),
            self.session[places].tolist(),
            self.time_ms[places].tolist(),
            strict=True,
        )
        return build(
            [
                Event(Kind.INTERACTION, 0, "", action, user, item, session, event_time_ms=time_ms, log_time_ms=time_ms)
                for action, user, item, session, time_ms in columns
            ]
        )

    def first_acts(self) -> Words:
        """Return the places of the first act of each session, ascending."""
        opening = np.flatnonzero(self.opens)
        _, first = np.unique(self.session[opening], return_index=True)
        return np.sort(opening[first])


def apply(fold: Fold, batch: EventBatch) -> None:
    """Fold a batch behind what was folded."""
    fold.apply(LogPosition(fold.log_position), batch)


def in_time_order(name: str, rows: Iterable[tuple[str, str, str, str, int]], against: frozenset[str]) -> EventStream:
    """Return rows of user, session, item, action and time as a stream."""
    user, session, item, action, time_ms = zip(*rows, strict=True)
    times = np.array(time_ms, dtype=np.int64)
    order = np.argsort(times, kind="stable")
    columns = [np.array(each, dtype=np.str_)[order] for each in (user, session, item, action)]
    opens = ~np.isin(columns[3], sorted(against))
    return EventStream(name, *columns, times[order], opens)


def rsc15(folder: Path) -> EventStream:
    """Return the clicks of ``rsc15-100k``: 70,278 clicks of 17,000 sessions, each a user of its own."""
    path = folder / "rsc15-100k" / "train_full.tsv.gz"
    with gzip.open(path, "rt", encoding="ascii") as file:
        split = [line.split("\t") for line in file.read().splitlines()[1:]]
    rows = ((f"u{each[0]}", f"s{each[0]}", f"i{each[1]}", "view", int(float(each[2]) * 1_000)) for each in split)
    return in_time_order("rsc15-100k", rows, frozenset())


def season(seed: int, people: int, days: int) -> EventStream:
    """Return what the people of a simulated shop do while it shows what is viewed most."""
    options = SeasonOptions(seed, days, audience=AudienceOptions(person_count=people))
    shop = options.shop()
    popular = popularity_policy(shop, 10)
    rows: list[tuple[str, str, str, str, int]] = []

    async def learn(events: Events) -> None:
        rows.extend(filter(None, map(_row, events)))
        await popular.learn([each for each in events if each["type"] == "view"])

    asyncio.run(run_season(options, shop, Policy("recorded", popular.fill, learn)))
    return in_time_order(f"season of {people} people", rows, frozenset({"dismiss"}))


def _row(event: Mapping[str, object]) -> tuple[str, str, str, str, int] | None:
    kind, item = str(event["type"]), event.get("item_id")
    time_ms = event["time"]
    if kind not in {"view", "click", "cart", "purchase", "dismiss"} or item is None or not isinstance(time_ms, int):
        return None
    return str(event.get("user_id") or event.get("session_id")), str(event.get("session_id")), str(item), kind, time_ms
