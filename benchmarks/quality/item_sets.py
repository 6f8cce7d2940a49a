"""Public data sets for item models, each under the protocol that others published figures for.

*top-n*: train and test parts as given. *leave-one-out*: the last item of each sequence is the test, the one before it
the validation. Neither draws negatives.
"""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, load_npz

from midstream.core.errors import NotFound
from midstream.evaluation.full_ranking import ItemData, Task
from midstream.evaluation.metrics.list_metrics import RelevantItems
from midstream.models.histories import Histories
from midstream.models.histories import Interactions as Learned
from midstream.models.vocabulary import ItemVocabulary

HELD_OUT_SHARE = 0.1
"""Of each user's train, for choosing, where a data set has no validation part."""
_SEED = 1


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
    vocabulary = ItemVocabulary.of([str(item) for item in range(train.shape[1])])
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
        Learned(ItemVocabulary.of(ids), learned),
        Histories.of([rows[number][:-1] for number in asked]),
        RelevantItems.of([rows[number][-1:] for number in asked]),
        np.array(asked, dtype=np.intp),
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
