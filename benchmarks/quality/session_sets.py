"""Public data sets of sessions and of interactions in time order, each read as its own README says."""

import csv
import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.item_sets import sequences
from midstream.core.errors import NotFound
from midstream.evaluation.data.interactions import InteractionTable, by_time
from midstream.evaluation.data.session_data import NextItemData, Split
from midstream.evaluation.data.tables import FileColumns, read_table, whole_table
from midstream.evaluation.search import Grid

DAY_MS = 86_400_000
LEAVE_ONE_OUT_GRID: Grid = {
    "position_decay": (0.0, 0.05, 0.1, 0.2, 0.35),
    "last_items_max": (5, 10, 20, 50),
    "match_decay": (0.05, 0.1, 0.2, 0.3, 0.5),
    "distance_decay": (0.05, 0.15, 0.3, 0.5, 0.7),
    "sharpness": ("1", "1.5", "2"),
    "entries_max": (50, 100, 200, 500),
    "neighbours_max": (100, 200, 400, 800),
}
"""Values for session kNN where histories are long and nothing seen comes again: about 50 trials."""
CLICKS = FileColumns(item="ItemId", time="Time", session="SessionId", time_unit="s")
"""Columns of both click sets."""


def serenade_toy(folder: Path) -> NextItemData:
    """Return the example of the Serenade recommender, in ``folder/serenade-toy``: 931 questions in the test part.

    Its published figures leave the last item out and learn from the training part alone, so this does too.
    """
    at = folder / "serenade-toy"

    def split(asked: str) -> Split:
        return Split(read_table(at / "train.tsv.gz", CLICKS), read_table(at / asked, CLICKS))

    return NextItemData(
        "serenade-toy",
        lambda: split("valid.tsv"),
        lambda: split("test.tsv"),
        repeat=False,
        validation_learned=False,
    )


def rsc15(folder: Path) -> NextItemData:
    """Return the YooChoose cut of session-rec, in ``folder/rsc15-100k``: 10,152 questions, 387 with published lists.

    The published lists may hold the last item, so these may too.
    """
    at = folder / "rsc15-100k"

    def split(learned: str, asked: str) -> Split:
        return Split(read_table(at / learned, CLICKS), read_table(at / asked, CLICKS))

    return NextItemData(
        "rsc15-100k",
        lambda: split("train_tr.tsv.gz", "train_valid.tsv.gz"),
        lambda: split("train_full.tsv.gz", "test.tsv.gz"),
        repeat=True,
    )


def yoochoose(folder: Path) -> NextItemData:
    """Return the newest 1/64 of the YooChoose clicks, in ``folder/yoochoose1_64``: 55,898 questions in the test part.

    The published figures allow the last item, so these do too. Settings are chosen on the last twentieth of the
    training sessions. The file knows only the order: a click is a second after the one before it.
    """

    def parts() -> tuple[InteractionTable, InteractionTable]:
        path = folder / "yoochoose1_64" / "sequences.npz"
        if not path.is_file():
            raise NotFound(str(path))
        with np.load(path) as arrays:
            train = np.split(arrays["train_items"], arrays["train_offsets"][1:-1])
            prefixes = np.split(arrays["test_items"], arrays["test_offsets"][1:-1])
            # The longest prefix of a session comes first and, with its target, is all of it.
            starts = np.flatnonzero(np.concatenate([[True], np.diff(arrays["test_offsets"])[:-1] == 1]))
            test = [np.append(prefixes[at], arrays["test_targets"][at]) for at in starts.tolist()]
        rows = in_order([each.tolist() for each in [*train, *test]])
        return rows.take(slice(0, sum(map(len, train)))), rows.take(slice(sum(map(len, train)), None))

    def choosing() -> Split:
        train = parts()[0]
        first = int(0.95 * (int(train.session_id[-1]) + 1))
        return Split(*(train.take(which) for which in _cut(train, first)))

    return NextItemData("yoochoose1_64", choosing, lambda: Split(*parts()), repeat=True)


