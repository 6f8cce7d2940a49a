"""Data sets for item models, each under the protocol that others published figures for.

*top-n*: train and test parts as given. *leave-one-out*: the last item of each sequence is the test, the one before it
the validation. *temporal*: what came after a moment is asked of what came before. *rolling*: the same for several
moments one after another. None of them draws negatives.
"""

import gzip
import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, load_npz

from midstream.core.errors import Fault, Invalid, NotFound
from midstream.evaluation.data.interactions import InteractionTable, by_time
from midstream.evaluation.data.tables import PAGE
from midstream.evaluation.full_ranking import ItemData, Removed, Task
from midstream.evaluation.metrics.list_metrics import RelevantItems
from midstream.models.histories import Histories
from midstream.models.histories import Interactions as Learned
from midstream.models.vocabulary import ItemVocabulary

HELD_OUT_SHARE = 0.1
"""Of each user's train, for choosing, where a data set has no validation part."""
_SEED = 1


def vocabulary_of(ids: Sequence[str]) -> ItemVocabulary:
    """Return a vocabulary of ids, row for row."""
    return ItemVocabulary.of(ids)


def gowalla(folder: Path) -> ItemData:
    """Return check-ins at places, in ``folder/gowalla-lightgcn``: 29,858 users, 40,981 items, train and test given."""
    return _given("gowalla-lightgcn", folder)


def yelp2018(folder: Path) -> ItemData:
    """Return reviews of businesses, in ``folder/yelp2018``: 31,668 users, 38,048 items, train and test given."""
    return _given("yelp2018", folder)


def _given(name: str, folder: Path) -> ItemData:
    """Return a data set whose train and test parts are sparse matrices; a tenth of train is for choosing."""
    train, test = folder / name / "train.npz", folder / name / "test.npz"

    def choosing() -> Sequence[Task]:
        kept, held = held_out(_matrix(train), HELD_OUT_SHARE, _SEED)
        return (given_task(kept, held),)

    return ItemData(
        name, "top-n", choosing, lambda: (given_task(_matrix(train), _matrix(test)),), "seen", validation_learned=True
    )


def _matrix(path: Path) -> csr_matrix:
    """Return a sparse matrix of a file."""
    if not path.is_file():
        raise NotFound(str(path))
    return csr_matrix(load_npz(path))


def held_out(matrix: csr_matrix, share: float, seed: int) -> tuple[csr_matrix, csr_matrix]:
    """Return what is kept and what is held out: of each user that share of the items, rounded, drawn by the seed.

    At least one item is held out of every user with two or more.
    """
    random = np.random.default_rng(seed)
    counts = np.diff(matrix.indptr)
    who = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((random.random(matrix.nnz), who))
    place = np.empty(matrix.nnz, dtype=np.int64)
    place[order] = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], counts)
    wanted = np.where(counts > 1, np.maximum(1, np.round(counts * share)), 0)
    is_held = place < np.repeat(wanted, counts)

    def part(which: NDArray[np.bool_]) -> csr_matrix:
        return csr_matrix((matrix.data[which], (who[which], matrix.indices[which])), shape=matrix.shape)

    return part(~is_held), part(is_held)


def given_task(train: csr_matrix, test: csr_matrix) -> Task:
    """Return the task of a given split: users × items both; users without a test item are not asked about."""
    train.sort_indices()
    test.sort_indices()
    vocabulary = vocabulary_of([str(item) for item in range(train.shape[1])])
    learned = _histories(train)
    asked = np.flatnonzero(np.diff(test.indptr) > 0)
    wanted = csr_matrix(test[asked])
    return Task(
        Learned(vocabulary, learned),
        _histories(csr_matrix(train[asked])),
        RelevantItems(wanted.indices.astype(np.int32), wanted.indptr.astype(np.int64)),
        asked,
    )


def _histories(matrix: csr_matrix) -> Histories:
    """Return the rows of a matrix as histories, items by number."""
    return Histories(matrix.indices.astype(np.int32), matrix.data.astype(np.float32), matrix.indptr.astype(np.int64))


def amazon_beauty(folder: Path, *, validation_learned: bool = False) -> ItemData:
    """Return reviews of beauty products, in ``folder/amazon-beauty``: 22,363 sequences over 12,101 items."""
    at = folder / "amazon-beauty"
    path, attributes = at / "Beauty.txt.gz", at / "Beauty_item2attributes.json.gz"
    return leave_one_out("amazon-beauty", path, attributes, validation_learned=validation_learned)


