"""Trees in process: time to score candidates by 300 trees of 31 leaves over 40 features, beside LightGBM's own.

A tenth of the values is unknown, in fitting and in asking. Both are asked the same rows, one after the other, on one
thread; what they answer is compared.
"""

import json
import time

import lightgbm
import numpy as np

from midstream.models.rows.trees import Trees

FEATURES, TREES, LEAVES = 40, 300, 31
CALLS = 1_000


def rows_of(count, seed):
    """Return rows of features, a tenth of the values unknown."""
    dice = np.random.default_rng(seed)
    values = dice.normal(size=(count, FEATURES)).astype(np.float32)
    values[dice.random(values.shape) < 0.1] = np.nan
    return values


def fit():
    """Return a model of LightGBM's."""
    values = rows_of(20_000, 1)
    known = np.nan_to_num(values)
    label = known @ np.random.default_rng(2).normal(size=FEATURES) + 2 * np.sin(3 * known[:, 0])
    settings = {"objective": "regression", "num_leaves": LEAVES, "verbosity": -1, "num_threads": 2, "seed": 1}
    return lightgbm.train(settings, lightgbm.Dataset(values, label), TREES)


def figures(ask, values, calls):
    """Return quantiles of the time of one call, µs."""
    took = []
    for _ in range(calls):
        begin = time.perf_counter_ns()
        ask(values)
        took.append(time.perf_counter_ns() - begin)
    return {f"p{q}": round(float(np.percentile(took, q)) / 1_000, 1) for q in (10, 50, 90, 99)}


def run():
    """Return all figures, by name; times in microseconds."""
    booster = fit()
    text = booster.model_to_string()
    begin = time.perf_counter()
    trees = Trees.of_lightgbm(text)
    found = {"read_ms": round(1_000 * (time.perf_counter() - begin), 1)}
    for count in (500, 300, 100, 1):
        values = np.asfortranarray(rows_of(count, 3))  # as the pipeline has them, a column side by side
        trees.score(values)
        library = np.ascontiguousarray(values)
        difference = np.abs(trees.score(values) - booster.predict(library)).max()
        found[f"rows_{count}"] = {
            "trees_us": figures(trees.score, values, CALLS),
            "lightgbm_us": figures(lambda rows: booster.predict(rows, num_threads=1), library, 50),
            "largest_difference": float(difference),
        }
    return found


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