def _cut(rows: InteractionTable, first: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the rows of sessions whose number is below one, and the others."""
    is_later = rows.session_id.astype(np.int64) >= first
    return ~is_later, is_later


def amazon_sequences(name: str, file_name: str) -> Callable[[Path], NextItemData]:
    """Return what reads reviews as sessions, one a user, for leave-one-out: the last item of each is the test.

    The validation item is the one before it; what is learned lacks both. Nothing seen is recommended. The file knows
    only the order of each user's items: users follow one another, an act is a second after the one before it.
    """

    def read(folder: Path) -> NextItemData:
        def split(held_back: int) -> Split:
            rows, ids = sequences(folder / name / file_name)
            named = [[ids[item] for item in row[: len(row) - held_back + 1]] for row in rows]
            learned = [[ids[item] for item in row[:-2]] for row in rows]
            return Split(in_order(learned), in_order(named))

        return NextItemData(
            name,
            lambda: split(2),
            lambda: split(1),
            repeat=False,
            last_only=True,
            unseen=True,
            validation_learned=False,
            k=10,
        )

    return read


def in_order(sessions: Sequence[Sequence[object]]) -> InteractionTable:
    """Return clicks of sessions that follow one another, numbered from 0, a second between two clicks."""
    counts = [len(each) for each in sessions]
    item = np.array([str(item) for each in sessions for item in each], dtype=np.str_)
    session = np.repeat(np.arange(len(sessions)), counts).astype(np.str_)
    nobody = np.full(len(item), "", dtype=np.str_)
    return InteractionTable(nobody, session, item, np.full(len(item), "click"), np.arange(1, len(item) + 1) * 1_000)


NEXT_ITEM_SETS: Mapping[str, Callable[[Path], NextItemData]] = {
    "serenade-toy": serenade_toy,
    "rsc15-100k": rsc15,
    "yoochoose1_64": yoochoose,
    "amazon-beauty": amazon_sequences("amazon-beauty", "Beauty.txt.gz"),
    "amazon-sports": amazon_sequences("amazon-sports", "Sports_and_Outdoors.txt.gz"),
}


def eshop(folder: Path) -> InteractionTable:
    """Return the clicks of the clothing shop, in ``folder/eshop-clothing-2008``, in the order of an import.

    The file knows only the day and the order inside a session. The sessions of a day are taken one after another, in
    the order of the file, and its clicks spread evenly over the day: so each session can learn from those before it
    on the same day, and none from one that runs beside it.

    Raises:
        NotFound: There is no such file.
    """
    path = folder / "eshop-clothing-2008" / "e-shop_clothing_2008.csv.gz"
    if not path.is_file():
        raise NotFound(str(path))
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    days = np.array([f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}" for row in rows], "datetime64[D]")
    session_id = np.array([row["session ID"] for row in rows], dtype=np.str_)
    order = np.lexsort(
        (
            np.array([int(row["order"]) for row in rows]),
            np.array([int(row["session ID"]) for row in rows]),
            days,
        )
    )
    day = days[order].astype(np.int64)
    _, begins, counts = np.unique(day, return_index=True, return_counts=True)
    place = np.arange(len(day)) - np.repeat(begins, counts)
    return InteractionTable(
        user_id=np.full(len(rows), "", dtype=np.str_),
        session_id=session_id[order],
        item_id=np.array([row["page 2 (clothing model)"] for row in rows], dtype=np.str_)[order],
        action=np.full(len(rows), "click"),
        time_ms=day * DAY_MS + place * DAY_MS // np.repeat(counts, counts),
    )


def online_retail(folder: Path) -> InteractionTable:
    """Return the purchases of the gift shop, in ``folder/online-retail``, in the order of time.

    A session is an invoice: its lines share one minute and stand in the order in which they were entered. Dropped and
    counted are lines without a customer, cancellations and write-offs, prices of 0 or less, and codes that are no
    products (postage, fees): a product's code begins with five digits.
    """
    path = folder / "online-retail" / "onlineretail.parquet"
    columns = FileColumns(
        item="StockCode", time="InvoiceDate", session="InvoiceNo", user="CustomerID", default_action="purchase"
    )
    rows = read_table(path, columns)
    table = whole_table(path)
    price = np.array(table.column("UnitPrice").to_pylist(), dtype=np.float64)
    quantity = np.array(table.column("Quantity").to_pylist(), dtype=np.int64)
    is_product = np.array([code[:5].isdecimal() and len(code) >= 5 for code in rows.item_id.tolist()])
    left = np.ones(len(rows), dtype=np.bool_)
    for reason, is_bad in {
        "no customer": rows.user_id == "",
        "cancelled or written off": quantity <= 0,
        "no price": price <= 0,
        "no product": ~is_product,
    }.items():
        rows = rows.without(reason, is_bad[left])
        left &= ~is_bad
    return by_time(rows)


REPLAY_SETS: Mapping[str, Callable[[Path], InteractionTable]] = {
    "eshop-clothing-2008": eshop,
    "online-retail": online_retail,
}