def amazon_sports(folder: Path, *, validation_learned: bool = False) -> ItemData:
    """Return reviews of sports goods, in ``folder/amazon-sports``: 35,598 sequences over 18,357 items."""
    at, name = folder / "amazon-sports", "Sports_and_Outdoors"
    path, attributes = at / f"{name}.txt.gz", at / f"{name}_item2attributes.json.gz"
    return leave_one_out("amazon-sports", path, attributes, validation_learned=validation_learned)


def leave_one_out(
    name: str, path: Path, attributes: Path | None = None, *, validation_learned: bool = False
) -> ItemData:
    """Return sequences of which the last item is the test and the one before it the validation.

    What is asked at test is all but the last item; what is learned lacks the validation item too, unless stated.
    Every item of the file is ranked, less those of the user's sequence.

    Args:
        name: Of the data set.
        path: A gzipped text file, one user a line: its number, then numbers of items, 1 to the number of items.
        attributes: A gzipped JSON file: number of an item → numbers of attributes.
        validation_learned: The validation item is learned before the test.
    """

    def choosing() -> Sequence[Task]:
        rows, items = sequences(path)
        return (last_item_task([row[:-1] for row in rows], items, held_back=1),)

    def reporting() -> Sequence[Task]:
        rows, items = sequences(path)
        return (last_item_task(rows, items, held_back=1 if validation_learned else 2),)

    def sets() -> csr_matrix:
        if attributes is None or not attributes.is_file():
            raise NotFound(str(attributes))
        with gzip.open(attributes, "rt", encoding="utf-8") as file:
            known: dict[str, list[int]] = json.load(file)
        pairs = [(int(item) - 1, number) for item, numbers in known.items() for number in numbers]
        row, column = np.array(pairs, dtype=np.int64).T
        shape = (len(sequences(path)[1]), int(column.max()) + 1)
        return csr_matrix((np.ones(len(row)), (row, column)), shape=shape)

    return ItemData(
        name,
        "leave-one-out",
        choosing,
        reporting,
        "seen",
        validation_learned=validation_learned,
        attributes=None if attributes is None else sets,
    )


def sequences(path: Path) -> tuple[list[list[int]], list[str]]:
    """Return the items of each line as rows, oldest first, and the id of each row.

    Raises:
        NotFound: There is no such file.
    """
    if not path.is_file():
        raise NotFound(str(path))
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [[int(item) - 1 for item in line.split()[1:]] for line in file]
    return rows, [str(item + 1) for item in range(max(max(row) for row in rows) + 1)]


def last_item_task(rows: Sequence[Sequence[int]], ids: Sequence[str], held_back: int) -> Task:
    """Return the task of guessing the last item of each sequence from all before it.

    Args:
        rows: Items of each sequence.
        ids: Of each item.
        held_back: How many items at the end of each sequence are not learned.
    """
    asked = [number for number, row in enumerate(rows) if len(row) > held_back]
    learned = Histories.of([rows[number][: len(rows[number]) - held_back] for number in asked])
    return Task(
        Learned(vocabulary_of(ids), learned),
        Histories.of([rows[number][:-1] for number in asked]),
        RelevantItems.of([rows[number][-1:] for number in asked]),
        np.array(asked, dtype=np.intp),
    )


def temporal(name: str, rows: Callable[[], InteractionTable], *, removed: Removed = "seen") -> ItemData:
    """Return acts cut by time: the last tenth of them is the test, the tenth before it the validation.

    Args:
        name: Of the data set.
        rows: Reads the acts. A history is that of a user, of a session where no user is known.
        removed: What may not be recommended.
    """
    return ItemData(
        name,
        "temporal",
        lambda: (time_task(rows(), 0.8, 0.9, removed=removed),),
        lambda: (time_task(rows(), 0.9, 1.0, removed=removed),),
        removed,
        validation_learned=True,
    )


def rolling(
    name: str, rows: Callable[[], InteractionTable], windows: int = 5, *, removed: Removed = "seen"
) -> ItemData:
    """Return acts asked about in windows of time: all before each window is learned, then its acts are asked for.

    The second half of the acts is cut into windows of equally many; settings are chosen in the first half, on its last
    quarter.

    Args:
        name: Of the data set.
        rows: As ``temporal``.
        windows: How many.
        removed: What may not be recommended.
    """

    def reporting() -> Sequence[Task]:
        edges = np.linspace(0.5, 1.0, windows + 1).tolist()
        return tuple(time_task(rows(), low, high, removed=removed) for low, high in pairwise(edges))

    return ItemData(
        name,
        "rolling",
        lambda: (time_task(rows(), 0.375, 0.5, removed=removed),),
        reporting,
        removed,
        validation_learned=True,
    )


