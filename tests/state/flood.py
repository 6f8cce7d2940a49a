"""Folds 100,000 catalogue items, then 10 M events of 10 M users with 1 M made-up item ids; prints what is resident."""

import json
import re
from pathlib import Path

import numpy as np

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch
from midstream.events.schema import ROW, TIME_SENT, Event, build
from midstream.state.fold import Fold
from midstream.state.ids.id_indexing import VocabularyCount
from midstream.state.settings import FoldSettings

START_MS = 1_750_000_000_000
USERS = 10_000_000
MADE_UP_ITEMS = 1_000_000
CATALOGUE = 100_000
STEP = 20_000


def main() -> None:
    fold = Fold(FoldSettings())
    for start in range(0, CATALOGUE, STEP):
        fold.apply(fold.log_position, build([put(number) for number in range(start, start + STEP)]))
    rng = np.random.default_rng(11)
    for start in range(0, USERS, STEP):
        items = rng.integers(0, MADE_UP_ITEMS, STEP)
        fold.apply(fold.log_position, views(np.arange(start, start + STEP), items, START_MS + start // 10))
    vocabulary = fold.vocabulary
    known = vocabulary.item_indices([f"c{number}" for number in range(CATALOGUE)])
    print(
        json.dumps(
            {
                "resident_bytes": resident_bytes(),
                "distinct_users": USERS,
                "user_count": int(vocabulary.user_count),
                "evicted": int(vocabulary.counts[VocabularyCount.USER_EVICTED]),
                "click_item_count": int(vocabulary.click_item_count),
                "refused_items": int(vocabulary.counts[VocabularyCount.ITEM_REFUSED]),
                "catalogue_intact": bool((known >= 0).all() and vocabulary.in_catalogue[known].all()),
            }
        )
    )


def resident_bytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1_024


def put(number: int) -> Event:
    body = b'{"category":"c%d"}' % (number % 50)
    return Event(Kind.ITEM, Operation.PUT, f"p{number}", item_id=f"c{number}", body=body, log_time_ms=START_MS)


def views(users: np.ndarray, items: np.ndarray, now_ms: int) -> EventBatch:
    rows = np.zeros(len(users), dtype=ROW)
    rows["kind"], rows["flags"], rows["position"] = Kind.INTERACTION, TIME_SENT, -1
    rows["value"] = rows["quantity"] = np.nan
    rows["event_time_ms"] = rows["log_time_ms"] = now_ms
    parts = [np.tile(np.frombuffer(b"view", np.uint8), (len(users), 1)), digits(b"u", users), digits(b"i", items)]
    for name, each in zip(("action", "user_id", "item_id"), parts, strict=True):
        rows[f"{name}_length"] = each.shape[1]
    text = np.concatenate(parts, axis=1)
    rows["text_start"] = np.arange(len(users), dtype=np.uint32) * text.shape[1]
    return EventBatch(rows, text.tobytes())


def digits(letter: bytes, numbers: np.ndarray) -> np.ndarray:
    found = (numbers[:, None] // 10 ** np.arange(7, -1, -1)) % 10 + ord("0")
    return np.concatenate([np.tile(np.frombuffer(letter, np.uint8), (len(numbers), 1)), found.astype(np.uint8)], axis=1)


if __name__ == "__main__":
    main()
