"""What learning on is worth: where visitors change their ways, only a state that learns follows."""

import numpy as np
import pytest

from midstream.evaluation.data.interactions import InteractionTable
from midstream.evaluation.learning import run_learning
from midstream.evaluation.metrics.statistics import Resampling
from midstream.evaluation.replay import ReplayOptions, asking_source
from midstream.retrieval.session_knn import SessionKnn

QUICK = ReplayOptions(k=1, resampling=Resampling(resamples=100))


def shop(changes):
    """200 sessions that walk three steps on a ring of 20 items; if it changes, on another from the middle on."""
    rows = []
    for session in range(200):
        ring = 100 if changes and session >= 100 else 0
        rows += [(f"s{session}", f"i{ring + (session * 7 + step) % 20}") for step in range(4)]
    return InteractionTable(
        user_id=np.full(len(rows), ""),
        session_id=np.array([row[0] for row in rows], dtype=np.str_),
        item_id=np.array([row[1] for row in rows], dtype=np.str_),
        action=np.full(len(rows), "click"),
        time_ms=1_000_000 + np.arange(len(rows)) * 1_000,
    )


def test_only_a_state_that_learns_follows_a_change():
    """Frozen finds nothing of the new ring, rolling from the second window on, test then learn within the first."""
    report = run_learning("shop", shop(changes=True), asking_source(SessionKnn()), 4, QUICK)
    frozen, rolling, learning = report.schedules
    assert [each.name for each in report.schedules] == ["frozen", "rolling", "test then learn"]
    assert (report.asked_from, report.questions) == (400, 300)
    assert frozen.hit_rate.mean == 0.0
    assert rolling.hit_rate_by_window[0] == 0.0
    assert all(each > 0.5 for each in rolling.hit_rate_by_window[1:])
    assert learning.hit_rate_by_window[0] > 0.1
    assert learning.hit_rate_gain.low > 0
    assert learning.mrr_gain.mean == pytest.approx(learning.mrr.mean)
    assert (frozen.hit_rate_gain.tests_count, rolling.hit_rate_gain.tests_count, learning.mrr_gain.tests_count) == (
        1,
        4,
        4,
    )


def test_nothing_is_gained_where_nothing_changes():
    """Where all is known from the first half, all three find it, and the gain is none."""
    report = run_learning("shop", shop(changes=False), asking_source(SessionKnn()), 4, QUICK)
    for each in report.schedules:
        assert each.hit_rate.mean > 0.9
        assert each.hit_rate_gain.high < 0.1
