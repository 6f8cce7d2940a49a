"""The graph over vectors: fresh with every change whatever the graph holds, and close to the exact answer."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from midstream.models.kernels.cosine import Directions
from midstream.models.vector_index import PENDING_MAX, WAIT_S_MAX, VectorIndex
from midstream.state.attributes.vectors import CHANGES_MAX, Vectors
from tests.support.libraries import library

pytestmark = pytest.mark.integration
ROWS, WIDTH = 3_000, 16


@pytest.fixture
def dice():
    """Return numbers of chance that are the same each time."""
    return np.random.default_rng(11)


@pytest.fixture
def column(dice):
    """Return a column of vectors of chance, a few without one."""
    library("usearch")
    found = Vectors(ROWS, WIDTH)
    rows = np.flatnonzero(np.arange(ROWS) % 10 != 0).astype(np.uint32)
    found.restore(rows, dice.normal(size=(len(rows), WIDTH)).astype(np.float32))
    return found


def ready(column):
    """Return an index that has caught up."""
    index = VectorIndex(column)
    index.catch_up()
    return index


def best(index, column, query, count):
    """The nearest of the rows that the index names, and the exact ones."""
    return compared(column, query, count, index.named(query, count, 256))


def compared(column, query, count, named):
    """The nearest of some rows, and the exact ones."""
    directions = Directions(column.values, column.scale, np.arange(ROWS, dtype=np.uint64))
    rows = np.concatenate(named)
    rows = rows[column.scale[rows] > 0]
    found = directions.in_order(rows, directions.cosines(query, rows), count)[0]
    exact = directions.nearest(query, np.ones(ROWS, dtype=np.bool_), count)[0]
    return found.tolist(), exact.tolist()


def query_of(dice):
    """A direction of chance."""
    query = dice.normal(size=WIDTH)
    return (query / np.linalg.norm(query)).astype(np.float32)


def recall(index, column, dice, count=50, queries=40):
    """Mean share of the exact answer."""
    pairs = [best(index, column, query_of(dice), count) for _ in range(queries)]
    return float(np.mean([len({*found} & {*exact}) / count for found, exact in pairs]))


def test_most_of_the_exact_answer_is_named(column, dice):
    """At least 95 of 100."""
    index = ready(column)
    assert index.size == ROWS - ROWS // 10
    assert recall(index, column, dice) >= 0.95


def test_a_change_counts_before_the_graph_knows_it(column, dice):
    """A new vector is found, a changed one by what it is now, one that was taken away is not named by its old place."""
    index, query = ready(column), query_of(dice)
    nearest = best(index, column, query, 3)[1]
    column.set(nearest[0], None)
    column.set(nearest[1], (-query).tolist())
    column.set(0, query.tolist())
    found, exact = best(index, column, query, 20)
    assert found[0] == 0
    assert nearest[0] not in found
    assert nearest[1] not in found[:10]  # all that is named is asked for, also what is far now
    assert len({*found} & {*exact}) >= 19


def test_catching_up_takes_changes_into_the_graph(column, dice):
    """Then nothing is pending, and what is named is the graph's alone."""
    index = ready(column)
    for row in range(500):
        column.set(row, None if row % 3 else dice.normal(size=WIDTH).tolist())
    index.catch_up()
    assert index.size == np.count_nonzero(column.scale)
    assert len(np.concatenate(index.named(query_of(dice), 5, 64))) == 5
    assert recall(index, column, dice) >= 0.95


def test_it_is_built_anew_when_most_of_it_was_removed(column, dice):
    """So a graph does not fill up with what is gone."""
    index = ready(column)
    for _ in range(2):
        for row in range(ROWS):
            column.set(row, dice.normal(size=WIDTH).tolist())
        index.catch_up()
    assert index.removed_count > index.size
    index.catch_up()
    assert index.removed_count == 0
    assert recall(index, column, dice) >= 0.95


