"""Folds a catalogue and 3.6 million acts of many users on it; prints what that made resident, and what the tables list.

Memory is asked for in small pages, so that what a machine gives does not matter.
"""

import json
from importlib import import_module

import numpy as np

from midstream.core.kinds import Kind, Operation
from midstream.events.schema import Event, build
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings
from tests.state.flood import START_MS, resident_bytes, views
from tests.support.events import random_events, tiny_settings

EVENTS, STEP = 3_600_000, 20_000
USERS = 1_000_000
ITEMS = 20_000


def main() -> None:
    import_module("numpy._core.multiarray")._set_madvise_hugepage(False)  # noqa: FBT003  NumPy takes no keyword
    small = Fold(tiny_settings())
    small.apply(small.log_position, random_events(300, 1))
    before = resident_bytes()  # of the process, its libraries and its kernels
    fold = Fold(FoldSettings())
    fold.apply(fold.log_position, build([put(number) for number in range(ITEMS)]))
    rng = np.random.default_rng(3)
    for start in range(0, EVENTS, STEP):
        users, items = rng.integers(0, USERS, STEP), rng.integers(0, ITEMS, STEP)
        fold.apply(fold.log_position, views(users, items, START_MS + start * 10))
    listed = sum(size.bytes_now for size in fold.sizes().values())
    print(json.dumps({"resident": resident_bytes() - before, "listed": listed}))


def put(number: int) -> Event:
    body = b'{"category":"c%d","title":"%s"}' % (number % 50, b"word " * 100)
    return Event(Kind.ITEM, Operation.PUT, f"p{number}", item_id=f"i{number:08}", body=body, log_time_ms=START_MS)


if __name__ == "__main__":
    main()
