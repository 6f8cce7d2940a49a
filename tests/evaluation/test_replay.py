"""Test, then learn: no method sees the future, and the state at the end is that of an import."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.app.config.schema import Config, Placement
from midstream.app.wiring import plans
from midstream.evaluation.data.importing import DATA_SETTINGS, folded
from midstream.evaluation.data.interactions import InteractionTable, by_time
from midstream.evaluation.metrics.statistics import Resampling
from midstream.evaluation.replay import ReplayOptions, asking_plan, asking_source, run_replay
from midstream.retrieval.popular import Popular
from midstream.retrieval.session_knn import SessionKnn

ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("wxyz"), st.integers(0, 50)), min_size=1, max_size=25)
QUICK = ReplayOptions(k=3, resampling=Resampling(resamples=100))


def interactions(rows):
    """Rows of (session, item, time), by time."""
    return by_time(
        InteractionTable(
            user_id=np.full(len(rows), ""),
            session_id=np.array([row[0] for row in rows], dtype=np.str_),
            item_id=np.array([row[1] for row in rows], dtype=np.str_),
            action=np.full(len(rows), "click"),
            time_ms=np.array([row[2] for row in rows], dtype=np.int64),
        )
    )


async def knows_nothing(*_):
    """Propose nothing."""
    return np.empty(0, np.int32)


@settings(max_examples=15)
@given(ROWS)
def test_every_act_but_the_first_of_a_session_is_guessed_before_it_is_folded(rows):
    """At each question the state holds exactly the rows before it, and the session is as the rows before say."""
    columns = interactions(rows)
    seen: list[tuple[int, str, list[str]]] = []

    async def watch(fold, query):
        recent = fold.moment(query, plan.models).recent_item_index
        seen.append((fold.log_position, query.session_id, fold.vocabulary.item_ids(recent)))
        return np.empty(0, np.int32)

    plan = plans(Config())["default"]
    report = run_replay("rows", columns, {"watch": watch}, QUICK)
    ordered = list(zip(columns.session_id.tolist(), columns.item_id.tolist(), strict=True))
    expected = []
    for row, (session, _) in enumerate(ordered):
        before = [item for other, item in ordered[:row] if other == session]
        if before:
            expected.append((row, session, before))
    assert seen == expected
    assert report.questions == len(expected)
    assert report.rows == len(rows)
    assert report.digest == folded(columns, DATA_SETTINGS).digest()


@settings(max_examples=15)
@given(ROWS, st.booleans())
def test_a_method_that_knows_the_future_is_right_and_one_that_knows_nothing_is_wrong(rows, repeat):
    """Figures are the share of questions whose item is known by then, and 0; repeats count only where allowed."""
    columns = interactions(rows)
    ordered = list(zip(columns.session_id.tolist(), columns.item_id.tolist(), strict=True))

    async def oracle(fold, _):
        return np.array([fold.vocabulary.item_index(ordered[fold.log_position][1])], np.int32)

    options = ReplayOptions(k=3, repeat=repeat, resampling=Resampling(resamples=100))
    methods = {"nothing": knows_nothing, "oracle": oracle}
    report = run_replay("rows", columns, methods, options)
    right = []
    for row, (session, item) in enumerate(ordered):
        before = [other for owner, other in ordered[:row] if owner == session]
        if before:
            known = any(other == item for _, other in ordered[:row])
            right.append(known and (repeat or before[-1] != item))
    nothing, found = report.methods
    assert (nothing.name, found.name) == ("nothing", "oracle")
    if right:
        assert nothing.hit_rate.mean == 0
        assert found.hit_rate.mean == found.mrr.mean == pytest.approx(np.mean(right))
        assert found.hit_rate_difference.mean == pytest.approx(np.mean(right))
        assert found.hit_rate_difference.p_value_corrected == found.hit_rate_difference.p_value


def test_the_engine_learns_while_it_is_tested():
    """In a shop where each item leads to one other, session kNN and the whole plan get better; popularity does not.

    Both ways of asking go through the engine: a source alone, and a placement with filters, blend and selector.
    """
    rng = np.random.default_rng(3)
    rows = [
        (f"s{number}", f"i{(start + step) % 50}", 100_000 * number + step)
        for number, start in enumerate(rng.integers(0, 50, 250).tolist())
        for step in range(4)
    ]
    knn = SessionKnn(same_item=0.1)  # nobody comes back in this shop
    methods = {
        "popular": asking_source(Popular()),
        "session_knn": asking_source(knn),
        "blend": asking_plan(plans(Config(placements=(Placement(sources=(knn, Popular())),)))["default"], Counter()),
    }
    told: list[int] = []
    options = ReplayOptions(k=3, parts=5, resampling=Resampling(resamples=200), advance=told.append)
    report = run_replay("walks", interactions(rows), methods, options)
    popular, alone, blend = report.methods
    assert report.questions == 750
    for learning in (alone, blend):
        assert learning.hit_rate_over_time[-1] > 0.95 > learning.hit_rate_over_time[0]
        assert learning.hit_rate_difference.low > 0.3
    assert popular.hit_rate.mean < 0.2
    assert sum(told) == len(rows)


def test_a_replay_may_end_early():
    """Only the first rows are replayed, and the report says how many."""
    rows = [("a", "w", 1), ("a", "x", 2), ("a", "y", 3)]
    report = run_replay("rows", interactions(rows), {"nothing": knows_nothing}, ReplayOptions(rows_max=2))
    assert (report.rows, report.questions) == (2, 1)


@settings(max_examples=15)
@given(ROWS, st.integers(0, 30))
def test_rows_before_the_first_asked_are_only_learned(rows, asked_from):
    """Nobody is asked about them, all the others are asked as ever, and the state at the end is that of all rows."""
    columns = interactions(rows)
    seen: list[int] = []

    async def watch(fold, _):
        seen.append(fold.log_position)
        return np.empty(0, np.int32)

    run_replay("rows", columns, {"watch": watch}, QUICK)
    expected = [row for row in seen if row >= asked_from]
    seen.clear()
    report = run_replay("rows", columns, {"watch": watch}, replace(QUICK, asked_from=asked_from))
    assert seen == expected
    assert (report.rows, report.asked_from, report.questions) == (len(rows), asked_from, len(expected))
    assert report.digest == folded(columns, DATA_SETTINGS).digest()


@settings(max_examples=15)
@given(ROWS, st.sets(st.integers(0, 25), max_size=3))
def test_a_state_that_learns_now_and_then_is_told_of_the_session(rows, edges):
    """At each question the state holds the rows before the last edge, and the session is whole all the same."""
    columns = interactions(rows)
    seen: list[tuple[int, int]] = []

    async def watch(fold, query):
        recent = fold.moment(query, plan.models).recent_item_index
        seen.append((fold.log_position, len(recent)))
        return np.empty(0, np.int32)

    plan = plans(Config())["default"]
    learned_at = tuple(sorted(edges))
    run_replay("rows", columns, {"watch": watch}, replace(QUICK, learned_at=learned_at))
    sessions, items = columns.session_id.tolist(), columns.item_id.tolist()
    expected = []
    for row, session in enumerate(sessions):
        learned = max((edge for edge in learned_at if edge <= row), default=0)
        before = [items[at] for at in range(row) if sessions[at] == session]
        if before:
            # An item that the state has never met is nothing to it.
            expected.append((learned, sum(item in items[:learned] for item in before)))
    assert seen == expected
