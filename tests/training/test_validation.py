"""Questions that judge item models of sessions: each next item, of what the session had before."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.models.histories import Histories, Interactions
from midstream.models.items.popular import PopularOptions, fit
from midstream.training.datasets import Acts
from midstream.training.validation import next_items, questions, validation_of
from tests.models.linear import vocabulary_of

ITEMS = 6


def acts_of(pairs: list[tuple[int, int]]) -> Acts:
    """Return acts of (session, item) in log order, one event between each two."""
    owner, item = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    count = len(pairs)
    return Acts(
        owner.astype(np.uint64),
        item.astype(np.int32),
        np.arange(1, count + 1, dtype=np.float32),
        np.arange(count, dtype=np.int64),
        2 * np.arange(count, dtype=np.int64),
        vocabulary_of(ITEMS),
        (0, max(0, count - 1)),
        {},
    )


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, ITEMS - 1)), max_size=30),
    st.integers(0, 60),
    st.integers(1, 4),
)
def test_each_next_item_is_asked_for_once(pairs: list[tuple[int, int]], first: int, acts_max: int) -> None:
    """With the newest acts before it, wherever the session began; what it had is not asked for."""
    had: dict[int, list[int]] = {}
    expected: dict[int, list[tuple[list[int], int]]] = {}
    for number, (session, item) in enumerate(pairs):
        before = had.setdefault(session, [])
        if 2 * number >= first and before and item not in before:
            expected.setdefault(session, []).append((before[-acts_max:], item))
        before.append(item)
    asked, wanted, whose = next_items(acts_of(pairs), first, acts_max)
    assert (wanted.counts == 1).all()
    found = [
        (asked.row[begin:end].tolist(), item)
        for begin, end, item in zip(asked.start[:-1], asked.start[1:], wanted.item.tolist(), strict=True)
    ]
    assert found == [each for session in sorted(expected) for each in expected[session]]
    assert whose.tolist() == [session for session in sorted(expected) for _ in expected[session]]


def test_sessions_are_judged_by_their_next_items() -> None:
    """None of these goes on across the border, so that histories as a whole ask nothing."""
    acts = acts_of([(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0), (3, 3)])
    first = 10
    assert len(questions(acts, first, 100)[0]) == 0
    model = fit(Interactions(acts.vocabulary, Histories.of([[0, 1], [0, 1, 2]])), PopularOptions())
    assert validation_of(model, acts, first, 100)["questions"] == 0.0
    found = validation_of(model, acts, first, 100, by_session=True)
    assert found["questions"] == 2.0
    # Of 1, 2, 3, 4, 5 in this order the first is right, and the third.
    assert found["MRR@20"] == (1 + 1 / 3) / 2
