"""Protocols of item models: nothing that is asked is learned, and every question is one that can be asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Invalid
from midstream.evaluation.data.interactions import InteractionTable
from midstream.evaluation.data.item_data import rolling, temporal, time_task


def lists(histories):
    return [histories.row[a:b].tolist() for a, b in zip(histories.start[:-1], histories.start[1:], strict=True)]


def wanted(task):
    return [task.wanted.item[a:b].tolist() for a, b in zip(task.wanted.start[:-1], task.wanted.start[1:], strict=True)]


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
