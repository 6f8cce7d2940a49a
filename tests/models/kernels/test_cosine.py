"""Nearest by cosine: the answer of a plain sort, whatever is eligible, however many are equal."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from midstream.models.kernels.cosine import Directions, direction_of

ROWS, WIDTH = 40, 19
SMALL = st.integers(-2, 2).map(float)
"""So few values that rows, and scores, are often equal."""
VECTORS = arrays(np.float32, st.tuples(st.integers(1, ROWS), st.just(WIDTH)), elements=SMALL)


def directions(vectors, seed=0):
    """The column of some vectors, with hashes of chance."""
    length = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
    scale = np.divide(1.0, length, out=np.zeros(len(vectors)), where=length > 0).astype(np.float32)
    hashes = np.random.default_rng(seed).permutation(len(vectors)).astype(np.uint64)
    return Directions(vectors, scale, hashes)


def towards(vector):
    """The direction of a vector that has one."""
    found = direction_of(vector)
    assert found is not None
    return found


@given(VECTORS, arrays(np.float32, WIDTH, elements=SMALL), st.data())
def test_it_is_the_plain_sort(vectors, query, data):
    """Best first, equal scores by hash, also where the answer ends among them; what is not eligible is not there."""
    column, asked = directions(vectors, data.draw(st.integers(0, 9))), direction_of(query.astype(np.float64))
    if asked is None:
        assert not query.any()
        return
    eligible = np.array(data.draw(st.lists(st.booleans(), min_size=len(vectors), max_size=len(vectors))))
    k = data.draw(st.integers(0, ROWS + 2))
    found, score = column.nearest(asked, eligible, k)
    every = np.flatnonzero(eligible & (column.scale > 0)).astype(np.int32)
    exact = column.cosines(asked, every)
    order = np.lexsort((column.hashes[every], -exact))[:k]
    assert found.tolist() == every[order].tolist()
    assert score.tobytes() == exact[order].tobytes()


@pytest.mark.parametrize("k", [1, 3, 5, 29])
def test_of_equal_scores_the_lowest_hashes_are_in_the_answer(k):
    """Where it ends among them too, and wherever they lie; what is better stays before them."""
    vectors = np.ones((30, 4), dtype=np.float32)
    vectors[17] = (1, 1, 1, 2)
    asked = towards(np.array([1.0, 1.0, 1.0, 2.0]))
    hashes = np.arange(30, 0, -1).astype(np.uint64)  # the lowest last
    column = Directions(vectors, directions(vectors).scale, hashes)
    found = column.nearest(asked, np.ones(30, dtype=np.bool_), k)[0]
    assert found.tolist() == [17, *(row for row in range(29, -1, -1) if row != 17)][:k]


@given(VECTORS, arrays(np.float32, WIDTH, elements=SMALL))
def test_scores_are_cosines(vectors, query):
    """To what float32 holds; NaN where there is no direction."""
    asked = direction_of(query.astype(np.float64))
    if asked is None:
        return
    exact = vectors.astype(np.float64) @ query.astype(np.float64)
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1)) * math.sqrt(
        float((query.astype(np.float64) ** 2).sum())
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = exact / lengths
    found = directions(vectors).cosines(asked, np.arange(len(vectors)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_rows_behind_the_eligible_ones_are_not_read():
    """The column is reserved at its maximum; the eligible ones say how far it is used."""
    column = directions(np.ones((8, 4), dtype=np.float32))
    asked = direction_of(np.ones(4))
    assert column.nearest(asked, np.ones(3, dtype=np.bool_), 8)[0].tolist() == sorted(
        range(3), key=column.hashes.__getitem__
    )
    assert column.nearest(asked, np.zeros(3, dtype=np.bool_), 8)[0].tolist() == []


def test_a_score_has_the_same_bits_wherever_its_row_lies():
    """And whatever is beside it."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(50, 100)).astype(np.float32)
    asked = direction_of(rng.normal(size=100))
    every = np.ones(50, dtype=np.bool_)
    found, score = directions(vectors).nearest(asked, every, 50)
    for row, value in zip(found.tolist(), score.tolist(), strict=True):
        alone = directions(vectors[row : row + 1]).nearest(asked, every[:1], 1)[1]
        assert alone.tolist() == [value]


def test_a_mean_is_of_directions():
    """A long vector counts no more than a short one; weights do; what cancels out has no direction."""
    column = directions(np.array([[10, 0], [0, 0.1], [-10, 0]], dtype=np.float32))
    np.testing.assert_allclose(column.mean((0, 1), (1.0, 1.0)), [math.sqrt(0.5)] * 2, rtol=1e-6)
    np.testing.assert_allclose(column.mean((0, 1), (3.0, 4.0)), [0.6, 0.8], rtol=1e-6)
    assert column.mean((0, 2), (1.0, 1.0)) is None
    assert column.mean((), ()) is None


@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-161, 1e-30, 1.0, 1e30, 1e160, 1e308])
def test_a_vector_of_any_length_has_its_direction(size):
    """No square of it is lost; a zero has none."""
    assert towards(np.array([0.0, -size, 0.0])).tolist() == [0.0, -1.0, 0.0]
    if size > 1e-300:
        assert towards(np.array([3.0, 4.0]) * (size / 4.0)).tolist() == pytest.approx([0.6, 0.8])
    assert direction_of(np.zeros(3)) is None


@given(
    st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=9).filter(
        lambda numbers: any(abs(x) > 1e-30 for x in numbers)
    )
)
def test_a_direction_has_the_bits_that_it_had_without_scaling(numbers):
    """A power of two changes none of them."""
    vector = np.array(numbers)
    plain = vector / math.sqrt(math.fsum(np.square(vector).tolist()))
    assert towards(vector).tobytes() == plain.astype(np.float32).tobytes()
