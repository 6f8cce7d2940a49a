"""Protocols of item models: nothing that is asked is learned, and every question is one that can be asked."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, save_npz

from midstream.core.errors import Invalid, NotFound
from midstream.evaluation.data.interactions import InteractionTable
from midstream.evaluation.data.item_data import (
    gowalla,
    held_out,
    leave_one_out,
    rolling,
    temporal,
    time_task,
)


def lists(histories):
    return [histories.row[a:b].tolist() for a, b in zip(histories.start[:-1], histories.start[1:], strict=True)]


def wanted(task):
    return [task.wanted.item[a:b].tolist() for a, b in zip(task.wanted.start[:-1], task.wanted.start[1:], strict=True)]


@given(st.lists(st.sets(st.integers(0, 30)), min_size=1, max_size=6), st.integers(0, 3))
def test_a_tenth_is_held_out(rows, seed):
    """Both parts are the whole, share nothing, and each user of two items or more gives the share, one at least."""
    matrix = csr_matrix(np.array([[item in row for item in range(31)] for row in rows], dtype=np.int8))
    kept, held = held_out(matrix, 0.1, seed)
    assert ((kept + held).toarray() == matrix.toarray()).all()
    assert kept.multiply(held).nnz == 0
    expected = [0 if len(row) < 2 else max(1, round(len(row) * 0.1)) for row in rows]
    assert np.diff(held.indptr).tolist() == expected
    assert (held_out(matrix, 0.1, seed)[1].toarray() == held.toarray()).all()


def test_a_given_split_is_asked_as_given(tmp_path):
    """Users with a test item are asked about with their train; the choosing part never sees the test."""
    folder = tmp_path / "gowalla-lightgcn"
    folder.mkdir()
    train = csr_matrix(np.array([[1, 1, 0, 0], [1, 0, 0, 1], [0, 1, 1, 0]], dtype=np.int8))
    save_npz(folder / "train.npz", train)
    save_npz(folder / "test.npz", csr_matrix(np.array([[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]], dtype=np.int8)))
    data = gowalla(tmp_path)
    assert (data.protocol, data.removed, data.validation_learned) == ("top-n", "seen", True)
    (task,) = data.reporting()
    assert lists(task.learned.histories) == [[0, 1], [0, 3], [1, 2]]
    assert (lists(task.asked), wanted(task), task.owner.tolist()) == ([[0, 1], [1, 2]], [[2], [0, 3]], [0, 2])
    (task,) = data.choosing()
    both = [sorted(known + right) for known, right in zip(lists(task.asked), wanted(task), strict=True)]
    assert both == [[0, 1], [0, 3], [1, 2]]
    with pytest.raises(NotFound, match=r"train\.npz"):
        gowalla(tmp_path / "nowhere").reporting()


@pytest.mark.parametrize("validation_learned", [False, True])
def test_the_last_item_is_the_test_and_the_one_before_it_the_validation(tmp_path, validation_learned):
    """What is learned lacks both, or the test alone where that is stated; all items are in the vocabulary."""
    path = tmp_path / "sequences.txt.gz"
    with gzip.open(path, "wt") as file:
        file.write("1 3 1 2 4\n2 1 2 5\n")
    data = leave_one_out("toy", path, validation_learned=validation_learned)
    (task,) = data.reporting()
    assert lists(task.learned.histories) == ([[2, 0, 1], [0, 1]] if validation_learned else [[2, 0], [0]])
    assert (lists(task.asked), wanted(task)) == ([[2, 0, 1], [0, 1]], [[3], [4]])
    assert task.learned.vocabulary.ids == ["1", "2", "3", "4", "5"]
    (task,) = data.choosing()
    assert (lists(task.learned.histories), lists(task.asked)) == ([[2, 0], [0]], [[2, 0], [0]])
    assert wanted(task) == [[1], [1]]


def acts(*rows):
    """Acts of (user, session, item), one a second."""
    user, session, item = (np.array(column, dtype=np.str_) for column in zip(*rows, strict=True))
    return InteractionTable(user, session, item, np.full(len(item), "click"), np.arange(len(item)) * 1000)


SHOP = acts(
    ("u", "", "a"), ("v", "", "b"), ("u", "", "b"), ("", "s", "a"), ("v", "", "b"),
    ("u", "", "a"), ("u", "", "c"), ("w", "", "a"), ("", "s", "b"), ("u", "", "c"),
)  # fmt: skip


def test_a_cut_in_time_learns_what_was_before_and_asks_what_came_after():
    """Who acts later is asked about once, with an empty history where there is none; unknown items count too."""
    task = time_task(SHOP, 0.5, 1.0)
    assert task.learned.vocabulary.ids == ["a", "b"]
    assert sorted(lists(task.learned.histories)) == [[0], [0, 1], [1, 1]]
    found = dict(zip(map(tuple, lists(task.asked)), wanted(task), strict=True))
    assert found == {(0, 1): [-1], (): [0], (0,): [1]}
    again = time_task(SHOP, 0.5, 1.0, removed="nothing")
    assert dict(zip(map(tuple, lists(again.asked)), wanted(again), strict=True))[0, 1] == [0, -1]
    with pytest.raises(Invalid, match="before the cut"):
        time_task(SHOP, 0.0, 1.0)


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 5))
def test_no_window_learns_what_it_asks(count, windows, seed):
    """Windows follow one another, each learns all acts before it, and together they ask the second half."""
    random = np.random.default_rng(seed)
    count *= 8
    rows = acts(*((f"u{u}", "", f"i{i}") for u, i in random.integers(0, 9, (count, 2)).tolist()))
    data = rolling("toy", lambda: rows, windows, removed="nothing")
    learned = [len(task.learned.histories.row) for task in data.reporting()]
    assert learned == [round(share * count) for share in np.linspace(0.5, 1, windows + 1)[:-1]]
    (choosing,) = data.choosing()
    assert len(choosing.learned.histories.row) == round(0.375 * count)
    (last,) = temporal("toy", lambda: rows).reporting()
    assert len(last.learned.histories.row) == round(0.9 * count)