def test_far_behind_it_names_nothing(column, dice):
    """More changes than are scored one by one, more than are remembered, and a restored table: a scan answers."""
    index, query = VectorIndex(column), query_of(dice)
    assert index.named(query, 5, 64) is None
    index.catch_up()
    assert index.named(query, 5, 64) is not None
    column.restore(*(each.copy() for each in column.arrays(ROWS)))
    assert index.named(query, 5, 64) is None
    index.catch_up()
    assert index.named(query, 5, 64) is not None
    wide = Vectors(PENDING_MAX + 1, 2)
    other = ready(wide)
    for row in range(PENDING_MAX + 1):
        wide.set(row, [1, row])
    assert other.named(np.array([1, 0], np.float32), 5, 64) is None
    for number in range(CHANGES_MAX):
        column.set(1, [float(number)] * WIDTH)
    column.set(1, [0.5] * WIDTH)
    assert index.named(query, 5, 64) is None


def test_a_search_goes_on_while_rows_are_added(column, dice):
    """Whatever the other thread is at, an answer is right in what it has: no row that has no vector any more."""
    index = ready(column)
    for row in range(0, ROWS, 2):
        column.set(row, dice.normal(size=WIDTH).tolist())
    worker = threading.Thread(target=index.catch_up)
    worker.start()
    rounds, waited, begun = 0, 0.0, time.perf_counter()
    while worker.is_alive():
        query, since = query_of(dice), time.perf_counter()
        named = index.named(query, 84, 256)
        waited = max(waited, time.perf_counter() - since)
        if named is not None:  # the other thread does not hold the graph
            found, exact = compared(column, query, 20, named)
            assert len({*found} & {*exact}) >= 15
            rounds += 1
    worker.join()
    assert rounds
    assert waited < (time.perf_counter() - begun) / 4
    assert index.size == np.count_nonzero(column.scale)


def test_a_stopped_index_ends_early(column):
    """Nothing of it is taken for a graph."""
    index = VectorIndex(column)
    index.stop()
    index.catch_up()
    assert index.size == 0


def test_a_search_waits_shortly_for_who_holds_the_graph(column, dice, monkeypatch):
    """Then it names nothing, so that a scan answers, and names again as soon as the graph is free."""
    index, query = ready(column), query_of(dice)
    is_held, may_go = threading.Event(), threading.Event()

    def slow(*_):
        is_held.set()
        assert may_go.wait(60)

    with monkeypatch.context() as patch:
        patch.setattr(index, "_add", slow)
        column.set(1, [1.0] * WIDTH)
        worker = threading.Thread(target=index.catch_up)
        worker.start()
        assert is_held.wait(60)
        since = time.perf_counter()
        assert index.named(query, 5, 64) is None
        assert WAIT_S_MAX * 0.9 <= time.perf_counter() - since < 5.0
        may_go.set()
        worker.join()
    assert index.named(query, 5, 64) is not None


def test_the_thread_keeps_the_priority_of_the_process(column):
    """A lower one would keep the interpreter's lock while busy processes have the cores."""
    found = []

    def work():
        VectorIndex(column).catch_up()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert found == [os.getpriority(os.PRIO_PROCESS, 0)]


GROWTH = """
import ctypes
import resource, sys
from pathlib import Path
import numpy as np
from midstream.models import vector_index
from midstream.state.attributes.vectors import Vectors

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

vector_index.BUILD_BREADTH = 8  # neighbours of less worth, and as many
vector_index._rest = lambda _: None
rows, width = map(int, sys.argv[1:])
column = Vectors(rows, width)
column.restore(np.arange(rows, dtype=np.uint32), np.random.default_rng(1).normal(size=(rows, width)).astype(np.float32))
few = Vectors(100, width)
few.restore(np.arange(100, dtype=np.uint32), column.values[:100])
vector_index.VectorIndex(few).catch_up()
ctypes.CDLL(None).malloc_trim(0)  # what lies free would be used again, and not be seen
index, before = vector_index.VectorIndex(column), resident()
index.catch_up()
print(resident() - before, vector_index.graph_bytes(index.size, width))
"""


@pytest.mark.parametrize("width", [16, 128])
def test_a_graph_takes_the_memory_that_is_said(width):
    """Within a fifth, of a process of its own."""
    library("usearch")
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, "30000", str(width)], capture_output=True, text=True, check=True, timeout=300
    )
    grown, said = map(int, done.stdout.split())
    assert grown == pytest.approx(said, rel=0.2)
