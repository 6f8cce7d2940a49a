"""Choosing settings: what is tried, what is chosen, what the file says."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Invalid, NotFound
from midstream.core.types import LogPosition, Models, Moment, Proposal, Query, TimestampMs
from midstream.evaluation.protocols import Exam, answers, listed
from midstream.evaluation.search import (
    Choice,
    SearchLimits,
    SearchTrial,
    best_of,
    search,
    with_options,
)
from midstream.evaluation.settings_file import read_settings, write_settings


class Guess(msgspec.Struct, frozen=True):
    """Proposes the numbers from ``start`` on: item 30 is placed the better, the nearer ``start`` is below it."""

    name: str = "guess"
    start: int = 0
    step: float = 1.0

    def retrieve(self, moment):
        """Propose 25 numbers."""
        items = (self.start + self.step * np.arange(25)).astype(np.int32)
        return Proposal(items, np.zeros(25, np.float32))


def exam(wanted=(30,), *, repeat=True, last=5):
    """Questions without a state behind them."""
    count = len(wanted)
    query = Query("", "", None, None, 20, TimestampMs(0), 0)
    nothing = np.empty(0, np.int32)
    moment = Moment(query, LogPosition(0), -1, 0, 0, nothing, {}, Models({}))
    return Exam(
        moments=[moment] * count,
        wanted=np.array(wanted, np.int32),
        later=[nothing] * count,
        last=np.full(count, last, np.int32),
        session=np.arange(count),
        place=np.zeros(count, np.intp),
        session_ids=[str(each) for each in range(count)],
        repeat=repeat,
    )


def test_options_are_tried_from_the_best_so_far():
    """The start that puts the wanted item first wins over its default, and the second option is tried on top of it."""
    trials = search(Guess(), exam(), {"start": (10, 20, 30), "step": (1.0, 2.0)})
    assert trials[0].options == {"start": 0, "step": 1.0}
    assert {"start": 30, "step": 2.0} in [trial.options for trial in trials]
    best = best_of(trials)
    assert best.options == {"start": 30, "step": 1.0}
    assert (best.hit_rate, best.mrr) == (1.0, 1.0)


@given(st.integers(1, 12))
def test_a_search_ends_at_its_maximum(trials_max):
    """No more is tried than is allowed, nothing is tried twice, and the best never falls when more is tried."""
    grid = {"start": (5, 11, 20, 30, 29), "step": (0.5, 1.0, 2.0)}
    told: list[SearchTrial] = []
    trials = search(Guess(), exam((30, 12, 7)), grid, SearchLimits(trials_max=trials_max), told.append)
    assert len(trials) <= trials_max
    assert told == list(trials)
    assert len({str(sorted(trial.options.items())) for trial in trials}) == len(trials)
    more = search(Guess(), exam((30, 12, 7)), grid, SearchLimits(trials_max=trials_max + 1))
    assert more[: len(trials)] == trials
    assert best_of(more).worth >= best_of(trials).worth


def test_the_earliest_of_equal_trials_is_chosen():
    """A change that gains nothing is not made."""
    assert best_of([SearchTrial({}, 0.5, 0.2), SearchTrial({"start": 1}, 0.4, 0.25)]).options == {}


def test_options_that_do_not_exist_are_all_named():
    """Both wrong names are in the error, beside the ones that are right."""
    with pytest.raises(Invalid) as caught:
        with_options(Guess(), {"stat": 1, "stop": 2})
    assert [fault.came for fault in caught.value.faults] == [
        'guess has no option "stat"',
        'guess has no option "stop"',
    ]
    with pytest.raises(Invalid, match=r"options\.start"):
        with_options(Guess(), {"start": "ten"})


def test_a_settings_file_reads_back_and_a_broken_one_is_named(tmp_path):
    """What was written is what is read, floats to the last bit; a missing or foreign file is an error of its own."""
    trials = search(Guess(), exam((30, 12, 7)), {"start": (5, 11)})
    choice = Choice("data", "validation", 3, 20, {"session_gap": "1d"}, best_of(trials), trials)
    path = tmp_path / "folder" / "settings.json"
    write_settings(path, choice)
    assert read_settings(path, Choice) == choice
    with pytest.raises(NotFound):
        read_settings(tmp_path / "none.json", Choice)
    path.write_text('{"data": 3}')
    with pytest.raises(Invalid, match=r"settings\.json"):
        read_settings(path, Choice)


@given(st.lists(st.integers(0, 9), unique=True, max_size=9), st.integers(-1, 9), st.integers(1, 5), st.booleans())
def test_the_last_item_is_taken_out_and_the_next_moves_up(items, last, k, repeat):
    """Where it may not come again, a list is the first k of the others, in order."""
    others = [item for item in items if repeat or item != last]
    assert listed(np.array(items, np.int32), last, k, repeat=repeat).tolist() == others[:k]


def test_short_lists_are_filled_up():
    """A source that proposes fewer items than asked for leaves -1 behind them."""
    lists = answers(Guess(), exam(last=0, repeat=False), k=30)
    assert lists.tolist() == [[*range(1, 25), *[-1] * 6]]
