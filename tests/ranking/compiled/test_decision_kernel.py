"""The order of scores within kernels: that of ``top_k``. The steps of a decision are tested with the whole kernel."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.ranking.compiled.decision_kernel import order_key
from midstream.ranking.selectors.top_k import best_first

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE | st.sampled_from([0.0, -0.0, 1.0, -1.0]), min_size=1, max_size=40))
def test_keys_are_in_the_order_of_scores(told: list[float]) -> None:
    """Equal scores in the order of their places, 0 and -0 among them; no two keys are equal."""
    scores = np.array(told, dtype=np.float32)
    keys = [int(order_key.py_func(score, place)) for place, score in enumerate(scores)]  # type: ignore[attr-defined]
    assert len(set(keys)) == len(keys)
    assert sorted(range(len(keys)), key=keys.__getitem__, reverse=True) == best_first(scores).tolist()
