"""Contributions of trees are the Shapley values of their definition, those of LightGBM, and add up to the score."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import Score
from midstream.models.rows.tree_kernel import ALONE, RIGHT, ZERO, ZERO_MAX
from midstream.models.rows.tree_shap import shapley_values
from midstream.models.rows.trees import Trees, joined

SPECIAL = np.array([np.nan, 0.0, -0.0, np.inf, -np.inf, 1e-36, 3e38, -3e38], np.float32)


def rows_of(seed: int, count: int, features: int) -> Score:
    """Return rows of which a third of the values is special."""
    dice = np.random.default_rng(seed)
    values = dice.normal(size=(count, features)).astype(np.float32).round(1)
    chosen = dice.random(values.shape) < 0.3
    values[chosen] = dice.choice(SPECIAL, int(chosen.sum()))
    return values


def drawn(seed: int, tree_count: int, leaves_max: int, features: int) -> Trees:
    """Return trees of any shape over some features; some leaves have seen no row."""
    dice = np.random.default_rng(seed)
    parts = []
    for _ in range(tree_count):
        leaves = int(dice.integers(1, leaves_max + 1))
        nodes: list[tuple[int, int, int]] = []

        def split(first: int, end: int, nodes: list[tuple[int, int, int]] = nodes) -> None:
            if end - first > 1:
                middle = int(dice.integers(first + 1, end))
                nodes.append((first, middle, end))
                split(first, middle)
                split(middle, end)

        split(0, leaves)
        first, middle, end = (list(each) for each in zip(*nodes, strict=True)) if nodes else ([], [], [])
        ways = dice.choice([0, RIGHT, ZERO, ZERO | RIGHT, ZERO | RIGHT | ALONE], len(nodes)).tolist()
        parts.append({
            "feature": dice.integers(0, features, len(nodes)).tolist(),
            "threshold": [0.0 if way & ALONE else round(float(dice.normal()), 1) for way in ways],
            "way": ways, "first": first, "middle": middle, "end": end,
            "leaf_value": dice.normal(size=leaves).tolist(),
            "leaf_count": dice.integers(0, 9, leaves).tolist(),
        })  # fmt: skip
    return joined([f"f{number}" for number in range(features)], parts, 0.0)


def worth(trees: Trees, row: Score, known: frozenset[int]) -> float:
    """Return what the trees say of a row of which only some features are known, by the shares of fitted rows."""

    def at(tree: int, node: int, first: int, end: int) -> float:
        offset = int(trees.start[tree]) + tree
        if end - first == 1:
            return float(trees.leaf_value[offset + first])
        middle = int(trees.middle[node])
        sides = ((node + 1, first, middle), (node + middle - first, middle, end))
        feature = int(trees.feature[node])
        if feature in known:
            return at(tree, *sides[int(goes_right(trees, node, row[feature]))])
        counts = [int(trees.leaf_count[offset + low : offset + high].sum()) for _, low, high in sides]
        if not sum(counts):
            counts = [high - low for _, low, high in sides]
        return sum(count * at(tree, *side) for count, side in zip(counts, sides, strict=True)) / sum(counts)

    return sum(
        at(tree, int(trees.start[tree]), 0, int(trees.start[tree + 1] - trees.start[tree]) + 1)
        for tree in range(len(trees))
    )


def goes_right(trees: Trees, node: int, value: np.float32) -> bool:
    """Return where a node sends a value."""
    way = int(trees.way[node])
    if np.isnan(value) or (way & ZERO and abs(value) <= ZERO_MAX):
        return bool(way & RIGHT)
    return not way & ALONE and bool((value if abs(value) > ZERO_MAX else np.float32(0)) > trees.threshold[node])


@given(st.integers(0, 10_000), st.integers(0, 3), st.integers(1, 9), st.integers(1, 5))
def test_contributions_are_shapley_values_by_their_definition(seed, tree_count, leaves, features):
    """Each feature gets the mean of what it adds to every set of the others, and the base is that of no feature."""
    trees, rows = drawn(seed, tree_count, leaves, features), rows_of(seed, 2, features)
    base, found = shapley_values(trees, rows)
    assert base == pytest.approx(worth(trees, rows[0], frozenset()), abs=1e-12)
    for row, told in zip(rows, found, strict=True):
        for feature in range(features):
            others = [each for each in range(features) if each != feature]
            mean = 0.0
            for size in range(features):
                chance = factorial(size) * factorial(features - size - 1) / factorial(features)
                for known in map(frozenset, combinations(others, size)):
                    mean += chance * (worth(trees, row, known | {feature}) - worth(trees, row, known))
            assert told[feature] == pytest.approx(mean, abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 64), st.integers(1, 30))
def test_contributions_and_the_base_are_the_score(seed, tree_count, leaves, rows):
    """Whatever is missing, whatever the shape of the trees, what features add is what the row got."""
    trees, values = drawn(seed, tree_count, leaves, 12), rows_of(seed, rows, 12)
    base, found = shapley_values(trees, values)
    np.testing.assert_allclose(base + found.sum(axis=1), trees.score(values), rtol=1e-5, atol=1e-5)
    alone = shapley_values(trees, values[:1])[1]
    np.testing.assert_array_equal(alone[0], found[0])


@pytest.mark.parametrize("objective", ["lambdarank", "binary"])
@pytest.mark.parametrize("zero_as_missing", [False, True])
def test_contributions_are_those_of_the_library(objective, zero_as_missing):
    """They are what ``pred_contrib`` says, feature by feature and row by row."""
    lightgbm = pytest.importorskip("lightgbm")
    dice = np.random.default_rng(5)
    values = dice.normal(size=(600, 6)).astype(np.float32)
    values[dice.random(values.shape) < 0.2] = np.nan
    values[dice.random(values.shape) < 0.2] = 0.0
    label = (np.nan_to_num(values) @ [1.0, -1.0, 0.5, 0.0, 0.2, 0.1] + np.isnan(values[:, 0]) > 0.3).astype(int)
    settings = {"objective": objective, "num_leaves": 15, "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
    settings["zero_as_missing"] = zero_as_missing
    group = [30] * 20 if objective == "lambdarank" else None
    booster = lightgbm.train(settings, lightgbm.Dataset(values, label, group=group), 30)
    trees = Trees.of_lightgbm(booster.model_to_string())
    base, found = shapley_values(trees, values[:100])
    right = booster.predict(values[:100], pred_contrib=True)
    np.testing.assert_allclose(found, right[:, :-1], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(base, right[0, -1], rtol=1e-9)
