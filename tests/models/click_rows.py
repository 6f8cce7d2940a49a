"""What the tests of models of clicks share: rows with something unknown, and clicks that hang on them."""

import numpy as np

from midstream.models.rows.examples import Examples

NAMES = ("price", "age", "noise", "level")


def some_values(seed: int, count: int = 400) -> np.ndarray:
    """Four columns, one of few levels; an eighth is unknown, and a few are infinite."""
    dice = np.random.default_rng(seed)
    values: np.ndarray = (dice.standard_normal((count, 4)) * [1, 30, 1, 1]).astype(np.float32)
    values[:, 3] = np.round(values[:, 3])
    values[dice.random(values.shape) < 1 / 8] = np.nan
    values[dice.integers(0, count, 4), [0, 1, 0, 1]] = [np.inf, np.inf, -np.inf, -np.inf]
    return values


def some_clicks(seed: int, count: int = 400) -> Examples:
    """Rows that are clicked where the price is low or unknown, or the age is high; by weight, with propensities."""
    values, dice = some_values(seed, count), np.random.default_rng(seed + 1)
    chance = 0.1 + 0.5 * ~(values[:, 0] > 0) + 0.3 * (values[:, 1] > 20)
    plain = Examples.of_rows(NAMES, values, (dice.random(count) < chance).astype(np.float32))
    weight, propensity = dice.uniform(0.5, 2, count), dice.uniform(0.05, 1, count)
    return Examples(
        plain.names, values, plain.start, plain.label, plain.time_ms,
        weight.astype(np.float32), plain.position, propensity.astype(np.float32),
    )  # fmt: skip
