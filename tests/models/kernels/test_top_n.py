"""The best items of many histories: what sorting every score says, whichever way they were found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.models.histories import Histories, Interactions
from midstream.models.items import popular
from midstream.models.kernels.top_n import FactorModel, top_n
from midstream.models.kernels.top_n_kernels import TILE_HISTORIES, TILE_ITEMS
from midstream.models.vocabulary import ItemVocabulary
from midstream.testing.model_conformance import check_item_model


def vocabulary(count):
    return ItemVocabulary.of([f"i{row}" for row in range(count)])


class Given:
    """A model whose scores are given, row for row of what it is asked."""

    def __init__(self, scores):
        self.vocabulary, self._scores = vocabulary(scores.shape[1]), scores

    def scores(self, histories):
        return np.stack([self._scores[int(row)] for row in histories.time_ms[histories.start[:-1]]])

    def best(self, history, k):
        raise NotImplementedError

    def arrays(self):
        return {}


class Factors(Given):
    """The same as a product of vectors."""

    def __init__(self, history, item):
        super().__init__(history @ item.T)
        self._history, self._item = history, item

    def history_vectors(self, histories):
        return self._history[: len(histories)]

    def item_vectors(self):
        return self._item


def asked(count):
    """Histories of one act, whose time is their number."""
    ones = np.ones(count, dtype=np.float32)
    return Histories(np.zeros(count, np.int32), ones, np.arange(count + 1), np.arange(count))


def plain(scores, k, removed):
    """Lists by sorting, equal scores by row."""
    found = np.full((len(scores), k), -1, dtype=np.int32)
    for row, line in enumerate(scores):
        out = set(removed[row]) if removed is not None else set()
        order = [item for item in sorted(range(len(line)), key=lambda at: (-line[at], at)) if item not in out][:k]
        found[row, : len(order)] = order
    return found


@given(st.data())
def test_lists_are_what_sorting_says(data):
    """Few distinct values make ties; any items may be removed, all of them too; lists may be longer than there are."""
    rows, items, k = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 90)), data.draw(st.integers(0, 12))
    values = st.lists(st.sampled_from([-1.5, 0.0, 0.25, 3.0]), min_size=items, max_size=items)
    scores = np.array([data.draw(values) for _ in range(rows)], dtype=np.float32).reshape(rows, items)
    removed = [data.draw(st.lists(st.integers(0, items - 1), max_size=items)) for _ in range(rows)]
    for out in (None, removed):
        found = top_n(Given(scores), asked(rows), k, None if out is None else Histories.of(out))
        assert found.dtype == np.int32
        assert (found == plain(scores, k, out)).all()


@pytest.mark.parametrize("size", [1, 4, 6])
@pytest.mark.parametrize("rows,items", [(3, 5), (TILE_HISTORIES + 5, TILE_ITEMS * 2 + 3)])
def test_products_of_vectors_are_what_their_scores_say(rows, items, size):
    """Whole numbers, so that rounding decides nothing: over several tiles, with items removed."""
    random = np.random.default_rng(rows + size)
    model = Factors(*(random.integers(-9, 10, (n, size)).astype(np.float32) for n in (rows, items)))
    assert isinstance(model, FactorModel)
    removed = [random.integers(0, items, 7).tolist() for _ in range(rows)]
    found = top_n(model, asked(rows), 20, Histories.of(removed))
    assert (found == plain(model.scores(asked(rows)), 20, removed)).all()


def test_a_history_alone_gets_what_it_gets_among_others():
    """Sums are in one order whatever the block: a row alone has the same list, with scores that only rounding parts."""
    random = np.random.default_rng(3)
    history, base = random.standard_normal((40, 24), dtype=np.float32), random.standard_normal((9, 24))
    # Items of nearly one direction, so that their scores differ in the last bits.
    item = (base[random.integers(0, 9, 700)] * (1 + 1e-7 * random.integers(-2, 3, (700, 1)))).astype(np.float32)
    among = top_n(Factors(history, item), asked(40), 10)
    for row in range(0, 40, 7):
        assert (top_n(Factors(history[row : row + 1], item), asked(1), 10)[0] == among[row]).all()


def test_popular_keeps_the_promises_of_an_item_model():
    """Conformance, and the scores: users count once for an item, or each act by its weight."""
    histories = Histories.of([[0, 0, 2], [2], [], [0, 1]])
    data = Interactions(vocabulary(4), histories)
    model = popular.fit(data, popular.PopularOptions())
    assert model.score.tolist() == [2, 1, 2, 0]
    assert popular.fit(data, popular.PopularOptions(once=False)).score.tolist() == [3, 1, 2, 0]
    check_item_model(model, histories, lambda arrays: popular.restore(vocabulary(4), arrays))
