"""Public sets of item models: nothing that is asked is learned, and every question is one that can be asked."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, save_npz

from benchmarks.quality.item_sets import gowalla, held_out, leave_one_out
from midstream.core.errors import NotFound


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
