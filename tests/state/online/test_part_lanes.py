"""Lanes of parts: the vectorised step gives each part the bits of the step in plain arithmetic."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from midstream.state.online.part_lanes import LANES, RowStep, step_lanes, weight_at
from midstream.state.structures.kernel import kernel

ROWS = 32


@kernel
def step(
    sums: NDArray[np.float64], parts: NDArray[np.int64], start: int, gradient: float, rates: NDArray[np.float64]
) -> None:
    """RowStep the four parts from ``start`` on."""
    step_lanes(sums, parts, start, RowStep(gradient, gradient * gradient, rates[0], rates[1], rates[2], rates[3]))


@kernel
def weights(sums: NDArray[np.float64], parts: NDArray[np.int64], found: NDArray[np.float64]) -> None:
    """Read the weights of parts."""
    for place in range(len(parts)):
        found[place] = weight_at(sums, parts, place)


def stepped(row: list[float], gradient: float, rates: list[float]) -> list[float]:
    """Return weight, z, n and root after a row, one part by itself."""
    weight, z, n, root = row
    rate, beta, l1, l2 = rates
    n += gradient * gradient
    after = math.sqrt(n)
    z += gradient - (after - root) * rate * weight
    free = ((-l1 if z < 0.0 else l1) - z) / ((beta + after) * rate + l2)
    return [free if abs(z) > l1 else 0.0, z, n, after]


def drawn(dice: np.random.Generator) -> NDArray[np.float64]:
    """Return sums of parts: of each size, some of them 0."""
    sums = dice.normal(size=(ROWS, 4)) * 10.0 ** dice.integers(-6, 7, (ROWS, 4))
    sums[:, 2] = np.abs(sums[:, 2])
    sums[:, 3] = np.sqrt(sums[:, 2])
    sums[dice.random(ROWS) < 0.2] = 0.0
    return sums


@pytest.mark.parametrize("seed", range(20))
def test_each_part_has_the_bits_of_a_step_by_itself(seed: int) -> None:
    """Four parts anywhere, and no other one: weights, sums and roots of any size."""
    dice = np.random.default_rng(seed)
    sums, parts = drawn(dice), dice.permutation(ROWS).astype(np.int64)
    start, gradient = int(dice.integers(ROWS - LANES)), float(dice.normal())
    rates = np.array([1.0 / 0.05, 1.0, dice.choice([0.0, 0.3, 2.0]), dice.choice([0.0, 1.0])])
    chosen = parts[start : start + LANES]
    expected = sums.copy()
    for part in chosen.tolist():
        expected[part] = stepped(sums[part].tolist(), gradient, rates.tolist())
    step(sums, parts, start, gradient, rates)
    assert sums.view(np.int64).tolist() == expected.view(np.int64).tolist()


@pytest.mark.parametrize("z", [-1.0, 1.0, -0.0, 0.0, np.nextafter(1.0, 2.0), -np.nextafter(1.0, 2.0)])
def test_a_part_weighs_where_its_sum_exceeds_the_penalty(z: float) -> None:
    """Exactly at the penalty it weighs nothing, a bit beyond it something: on both sides of 0."""
    sums = np.zeros((LANES, 4))
    sums[:, 1] = z
    step(sums, np.arange(LANES, dtype=np.int64), 0, 0.0, np.array([1.0, 1.0, 1.0, 0.0]))
    assert sums[:, 0].tolist() == [stepped([0.0, z, 0.0, 0.0], 0.0, [1.0, 1.0, 1.0, 0.0])[0]] * LANES
    assert bool(sums[0, 0]) == (abs(z) > 1.0)


def test_weights_are_read_by_the_places_of_parts() -> None:
    """Of the row that a place names, the first number."""
    sums, found = drawn(np.random.default_rng(1)), np.zeros(ROWS)
    parts = np.random.default_rng(2).permutation(ROWS).astype(np.int64)
    weights(sums, parts, found)
    assert found.tolist() == sums[parts, 0].tolist()
