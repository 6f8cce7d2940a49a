"""A blend that is fitted: judged as it would serve, bounded, never worse than where the search began."""

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.app.config.schema import Config, Placement
from midstream.app.wiring import plans
from midstream.core.durations import Duration
from midstream.core.errors import Invalid
from midstream.core.types import LogPosition, Models, Query, TimestampMs
from midstream.evaluation import blend_report
from midstream.evaluation.blend_fit import WEIGHT_MAX, WEIGHT_MIN, FittedBlend, alone, bounded, figures, fit_blend
from midstream.evaluation.blend_report import Contest, evenly, fit_next_item, fit_replay
from midstream.evaluation.data.importing import DATA_SETTINGS
from midstream.evaluation.data.interactions import InteractionTable, events
from midstream.evaluation.data.session_data import NextItemData, Split
from midstream.evaluation.replay import ReplayOptions, run_replay
from midstream.evaluation.settings_file import read_settings
from midstream.evaluation.source_proposals import BallotBox, Ballots
from midstream.ranking.pipeline import recommend
from midstream.ranking.scorers.blend import Blend
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.popular import Popular
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.trending import Trending
from midstream.state.fold import Fold

START_MS = 1_750_000_000_000


def clicks(seed: int, sessions: int = 60) -> InteractionTable:
    """Sessions that walk along a circle of 30 items."""
    stream = np.random.default_rng(seed)
    length = stream.integers(2, 7, sessions)
    first = np.repeat(stream.integers(0, 30, sessions), length)
    step = np.concatenate([np.arange(count) for count in length]) + stream.integers(0, 2, int(length.sum()))
    session = np.repeat(np.arange(sessions), length).astype(np.str_)
    return InteractionTable(
        user_id=np.full(len(session), "", dtype=np.str_),
        session_id=session,
        item_id=((first + step) % 30).astype(np.str_),
        action=np.full(len(session), "click"),
        time_ms=START_MS + np.arange(len(session)) * 60_000,
    )


@given(
    st.integers(0, 1_000),
    st.dictionaries(st.sampled_from(("session_knn", "trending", "popular")), st.floats(0.001, 5.0)),
    st.sampled_from((0.5, 3.0, 60.0)),
)
@settings(max_examples=25, deadline=None)
def test_places_are_those_of_the_pipeline(seed, weights, offset):
    """What is fitted is what serves: the whole pipeline puts the right item exactly where the ballots say."""
    rows = clicks(seed, 25)
    fold = Fold(DATA_SETTINGS)
    fold.apply(LogPosition(0), events(rows))
    sources = (SessionKnn(), Trending(), Popular())
    placement = Placement(weights=weights, rank_offset=offset, repeats="any", sources=sources)
    plan = plans(Config(placements=(placement,)))["default"]
    box, expected = BallotBox(sources, repeat=True), []
    for number in range(0, len(rows) - 1, 7):
        item = int(fold.vocabulary.item_index(str(rows.item_id[number + 1])))
        query = Query("", "default", None, None, 30, TimestampMs(START_MS), 0, items=(str(rows.item_id[number]),))
        box.add(fold.moment(query, Models({})), item, -1)
        served = asyncio.run(recommend(plan, lambda asked: fold.moment(asked, Models({})), query, lambda: math.inf))
        order = served.candidates.item_index[served.selection.chosen].tolist()
        expected.append(order.index(item))
    found = box.counted().places(Blend(weights=weights, rank_offset=offset))
    assert found.tolist() == expected


def ballots(seed: int, questions: int = 80) -> Ballots:
    """Two sources: a good one, and one that is right where the first is wrong, second places included."""
    stream = np.random.default_rng(seed)
    rank, wanted, start = [], [], [0]
    for question in range(questions):
        order = np.array([stream.permutation(30), stream.permutation(30)], dtype=np.float32).T
        right = int(stream.integers(30))
        column = int(question % 3 == 0)
        low = np.flatnonzero(order[:, column] == 0)[0]
        order[[low, right], column] = order[[right, low], column]
        order[order >= 25] = np.nan
        order[right, column] = 0.0
        rank.append(order)
        wanted.append(start[-1] + right)
        start.append(start[-1] + 30)
    return Ballots(("a", "b"), np.concatenate(rank), np.array(start), np.array(wanted))


@given(st.integers(0, 1_000))
@settings(max_examples=10, deadline=None)
def test_the_fit_is_never_worse_than_its_beginning(seed):
    """It is at least as good as what the placement had and as equal weights, and better than each part here."""
    votes = ballots(seed)
    best, before, trials = fit_blend(votes, Blend(weights={"a": 0.1, "b": 5.0}))
    assert best.worth >= before.worth
    assert best.worth > max(hit_rate * mrr for hit_rate, mrr in alone(votes).values())
    assert trials > 10
    assert max(best.weights.values()) <= WEIGHT_MAX


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=6).filter(lambda each: sum(each) > 0))
def test_weights_are_bounded(weights):
    """They sum to 1, none is above 0.9 or nothing, and more stays more."""
    found = bounded(weights)
    assert sum(found) == pytest.approx(1.0, abs=0.001)
    if len(weights) == 1:
        assert found == [1.0]
        return
    assert max(found) <= WEIGHT_MAX
    assert min(found) >= WEIGHT_MIN - 0.0001
    order = np.argsort(weights, kind="stable")
    assert all(a <= b + 1e-9 for a, b in zip(np.array(found)[order], np.array(found)[order][1:], strict=False))


