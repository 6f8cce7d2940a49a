"""Weights from item to item: which are kept, and that a history is their sum in one order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from midstream.models.histories import Histories
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.items.item_weights import limited, strongest
from midstream.models.model import best_said
from tests.models.linear import SEEDS, some_questions, vocabulary_of

LEVELS = np.array([-2.0, -0.5, 0.0, 0.0, 0.25, 0.5, 2.0], dtype=np.float32)


@given(SEEDS, st.integers(0, 3), st.integers(1, 900), st.integers(0, 60), st.booleans())
def test_the_largest_of_each_row_are_kept(seed: int, rows: int, columns: int, kept_max: int, level: bool) -> None:
    """Dense and sparse keep what a full sort says, of equal ones the lower column, and never a 0."""
    dice = np.random.default_rng(seed)
    smooth = dice.standard_normal((rows, columns)).astype(np.float32)
    block = LEVELS[dice.integers(0, len(LEVELS), size=(rows, columns))] if level else smooth
    wanted = np.zeros_like(block)
    for number, row in enumerate(block):
        order = np.lexsort((np.arange(columns), -np.abs(row)))[:kept_max]
        wanted[number, order] = row[order]
    for found in (strongest(block, kept_max), limited(csr_matrix(block), kept_max)):
        assert (found.toarray() == wanted).all()
        assert (found.data != 0).all()
        assert found.has_sorted_indices


def test_few_large_entries_beside_many_alike_are_kept() -> None:
    """Where the first look finds fewer than are asked for, all are looked at."""
    block = np.zeros((1, 4000), dtype=np.float32)
    block[0, ::8] = 5.0
    block[0, 1:40:8] = 3.0
    found = strongest(block, 503).toarray()
    assert np.count_nonzero(found == 5.0) == 500
    assert np.flatnonzero(found == 3.0).tolist() == [1, 9, 17]


@settings(max_examples=30)
@given(SEEDS)
def test_a_history_is_the_sum_of_its_rows_in_order(seed: int) -> None:
    """To the bit what plain Python adds up in float32, act by act."""
    dice = np.random.default_rng(seed)
    weights = limited(csr_matrix(dice.standard_normal((9, 9)).astype(np.float32)), 5)
    model, asked = ItemToItem.of(vocabulary_of(9), weights), some_questions(seed, 9)
    table, found = weights.toarray(), model.scores(asked)
    for number in range(len(asked)):
        wanted = np.zeros(9, dtype=np.float32)
        for act in range(int(asked.start[number]), int(asked.start[number + 1])):
            wanted += asked.weight[act] * table[asked.row[act]]
        assert (found[number] == wanted).all()


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0, 1.5]), max_size=9), st.integers(0, 10))
def test_what_is_said_of_nothing_is_left_out(values: list[float], k: int) -> None:
    """Items of score 0 are never among the best, wherever 0 lies; the others are as a sort says."""
    scores = np.array(values, dtype=np.float32)
    rows, found = best_said(scores, k)
    said = [row for row in range(len(values)) if values[row] != 0.0]
    assert rows.tolist() == sorted(said, key=lambda row: (-values[row], row))[:k]
    assert found.tolist() == [values[row] for row in rows]


def test_a_score_below_0_makes_nothing_of_what_is_not_related() -> None:
    """One negative weight does not bring all items that are related to nothing among the best."""
    weights = np.zeros((5, 5), dtype=np.float32)
    weights[0, 1], weights[0, 2] = 2.0, -1.0
    model = ItemToItem.of(vocabulary_of(5), csr_matrix(weights))
    rows, scores = model.best(Histories.of([[0]]), 5)
    assert rows.tolist() == [1, 2]
    assert scores.tolist() == [2.0, -1.0]
