"""Trees by ranks: the same bits as by the values themselves, on every CPU that machine code is made for."""

import os
import platform
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.models.rows.ranked_trees import LIMITS_MAX
from midstream.models.rows.tree_kernel import ZERO_MAX
from midstream.models.rows.trees import Trees
from tests.support.tree_shapes import random_shapes

CPUS = ("x86-64", "x86-64-v3") if platform.machine() == "x86_64" else ("generic",)
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-36, -1e-36, float(ZERO_MAX), 3.4e38, -3.4e38)


def drawn(seed, tree_count, leaves_max, features, thresholds):
    """Trees of any shape with so many distinct thresholds a feature, and infinite ones where these may be."""
    dice = np.random.default_rng(seed)
    nodes, start = random_shapes(dice, tree_count, leaves_max)
    below = np.array(nodes, dtype=np.uint8).reshape(-1, 3).T.copy()
    way = dice.integers(0, 8, len(nodes)).astype(np.uint8)
    limit = (dice.integers(0, thresholds, len(nodes)) / 7 - 3).astype(np.float32)
    limit[(dice.random(len(nodes)) < 0.05) & (way & 1 == 0)] = np.inf
    limit[dice.random(len(nodes)) < 0.02] = -np.inf
    leaves = len(nodes) + tree_count
    return Trees(
        tuple(f"f{each}" for each in range(features)), dice.integers(0, features, len(nodes)).astype(np.int32), limit,
        way, below[0], below[1], below[2], np.array(start, dtype=np.int64), dice.normal(size=leaves),
        dice.integers(0, 99, leaves), float(seed % 2),
    )  # fmt: skip


def rows_of(seed, count, features):
    """Rows of values near the thresholds, at them, unknown and special."""
    dice = np.random.default_rng(seed)
    values = (dice.integers(-40, 60, (count, features)) / 7 - 3).astype(np.float32)
    values += dice.choice(np.array([0, 0, 1e-3], dtype=np.float32), values.shape)
    is_special = dice.random(values.shape) < 0.3
    values[is_special] = dice.choice(np.array(SPECIAL, dtype=np.float32), int(is_special.sum()))
    return values


def by_floats(trees, values):
    """Scores by the values themselves."""
    found = np.empty(len(values), dtype=np.float32)
    trees._score_floats(np.ascontiguousarray(values.T, dtype=np.float32), found)
    return found


@given(
    st.integers(0, 100_000), st.integers(0, 8), st.sampled_from([1, 2, 8, 9, 16, 17, 31, 33, 64]), st.integers(1, 5),
    st.sampled_from([1, 3, 40, 300]), st.sampled_from([1, 2, 63, 64, 65, 128, 300, 511, 512, 513, 700, 1_100]),
)  # fmt: skip
def test_ranks_are_values(seed, tree_count, leaves, features, thresholds, count):
    """To the bit: any shape, any way of what is missing, blocks and vectors of rows that are not full."""
    trees, values = drawn(seed, tree_count, leaves, features, thresholds), rows_of(seed, count, features)
    assert trees.score(values).tobytes() == by_floats(trees, values).tobytes()


@pytest.mark.parametrize("more", [0, 1])
def test_a_feature_with_more_thresholds_than_an_octet_tells_apart_is_compared_by_value(more):
    """Up to 255 have ranks; with one more none of the trees has."""
    count = LIMITS_MAX + more
    one = np.ones(count, dtype=np.uint8)
    limit = np.arange(count, dtype=np.float32)
    trees = Trees(
        ("f",), np.zeros(count, dtype=np.int32), limit, 0 * one, 0 * one, one, 2 * one,
        np.arange(count + 1, dtype=np.int64), np.arange(2 * count, dtype=np.float64),
        np.ones(2 * count, dtype=np.int64),
    )  # fmt: skip
    assert (trees._ranked is None) == bool(more)
    values = np.concatenate([limit, limit + 0.5, [-1, np.inf, -np.inf, np.nan]]).astype(np.float32)[:, None]
    assert trees.score(values).tobytes() == by_floats(trees, values).tobytes()
    above = (values > limit).sum(axis=1)
    assert (trees.score(values) == (np.arange(0, 2 * count, 2).sum() + above).astype(np.float32)).all()


PROBE = """
import sys
sys.path.insert(0, {folder!r})
from test_ranked_trees import digest
print(digest())
"""


def digest():
    """Return a hash of some scores."""
    found = sha256()
    for seed in range(6):
        found.update(drawn(seed, 5, 31, 4, 40).score(rows_of(seed, 150, 4)).tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("cpu", CPUS)
def test_other_cpus_get_the_same_bits(cpu, tmp_path):
    """Compiled for one without AVX, and for one with AVX2 alone: one process each, of which most is the compiler."""
    folder = str(Path(__file__).parent)
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CACHE_DIR": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", PROBE.format(folder=folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.strip() == digest(), found.stderr[-2_000:]