def time_task(interactions: InteractionTable, low: float, high: float, *, removed: Removed = "seen") -> Task:
    """Return the task of guessing what was acted on between two shares of the acts from all before the first.

    The vocabulary is what was acted on before; other items are asked for too and cannot be found. Whoever acts in
    between is asked about once, with an empty history where nothing came before. What may not be recommended is not
    asked for.

    Raises:
        Invalid: There is nothing to learn, or nothing to ask.
    """
    rows = by_time(interactions)
    cut, end = round(len(rows) * low), round(len(rows) * high)
    # Acts of one moment are on one side.
    moments: list[int] = rows.time_ms.tolist()
    cut, end = (bisect_left(moments, moments[at]) if at < len(rows) else at for at in (cut, end))
    if cut in {0, end}:
        raise Invalid((Fault("acts", f"{len(rows)} acts, {cut} before the cut", "some before it and after", PAGE),))
    # No user's id begins like this one of a session.
    owner = np.where(rows.user_id != "", rows.user_id, np.char.add("\0", rows.session_id))
    who = np.unique(owner, return_inverse=True)[1]
    ids, learned = np.unique(rows.item_id[:cut], return_inverse=True)
    place = np.minimum(np.searchsorted(ids, rows.item_id[cut:end]), len(ids) - 1)
    item = np.where(ids[place] == rows.item_id[cut:end], place, -1)
    everyone = _grouped(who[:cut], learned, rows.time_ms[:cut], int(who.max()) + 1)
    asked = np.unique(who[cut:end])
    before = [everyone.part(each, each + 1) for each in asked.tolist()]
    later = _later(who[cut:end], rows.item_id[cut:end].tolist(), item.tolist())
    barred = {"seen": slice(None), "last": slice(-1, None), "nothing": slice(0, 0)}[removed]
    seen = [set(each.row[barred].tolist()) for each in before]
    wanted = [
        [at for at in later[each] if at < 0 or at not in known]
        for each, known in zip(asked.tolist(), seen, strict=True)
    ]
    kept = np.array([len(each) > 0 for each in wanted])
    histories = _joined([each for each, is_kept in zip(before, kept, strict=True) if is_kept])
    active = np.flatnonzero(np.diff(everyone.start) > 0)
    return Task(
        Learned(vocabulary_of(ids.tolist()), _joined([everyone.part(each, each + 1) for each in active.tolist()])),
        histories,
        RelevantItems.of([each for each in wanted if each]),
        asked[kept],
    )


def _later(who: NDArray[np.intp], ids: Sequence[str], item: Sequence[int]) -> dict[int, list[int]]:
    """Return the distinct items that each acts on, in order; -1 for each that is not known."""
    found: dict[int, dict[str, int]] = {}
    for each, text, row in zip(who.tolist(), ids, item, strict=True):
        found.setdefault(each, {}).setdefault(text, row)
    return {each: list(items.values()) for each, items in found.items()}


def _grouped(who: NDArray[np.intp], item: NDArray[np.intp], time_ms: NDArray[np.int64], count: int) -> Histories:
    """Return a history for each of so many, by time."""
    order = np.argsort(who, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(who, minlength=count))]).astype(np.int64)
    return Histories(item[order].astype(np.int32), np.ones(len(item), dtype=np.float32), start, time_ms[order])


def _joined(parts: Sequence[Histories]) -> Histories:
    """Return histories one after another."""
    start = np.concatenate([[0], np.cumsum([len(each.row) for each in parts])]).astype(np.int64)
    times = [each.time_ms for each in parts if each.time_ms is not None]
    return Histories(
        np.concatenate([np.empty(0, np.int32), *(each.row for each in parts)]),
        np.concatenate([np.empty(0, np.float32), *(each.weight for each in parts)]),
        start,
        np.concatenate([np.empty(0, np.int64), *times]),
    )


ITEM_SETS: Mapping[str, Callable[[Path], ItemData]] = {
    "gowalla-lightgcn": gowalla,
    "yelp2018": yelp2018,
    "amazon-beauty": amazon_beauty,
    "amazon-sports": amazon_sports,
}
"""Known sets under the protocol of their published figures."""
WITH_VALIDATION: Mapping[str, Callable[[Path], ItemData]] = {
    "amazon-beauty": partial(amazon_beauty, validation_learned=True),
    "amazon-sports": partial(amazon_sports, validation_learned=True),
}
"""Those under leave-one-out, with their validation items learned before the test."""
