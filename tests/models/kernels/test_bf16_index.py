"""The best of many vectors from half of their bytes: what ``top_k`` finds, to the bit, whatever the numbers are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.models.kernels import bf16_index
from midstream.models.kernels.bf16_index import Halves
from midstream.models.kernels.top_k import top_k

# Near and far from each other, below the normal numbers, too large for bfloat16, and none.
EDGES = np.array(
    [0, -0.0, 1, -1, 1.003, 1.004, 1e-45, -3e-39, 1e-30, 3.4e38, -3.39e38, 1e19, -1e20, np.inf, -np.inf, np.nan],
    dtype=np.float32,
)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Round however few there are."""
    monkeypatch.setattr(bf16_index, "HALVES_MIN", 1)


def same(query, items, k):
    """Compare with the scan of all numbers."""
    with np.errstate(all="ignore"):
        rows, scores = Halves.of(items).top_k(query, k)
        expected = top_k(query, items, k)
    assert rows.tolist() == expected[0].tolist()
    assert scores.view(np.int32).tolist() == expected[1].view(np.int32).tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 400), st.integers(-1, 60), st.floats(0, 0.3))
def test_any_numbers(seed, width, count, k, edges):
    """Rows and scores are those of ``top_k``: of close vectors, of ties, of what is no number or overflows."""
    dice = np.random.default_rng(seed)
    center = dice.standard_normal(width)
    spread = 10.0 ** dice.integers(-5, 2)
    items = (center + spread * dice.standard_normal((count, width))).astype(np.float32)
    items[dice.random(count) < 0.2] = items[0]
    query = dice.standard_normal(width).astype(np.float32) * np.float32(10.0 ** dice.integers(-30, 30))
    for array in (items, query):
        at = dice.random(array.shape) < edges * (dice.random() < 0.5)
        array[at] = dice.choice(EDGES, int(at.sum()))
    same(query, items, k)


@pytest.mark.parametrize("order", ["random", "rising", "falling", "equal", "striped"])
@pytest.mark.parametrize("k", [1, 17, 500, 4_000, 8_003])
def test_many_in_any_order(order, k):
    """Whatever the part that is looked at first says of the rest: too much, too little, or all of it."""
    dice = np.random.default_rng(5)
    items = dice.standard_normal((8_003, 24)).astype(np.float32)
    query = dice.standard_normal(24).astype(np.float32)
    if order == "equal":
        items[:] = items[0]
    elif order == "striped":  # what is best lies in the tiles that are looked at first
        items[(np.arange(len(items)) // 16) % 16 == 0] += query
    elif order != "random":
        items = items[np.argsort(items @ query)[:: 1 if order == "rising" else -1]]
    same(query, items, k)


def test_scores_closer_than_their_rounding():
    """Vectors that bfloat16 cannot tell apart come in the order of their exact scores."""
    dice = np.random.default_rng(7)
    items = (1 + 1e-6 * dice.standard_normal((5_000, 64))).astype(np.float32)
    same(np.abs(dice.standard_normal(64)).astype(np.float32), items, 10)


@pytest.mark.parametrize("number", [3.4e38, 1.7e38])
def test_what_is_too_large_only_when_rounded(number):
    """A score that is a number stays one, where a rounded number, or the sum of two of them, is beyond float32."""
    items = np.array([[number, 0], [number, number], [1, 1]], dtype=np.float32)
    for query in ([-1, 0], [-1, -1], [1, 1], [-1e-3, 0]):
        same(np.array(query, dtype=np.float32), items, 3)


def test_a_bound_holds_what_rounding_does():
    """No product of rounded vectors is further from the exact one than the bound says, also in the worst case."""
    dice = np.random.default_rng(3)
    items = dice.standard_normal((64, 48)).astype(np.float32)
    items.view(np.uint32)[:] = items.view(np.uint32) & np.uint32(0xFFFF0000) | np.uint32(0x7FFF)
    found = Halves.of(items)
    for each in items:  # the query that is parallel to what was rounded away loses most
        rounded = (bf16_index._rounded(each) << np.uint32(16)).view(np.float32)
        query = (each - rounded).astype(np.float32)
        lost = np.abs(
            (items.astype(np.float64) - (bf16_index._rounded(items) << np.uint32(16)).view(np.float32)) @ query
        )
        assert (lost <= found._off(query) * found.length[:64].astype(np.float64)).all()
