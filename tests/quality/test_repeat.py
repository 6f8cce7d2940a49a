"""What ``repeat`` finds of the next basket on shared data; figures are printed, see them with ``-s``.

Where the data folder is missing this skips, and in CI fails.
"""

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.data_folder import DATA_VARIABLE, data_folder
from benchmarks.quality.session_sets import online_retail
from midstream.retrieval.repeat import RepeatItems

pytestmark = pytest.mark.quality
RING = 50
"""As many interactions as the default row of a user has."""


def shared() -> Path:
    """Return the folder of data sets, if it holds the gift shop."""
    folder = data_folder(os.environ, Path(__file__).parents[2])
    if folder is not None and (folder / "online-retail").is_dir():
        return folder
    reason = (
        f"online-retail is not there: {DATA_VARIABLE} names no folder that holds it, and none is beside the checkout"
    )
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    return pytest.skip(reason)


def test_repeats_of_the_gift_shop() -> None:
    """Recall at 10 among what was bought before, on the ninth tenth of the rows by time: at least 0.20, and more than
    what was bought last finds.
    """
    rows = online_retail(shared())
    item_of = np.unique(rows.item_id, return_inverse=True)[1].astype(np.int32)
    baskets = np.flatnonzero(np.append(True, rows.session_id[1:] != rows.session_id[:-1]))
    first, stop = int(len(rows) * 0.8), int(len(rows) * 0.9)
    bought: dict[str, list[int]] = defaultdict(list)
    recalls: dict[str, list[float]] = {"repeat": [], "last bought": []}
    for start, end in zip(baskets.tolist(), [*baskets[1:].tolist(), len(rows)], strict=True):
        past = bought[str(rows.user_id[start])]
        if first <= start < stop and past:
            acts = np.array(past[-RING:])
            now_ms = int(rows.time_ms[start])
            found, score = RepeatItems().score(item_of[acts], rows.time_ms[acts], now_ms)
            if len(found):
                basket = set(item_of[start:end].tolist())
                last = dict(zip(item_of[acts].tolist(), past[-RING:], strict=True))
                orders = {"repeat": -score, "last bought": np.array([-last[item] for item in found.tolist()])}
                for name, order in orders.items():
                    best = set(found[np.argsort(order, kind="stable")[:10]].tolist())
                    recalls[name].append(len(best & basket) / min(10, len(basket)))
        past.extend(range(start, end))
    mean = {name: float(np.mean(each)) for name, each in recalls.items()}
    print(f"\nonline-retail, {len(recalls['repeat'])} baskets, recall@10: {mean}")
    assert mean["repeat"] >= 0.20
    assert mean["repeat"] > mean["last bought"]
