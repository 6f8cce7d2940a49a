"""What the tests of linear models share: small data, and the plain twins."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from midstream.models.histories import Histories, Interactions
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.vocabulary import ItemVocabulary


def vocabulary_of(count: int, first: int = 0) -> ItemVocabulary:
    """Return a vocabulary of so many items."""
    ids = [f"item-{number}" for number in range(first, first + count)]
    return ItemVocabulary.of(ids)


def interactions_of(rows: list[list[int]], item_count: int) -> Interactions:
    """Return what these users did, all of it weighing 1."""
    return Interactions(vocabulary_of(item_count), Histories.of(rows))


def some_interactions(seed: int, users: int = 60, items: int = 24) -> Interactions:
    """Return acts of users of two tastes: half like the items of the lower half, with popular ones in each."""
    dice = np.random.default_rng(seed)
    half = items // 2
    likes = 1.0 / np.arange(1, half + 1)
    rows: list[list[int]] = []
    for user in range(users):
        count = int(dice.integers(2, 7))
        chosen = dice.choice(half, size=count, replace=False, p=likes / likes.sum())
        rows.append([int(each) + half * (user % 2) for each in chosen])
    return interactions_of(rows, items)


def some_questions(seed: int, items: int) -> Histories:
    """Return histories with weights and repeated acts, an empty one among them."""
    dice = np.random.default_rng(seed)
    rows = [[int(each) for each in dice.integers(0, items, size=size)] for size in (3, 0, 1, 7, 12)]
    histories = Histories.of(rows)
    weights = dice.uniform(0.1, 3.0, size=len(histories.row)).astype(np.float32)
    return Histories(histories.row, weights, histories.start)


def dense(histories: Histories, item_count: int) -> NDArray[np.float64]:
    """Return users × items with the weights added up, in plain Python."""
    found = np.zeros((len(histories), item_count))
    for number in range(len(histories)):
        for act in range(int(histories.start[number]), int(histories.start[number + 1])):
            found[number, histories.row[act]] += histories.weight[act]
    return found


def weights_of(model: ItemToItem) -> NDArray[np.float32]:
    """Return the weights as a table, (items, items)."""
    count = len(model.vocabulary)
    found: NDArray[np.float32] = csr_matrix((model.weight, model.row, model.start), shape=(count, count)).toarray()
    return found


SEEDS = st.integers(0, 2**32 - 1)
