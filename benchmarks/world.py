"""The workload of the benchmarks: 100,000 items, 1 M users, 1 M sessions, Zipf 1.0, as event batches made by columns.

60 % of a session stays within 200 items of its first one, so that neighbours exist. Seeded: the same events each time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.events.schema import ROW, TIME_SENT

START_MS = 1_750_000_000_000


@dataclass(frozen=True)
class World:
    """How much of everything."""

    items: int = 100_000
    users: int = 1_000_000
    sessions: int = 1_000_000
    events: int = 5_000_000
    seed: int = 7


def zipf_items(rng: np.random.Generator, world: World, size: int) -> np.ndarray:
    """Return item numbers, number 0 the most frequent (Zipf with exponent 1)."""
    weight = 1.0 / np.arange(1, world.items + 1)
    edges = np.cumsum(weight / weight.sum())
    return np.searchsorted(edges, rng.random(size)).clip(0, world.items - 1)


def interactions(world: World) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return user, item and session numbers of all events in log order; about 4,000 sessions run at once."""
    rng = np.random.default_rng(world.seed)
    session = np.sort((np.arange(world.events) % world.sessions) + 0)
    order = np.argsort(session + rng.exponential(2_000.0, world.events), kind="stable")
    session = session[order]
    first = zipf_items(rng, world, world.sessions)
    near = (first[session] + rng.integers(0, 200, world.events)) % world.items
    item = np.where(rng.random(world.events) < 0.6, near, zipf_items(rng, world, world.events))
    user = rng.permutation(world.sessions)[session] % world.users
    return user, item, session


def batches(world: World, step: int = 10_000) -> Iterator[EventBatch]:
    """Yield all events as batches, 10 ms of event time apart, without event ids."""
    user, item, session = interactions(world)
    for start in range(0, world.events, step):
        yield columns(user[start : start + step], item[start : start + step], session[start : start + step], start)


def columns(user: np.ndarray, item: np.ndarray, session: np.ndarray, first: int) -> EventBatch:
    """Return views as one batch; ids are ``u0000001``, ``i000001``, ``s0000001``."""
    count = len(user)
    rows = np.zeros(count, dtype=ROW)
    rows["kind"] = Kind.INTERACTION
    rows["flags"] = TIME_SENT
    rows["position"] = -1
    rows["value"] = rows["quantity"] = np.nan
    rows["event_time_ms"] = rows["log_time_ms"] = START_MS + 10 * (first + np.arange(count))
    parts = [_text(b"view", count), _ids(b"u", user), _ids(b"i", item), _ids(b"s", session)]
    for name, part in zip(("action", "user_id", "item_id", "session_id"), parts, strict=True):
        rows[f"{name}_length"] = part.shape[1]
    text = np.concatenate(parts, axis=1)
    rows["text_start"] = np.arange(count, dtype=np.uint32) * text.shape[1]
    return EventBatch(rows, text.tobytes())


def _text(word: bytes, count: int) -> np.ndarray:
    return np.tile(np.frombuffer(word, dtype=np.uint8), (count, 1))


def _ids(letter: bytes, numbers: np.ndarray) -> np.ndarray:
    digits = (numbers[:, None] // 10 ** np.arange(6, -1, -1)) % 10 + ord("0")
    return np.concatenate([_text(letter, len(numbers)), digits.astype(np.uint8)], axis=1)