def test_a_part_by_itself_is_counted_without_the_last_item():
    """Where the last act's item was taken out of a list, what stood behind it moves up."""
    rank = np.array([[0.0], [2.0], [3.0]], dtype=np.float32)
    votes = Ballots(("a",), rank, np.array([0, 3]), np.array([1]))
    assert votes.places_in("a").tolist() == [1]
    assert Ballots(("a",), rank, np.array([0, 3]), np.array([-1])).places_in("a").tolist() == [-1]


@pytest.mark.parametrize("count, most", [(0, 5), (4, 5), (5, 5), (6, 5), (1_000, 7)])
def test_questions_are_taken_evenly(count, most):
    """As many as may be, each once and in order, with the first and the last, and nearly equal steps between them."""
    numbers = evenly(count, most)
    assert len(numbers) == min(count, most)
    if count:
        assert (numbers[0], numbers[-1]) == (0, count - 1)
        steps = np.diff(numbers)
        assert steps.min() >= 1
        assert steps.max() - steps.min() <= 1


SOURCES = (SessionKnn(), Trending(), Popular())


def fitted_on(kind, path, sources=SOURCES):
    """A report by one of the two protocols, with the weights in ``path``."""
    rows = clicks(5, 90)
    if kind == "replay":
        return fit_replay("walk", rows, Contest(sources), path)
    border = len(rows) // 2
    data = NextItemData(
        "walk",
        lambda: Split(rows.take(slice(0, border)), clicks(6, 40)),
        lambda: Split(rows, clicks(7, 70)),
        repeat=False,
    )
    return fit_next_item(data, Contest(sources), path)


@pytest.mark.parametrize("kind", ["replay", "next-item"])
def test_what_sources_propose_is_kept_for_few_questions(kind, tmp_path, monkeypatch):
    """However many questions there are: no more than the maximum are asked to fit, no lot is larger than its own."""
    whole = fitted_on(kind, tmp_path / "whole.json")
    sizes: list[int] = []

    class Watched(BallotBox):
        """Notes how many questions it is asked to keep."""

        def add(self, moment, wanted, last):
            """As ever."""
            super().add(moment, wanted, last)
            sizes.append(len(self))

    monkeypatch.setattr(blend_report, "BallotBox", Watched)
    monkeypatch.setattr(blend_report, "LOT_QUESTIONS_MAX", 7)
    assert fitted_on(kind, tmp_path / "whole.json") == whole
    assert max(sizes) == 7
    assert len(sizes) == whole.questions
    sizes.clear()
    monkeypatch.setattr(blend_report, "QUESTIONS_MAX", 20)
    few = fitted_on(kind, tmp_path / "few.json")
    assert few.fit.questions == max(sizes) == 20
    assert len(sizes) == 20 + whole.questions
    assert whole.fit.questions > 20


def test_few_questions_are_those_that_were_chosen(tmp_path, monkeypatch):
    """A fit on some of the questions has the places of just those, evenly taken."""
    rows, votes = clicks(5, 90), BallotBox(SOURCES)
    monkeypatch.setattr(blend_report, "QUESTIONS_MAX", 20)
    fit = fit_replay("walk", rows, Contest(SOURCES), tmp_path / "few.json").fit
    first = rows.take(slice(0, int(len(rows) / 3)))
    options = ReplayOptions(observe=lambda moment, _, wanted, last: votes.add(moment, wanted, last))
    run_replay("walk", first, {}, options)
    every = votes.counted()
    chosen = np.linspace(0, len(every) - 1, 20).astype(int)
    assert fit.alone == {name: figures(every.places_in(name)[chosen]) for name in every.names}


@pytest.mark.parametrize("kind", ["replay", "next-item"])
def test_weights_of_other_sources_are_refused(kind, tmp_path):
    """A file that was fitted for more, fewer or other sources, or other options, is named with what differs."""
    path = tmp_path / "blend.json"
    fitted_on(kind, path)
    before = path.read_bytes()
    for other, came in (
        ((*SOURCES, Covisitation()), "the placement has covisitation, popular, session_knn, trending"),
        (SOURCES[:-1], "Fitted for popular, session_knn, trending"),
        ((SessionKnn(), Trending(half_life=Duration("7d")), Popular()), "other options of trending"),
    ):
        with pytest.raises(Invalid, match=came) as told:
            fitted_on(kind, path, other)
        assert all((told.value.faults[0].where, told.value.faults[0].right, told.value.faults[0].page))
    assert path.read_bytes() == before


def test_a_replay_is_fitted_on_its_first_third_alone(tmp_path):
    """The settings are on file before the rest is asked, what is on file is used as it is, and all parts are judged."""
    rows = clicks(5, 90)
    contest = Contest((SessionKnn(), Trending(), Popular()))
    path = tmp_path / "blend.json"
    report = fit_replay("walk", rows, contest, path)
    fit = read_settings(path, FittedBlend)
    assert fit == report.fit
    assert {each.name for each in report.parts} == {"session_knn", "trending", "popular", "blend before", "blend"}
    counts = {each.name: each.mrr_difference.tests_count for each in report.parts}
    assert {name: count for name, count in counts.items() if count != 8} == {report.best_part: 1}
    cut = int(len(rows) / 3)
    other = InteractionTable(
        rows.user_id,
        rows.session_id,
        np.where(np.arange(len(rows)) < cut, rows.item_id, "x"),
        rows.action,
        rows.time_ms,
    )
    second = tmp_path / "second.json"
    fit_replay("walk", other, contest, second)
    assert read_settings(second, FittedBlend) == fit
    assert fit_replay("walk", rows, contest, path) == report


def test_nothing_to_fit_is_refused():
    """Without a question there is no best blend."""
    empty = Ballots(("a",), np.empty((0, 1), np.float32), np.array([0]), np.empty(0, np.int64))
    with pytest.raises(Invalid, match="One question"):
        fit_blend(empty, Blend())
