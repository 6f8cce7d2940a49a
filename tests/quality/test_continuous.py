"""Continuous training in time order: nothing of the future is learned, and what is worse does not go into service.

On shared data figures are printed, see them with ``-s``. Where the data folder is missing this skips, and in CI fails.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.continuous import (
    DAY_MS,
    FROZEN,
    GATED,
    RENEWED,
    ContinuousOptions,
    evaluate_continuous,
    fit_between,
    timeline_of,
    trained_ranks,
)
from benchmarks.quality.data_folder import DATA_VARIABLE, data_folder
from benchmarks.quality.session_sets import REPLAY_SETS
from midstream.core.errors import Invalid
from midstream.evaluation.data.interactions import InteractionData, InteractionTable
from midstream.evaluation.metrics.statistics import Resampling

SMALL = ContinuousOptions(
    "item_knn", every_days=4, window_days=8, judged_days=2, with_live=False, resampling=Resampling(resamples=200)
)


def shop(day_count=24, moved_at=12, noisy=()):
    """Ten pairs of items; who clicks the first of a pair clicks the second, and from a day on that of another pair.

    On noisy days people click at random, so that what is learned there is worth nothing.
    """
    dice = np.random.default_rng(3)
    clicks: list[tuple[str, str, int]] = []
    for day in range(day_count):
        for visit in range(30):
            first = int(dice.integers(10))
            pair = first if day < moved_at else (first + 3) % 10
            second = int(dice.integers(10)) if day in noisy else pair
            at = (20_000 + day) * DAY_MS + 60_000 * visit
            clicks += [(f"s{day}-{visit}", f"a{first}", at), (f"s{day}-{visit}", f"b{second}", at + 1_000)]
    session, item, time_ms = zip(*clicks, strict=True)
    count = len(clicks)
    return InteractionTable(
        np.full(count, ""), np.array(session), np.array(item), np.full(count, "click"), np.array(time_ms)
    )


def report_of(rows, options=SMALL, gate=None):
    """The report of a made set, each way by its name."""
    found = evaluate_continuous(InteractionData("made", lambda: rows), replace(options, k=1), lambda _: None, gate)
    return {each.name: each for each in found.ways}


def test_what_changed_is_learned_again():
    """After people changed, the renewed model and the gated one find them again, the frozen one never."""
    ways = report_of(shop())
    assert max(ways[FROZEN].ndcg_by_period) < 0.3
    for name in (RENEWED, GATED):
        assert ways[name].ndcg_by_period[-1] > 0.9
        assert ways[name].ndcg_gain.low > 0.3
    assert ways[GATED].trained == 3


def test_what_is_worse_stays_out():
    """Days of noise, then people are as before: what was learned from the noise goes into service ungated alone."""
    rows = shop(moved_at=99, noisy=range(14, 20))
    options = replace(SMALL, every_days=4, window_days=4)
    ways = report_of(rows, options)
    # The third period begins with a model of noise: ungated it answers at random.
    assert ways[RENEWED].ndcg_by_period[2] < 0.3
    assert ways[GATED].ndcg_by_period[2] > 0.9
    assert ways[GATED].trained < ways[RENEWED].trained


def test_a_gate_that_refuses_all_leaves_the_first_model():
    """Then gated and frozen give the same answers; a gate that lets in all gives those of the renewed one."""
    timeline = timeline_of(shop(), SMALL)
    closed, open_ = (trained_ranks(timeline, SMALL, gate)[0] for gate in (lambda _: False, lambda _: True))
    assert np.array_equal(closed[GATED], closed[FROZEN])
    assert np.array_equal(open_[GATED], open_[RENEWED])
    assert not np.array_equal(closed[RENEWED], closed[FROZEN])


def test_nothing_of_the_future_is_learned():
    """Acts after a period change no answer in it; and a window has the acts of its days alone."""
    rows = shop()
    later = rows.time_ms >= (20_000 + 16) * DAY_MS
    other = replace(rows, item_id=np.where(later, "b0", rows.item_id))
    first, second = (trained_ranks(timeline_of(each, SMALL), SMALL, lambda _: True)[0] for each in (rows, other))
    timeline = timeline_of(rows, SMALL)
    early = timeline.asked_day < 20_016
    assert early.any()
    for name in (FROZEN, RENEWED, GATED):
        assert np.array_equal(first[name][early], second[name][early])
    fitted = fit_between(timeline, 20_000, 20_001, SMALL)
    known = np.unique(timeline.item[timeline.day == 20_000])
    assert np.array_equal(np.flatnonzero(fitted.row_of >= 0), known)


def test_the_gate_asks_about_days_that_neither_has_learned():
    """Candidate and champion are judged on the newest days before a training, by users' or sessions' groups."""
    seen = []

    def gate(judged):
        seen.append(judged)
        return True

    timeline = timeline_of(shop(), SMALL)
    trained_ranks(timeline, SMALL, gate)
    assert [len(each.candidate) for each in seen] == [60, 60]
    # People changed with the first period: a candidate that had learned the two days that judge would find them all.
    assert seen[0].candidate.mean() < 1.0


def test_questions_have_the_session_so_far():
    """The history of a question has the acts before it in its session, the newest so many, and no other."""
    rows = shop()
    timeline = timeline_of(rows, SMALL)
    for number in range(0, len(timeline.asked), 17):
        row = timeline.asked[number]
        before = [
            at
            for at in range(row)
            if rows.session_id[at] == rows.session_id[row] and rows.time_ms[at] < rows.time_ms[row]
        ]
        begin, end = timeline.history.start[number : number + 2]
        assert timeline.history.row[begin:end].tolist() == timeline.item[before].tolist()


@pytest.mark.parametrize(
    "options",
    [
        replace(SMALL, judged_days=4),
        replace(SMALL, every_days=9),
        replace(SMALL, part=(0.0, 0.4)),
        replace(SMALL, share=1e-9),
    ],
)
def test_options_that_do_not_fit_are_refused(options):
    """With what came and what would be right."""
    with pytest.raises(Invalid, match=r"Fewer days|acts before|acts after"):
        evaluate_continuous(InteractionData("made", shop), options, lambda _: None)


@pytest.mark.quality
@pytest.mark.parametrize("name, least", [("eshop-clothing-2008", -0.002), ("online-retail", 0.001)])
def test_shared_data(name, least):
    """On the second quarter, where settings were chosen: the renewed and the gated model against the frozen one."""
    folder = data_folder(os.environ, Path(__file__).parents[2])
    if folder is None or not (folder / name).is_dir():
        reason = f"{name} is not there: {DATA_VARIABLE} names no folder that holds it, and none is beside the checkout"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    rows = REPLAY_SETS[name](folder)
    # item_knn is the quickest to fit; the figures of the page are those of ease.
    options = ContinuousOptions(
        "item_knn", every_days=14, part=(0.25, 0.5), share=0.1, with_live=False, resampling=Resampling(resamples=200)
    )
    report = evaluate_continuous(InteractionData(name, lambda: rows), options, lambda _: None)
    for each in report.ways:
        print(f"\n{name}, {report.questions} questions, {each.name}: NDCG@20 {each.ndcg}, less frozen {each.ndcg_gain}")
    assert report.questions > 2_000
    assert report.ways[1].ndcg_gain.low > least
    assert report.ways[2].ndcg_gain.low > least
