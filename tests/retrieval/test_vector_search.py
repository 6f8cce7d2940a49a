"""Searches with a condition: what a bound or the time cuts off is what is far, by the graph and by the scan alike."""

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from midstream.models.kernels.cosine import Directions, direction_of
from midstream.retrieval.cut_search import AskedItems, endless
from midstream.retrieval.vector_search import BREADTH_MAX, VectorSearch

if TYPE_CHECKING:
    from midstream.core.types import Score

COUNT = 20_000
LIMIT = 100
DICE = np.random.default_rng(0)
VECTORS = DICE.standard_normal((COUNT, 8)).astype(np.float32)
HASHES = DICE.integers(0, 2**63, COUNT).astype(np.uint64)
DIRECTIONS = Directions(VECTORS, (1 / np.linalg.norm(VECTORS, axis=1)).astype(np.float32), HASHES)
TOWARDS = cast("Score", direction_of(DICE.standard_normal(8)))
ALL = np.arange(COUNT, dtype=np.int32)
COSINES = DIRECTIONS.cosines(TOWARDS, ALL)
ORDER = DIRECTIONS.in_order(ALL, COSINES, COUNT)[0]
RARE = DICE.random(COUNT) < 0.02
NONE = np.empty(0, dtype=np.int32)


class Graph:
    """An index that names the nearest, by row, and rows that changed."""

    size = COUNT

    def __init__(self, changed=NONE):
        """Begin with nothing asked."""
        self.changed = changed
        self.counts = []

    def named(self, _direction, count, _breadth):
        """Return them."""
        self.counts.append(count)
        return np.setdiff1d(ORDER[:count], self.changed), self.changed


class Passing:
    """A condition that passes some items, and what it was asked of."""

    def __init__(self, passing):
        """Name them by a mask."""
        self.passing = passing
        self.asked = []

    def passes(self, _moment, items):
        """Return which."""
        self.asked.extend(items.tolist())
        return self.passing[items]


def search(condition, asked_max=65_536, score_min=-1.0, remaining_s=endless, skipped=0):
    """A search that may not propose the nearest ones."""
    eligible = np.ones(COUNT, dtype=np.bool_)
    eligible[ORDER[:skipped]] = False
    asked = AskedItems(condition, cast("Any", None), asked_max, remaining_s, COUNT)
    return VectorSearch(DIRECTIONS, TOWARDS, eligible, LIMIT, np.float32(score_min), asked)


def true_rows(passing, count, score_min=-1.0):
    """Those that pass of so many of the nearest."""
    near = ORDER[:count]
    return near[passing[near] & (COSINES[near] >= score_min)][:LIMIT].tolist()


def by_graph(some, graph):
    """What is found by a graph, or else by the scan after it."""
    found = some.named(graph, 256)
    return some.scanned() if found is None else found


@pytest.mark.parametrize("asked_max", [1_000, 2_000, 4_090, 4_097, 5_000])
def test_a_maximum_leaves_out_what_is_far(asked_max):
    """By the graph and by the scan: the same items, each asked about once."""
    for is_graph in (False, True):
        condition = Passing(RARE)
        some = search(condition, asked_max)
        found = by_graph(some, Graph()) if is_graph else some.scanned()
        assert found.rows.tolist() == true_rows(RARE, asked_max)
        assert found.cut == f"not asked of all items: asked_max, {asked_max:,} of 20,000"
        assert len(condition.asked) == len({*condition.asked}) == asked_max


@pytest.mark.parametrize("asked_max", [4_097, 6_000, 20_000])
def test_a_scan_after_the_graph_asks_about_no_item_again(asked_max):
    """Nor loses what has passed."""
    condition = Passing(RARE)
    some, graph = search(condition, asked_max, skipped=10), Graph()
    found = by_graph(some, graph)
    assert graph.counts[-1] == BREADTH_MAX
    other = search(Passing(RARE), asked_max, skipped=10).scanned()
    assert (found.rows.tolist(), bool(found.cut)) == (other.rows.tolist(), bool(other.cut))
    assert len(condition.asked) == len({*condition.asked}) <= asked_max


def test_the_time_leaves_out_what_is_far():
    """Also where all items may be asked about."""
    left = iter((1.0,) * 4 + (0.0,) * 9)
    condition = Passing(RARE)
    found = search(condition, remaining_s=lambda: next(left)).scanned()
    assert found.cut.startswith("not asked of all items: the time was over")
    assert 4 * LIMIT < len(condition.asked) < COUNT
    assert found.rows.tolist() == true_rows(RARE, len(condition.asked))
    assert len(found.rows) == LIMIT


@pytest.mark.parametrize("asked_max", [1_000, 65_536])
@pytest.mark.parametrize("is_graph", [False, True])
def test_no_item_that_is_too_far_is_asked_about(asked_max, is_graph):
    """So what is found is whole, without a scan after the graph."""
    score_min, condition, graph = COSINES[ORDER[30]], Passing(RARE), Graph()
    some = search(condition, asked_max, score_min)
    found = some.named(graph, 256) if is_graph else some.scanned()
    assert found.rows.tolist() == true_rows(RARE, 31)
    assert (found.cut, sorted(condition.asked)) == ("", sorted(ORDER[:31].tolist()))


def test_a_changed_row_that_is_too_far_ends_no_search():
    """It says nothing of the others."""
    graph, condition = Graph(ORDER[-50:]), Passing(RARE)
    score_min = COSINES[ORDER[1_000]]
    found = search(condition, score_min=score_min).named(graph, 256)
    assert found.rows.tolist() == true_rows(RARE, 1_001)
    assert len(found.rows) > 10
    assert found.cut == ""


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_graph_and_scan_give_the_same(share):
    """Whatever passes, with and without equal cosines."""
    passing = DICE.random(COUNT) < share
    for score_min in (-1.0, 0.0, 0.9):
        expected = true_rows(passing, COUNT, score_min)
        assert search(Passing(passing), score_min=score_min).scanned().rows.tolist() == expected
        assert by_graph(search(Passing(passing), score_min=score_min), Graph()).rows.tolist() == expected


def test_enough_that_pass_behind_what_was_not_asked_about_are_a_cut():
    """There may be nearer ones."""
    passing = np.zeros(COUNT, dtype=np.bool_)
    passing[ORDER[500:700]] = True
    left = iter((1.0, 1.0, 1.0, 0.0))
    some = search(Passing(passing), asked_max=1_000, remaining_s=lambda: next(left, 0.0))
    some.asked.passes(ORDER[500:700])
    found = some.scanned()
    assert found.rows.tolist() == ORDER[500:600].tolist()
    assert found.cut == "not asked of all items: the time was over, 600 of 20,000"
