"""As of: what a question reads is what a request at its place in the log read, however the log is cut."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from midstream.core.durations import Duration
from midstream.core.types import LogPosition, Models, Query, TimestampMs
from midstream.events.schema import Event, build, cut
from midstream.features.as_of import (
    NO_TIME,
    FoldCursor,
    OutOfOrder,
    PointInTimeQuestion,
    as_of,
    candidates_of,
    gathered,
)
from midstream.features.declared import declared
from midstream.features.kinds.kinds import Count, Rate, Since, Statistic, UniqueCount, cells_of
from midstream.state.fold import Fold
from tests.support.events import START_MS, Stream, random_events, tiny_settings

ACTS = ("cart", "click", "view")
FEATURES = (
    Count(name="views", actions=("view",), windows=(Duration("1h"), Duration("2d")), half_life=(Duration("6h"),)),
    Count(name="mine", actions=ACTS, scope="user_item"),
    Count(name="kind", actions=ACTS, scope="user_attribute", attribute="category"),
    Count(name="session", actions=ACTS, scope="session"),
    Rate(name="rate", actions=("click",), per=("impression", "view")),
    UniqueCount(name="visitors", actions=ACTS, of="user"),
    Statistic(name="newest", actions=ACTS, statistic="last"),
    Since(name="since", actions=("view",)),
)
EVENTS = 3_000
QUESTIONS = 300
LOG = random_events(EVENTS, seed=11, stream=Stream(users=25, items=15, people_share=0.01))
ITEMS = (*(f"item-{number}" for number in range(12)), "never heard of")


def settings_of(features=FEATURES):
    """Settings whose maxima are met, with the cells of these features."""
    tiny = tiny_settings()
    limits = msgspec.structs.replace(tiny.limits, feature_user_items_max=40, feature_user_values_max=30)
    return msgspec.structs.replace(tiny, cells=cells_of(features, tiny.attributes), limits=limits)


SETTINGS = settings_of()
BLOCK = declared(FEATURES, SETTINGS.attributes)


def cut_by(step):
    """Return the log in batches of ``step`` events."""
    return [(LogPosition(first), cut(LOG, first, min(first + step, EVENTS))) for first in range(0, EVENTS, step)]


def query_of(rng, now=NO_TIME):
    """Return a question of somebody, with or without user and session."""
    user = f"user-{rng.integers(25)}" if rng.random() < 0.9 else None
    session = f"session-{rng.integers(60)}" if rng.random() < 0.5 else None
    return Query("", "home", user, session, 10, now, int(rng.integers(1 << 60)))


def questions_at_positions(seed):
    """Return questions at random log positions, in order, both ends among them."""
    rng = np.random.default_rng(seed)
    places = np.sort(np.concatenate(([0, EVENTS], rng.integers(0, EVENTS + 1, QUESTIONS))))
    return [
        PointInTimeQuestion(query_of(rng), tuple(rng.choice(ITEMS, 5, replace=False).tolist()), LogPosition(place), row)
        for row, place in enumerate(places.tolist())
    ]


def live(questions):
    """Return what each question reads of a fold that is given one event after another."""
    fold, found = Fold(SETTINGS), []
    for question in questions:
        while fold.log_position < question.log_position:
            fold.apply(fold.log_position, cut(LOG, fold.log_position, fold.log_position + 1))
        now = fold.log_time_ms if question.query.now_ms == NO_TIME else question.query.now_ms
        moment = fold.moment(replace(question.query, now_ms=TimestampMs(now)), Models({}))
        found.append(BLOCK.read(moment, candidates_of(fold, question.items)))
    return found


@pytest.mark.parametrize("step", [1, 7, 1_000])
def test_as_of_is_what_a_live_state_said(step):
    """At every position, of every kind of key, bit for bit, whatever the commits of the log were."""
    questions = questions_at_positions(seed=1)
    answers = list(as_of(FoldCursor(Fold(SETTINGS), cut_by(step)), questions, BLOCK.read))
    assert [answer.question for answer in answers] == questions
    assert [answer.log_position for answer in answers] == [question.log_position for question in questions]
    for answer, expected in zip(answers, live(questions), strict=True):
        assert answer.values.tobytes() == expected.tobytes()
    values = np.concatenate([answer.values for answer in answers])
    assert (np.nan_to_num(values) != 0).any(axis=0).all()  # no column says nothing


def test_as_of_a_time_sees_what_was_logged_before_it():
    """An event of the very millisecond is not seen; one of the millisecond before is."""
    times = LOG.rows["log_time_ms"].astype(np.int64)
    rng = np.random.default_rng(3)
    chosen = np.sort(np.concatenate((rng.choice(times, 100), rng.choice(times, 100) + 1, [times[0], times[-1] + 9])))
    questions = [
        PointInTimeQuestion(query_of(rng, TimestampMs(time)), ITEMS[:6], None, row)
        for row, time in enumerate(chosen.tolist())
    ]
    answers = list(as_of(FoldCursor(Fold(SETTINGS), cut_by(7)), questions, BLOCK.read))
    for answer in answers:
        assert answer.log_position == np.count_nonzero(times < answer.query.now_ms)
    placed = [replace(each, log_position=answer.log_position) for each, answer in zip(questions, answers, strict=True)]
    for answer, expected in zip(answers, live(placed), strict=True):
        assert answer.values.tobytes() == expected.tobytes()


def test_an_event_at_the_position_is_not_seen():
    """Of three views a question at position 2 counts two, and is asked at the time of the second."""
    views = [Event(1, action="view", user_id="u", item_id="a", log_time_ms=START_MS + each) for each in range(3)]
    block = declared((Count(name="views", actions=("view",)),), {})
    settings = settings_of((Count(name="views", actions=("view",)),))
    questions = [
        PointInTimeQuestion(Query("", "", "u", None, 1, NO_TIME, 0), ("a",), LogPosition(place)) for place in range(4)
    ]
    answers = list(as_of(FoldCursor(Fold(settings), [(LogPosition(0), build(views))]), questions, block.read))
    np.testing.assert_array_equal([answer.values[0, 0] for answer in answers], [np.nan, 1, 2, 3])
    assert [answer.query.now_ms for answer in answers] == [0, START_MS, START_MS + 1, START_MS + 2]


def test_a_time_with_the_position_is_when_it_is_asked():
    """A question that says both sees what the position says, and fading is as of its time."""
    views = [Event(1, action="view", user_id="u", item_id="a", log_time_ms=START_MS)]
    features = (Count(name="views", actions=("view",), half_life=(Duration("1h"),)),)
    later = TimestampMs(START_MS + 3_600_000)
    question = PointInTimeQuestion(Query("", "", "u", None, 1, later, 0), ("a",), LogPosition(1))
    cursor = FoldCursor(Fold(settings_of(features)), [(LogPosition(0), build(views))])
    (answer,) = as_of(cursor, [question], declared(features, {}).read)
    np.testing.assert_allclose(answer.values, [[0.5]], rtol=1e-3)  # the weights of fading are 4,096 steps an octave


def test_a_question_out_of_order_is_refused():
    """Whoever asks about a place that was passed is told so, by position and by time."""
    cursor = FoldCursor(Fold(SETTINGS), cut_by(1_000))
    cursor.to_position(LogPosition(1_500))
    with pytest.raises(OutOfOrder):
        cursor.to_position(LogPosition(1_499))
    with pytest.raises(OutOfOrder):
        cursor.to_time(cursor.fold.log_time_ms)
    cursor.to_time(cursor.fold.log_time_ms + 1)


def test_a_position_after_the_end_is_refused():
    """What is not there cannot be seen, and nobody is told otherwise."""
    with pytest.raises(ValueError, match="end at log position 3000"):
        FoldCursor(Fold(SETTINGS), cut_by(1_000)).to_position(LogPosition(EVENTS + 1))


def test_gathering_loses_nothing():
    """Commits of any size come out with the same events, in order, each batch where it begins."""
    found = list(gathered(cut_by(7)))
    assert [first for first, _ in found] == [0]
    assert found[0][1].rows["event_time_ms"].tobytes() == LOG.rows["event_time_ms"].tobytes()
    fold, other = Fold(SETTINGS), Fold(SETTINGS)
    FoldCursor(fold, cut_by(7)).to_position(LogPosition(EVENTS))
    other.apply(LogPosition(0), LOG)
    assert fold.digest() == other.digest()
