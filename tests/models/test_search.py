"""A search for settings: within its space and budget, the same by its seed, and gone on with from its file."""

import pytest

from midstream.core.errors import Fault, Invalid
from midstream.models.kinds import Range, Space
from midstream.models.search import SearchBudget, best_tried, search_space

optuna = pytest.importorskip("optuna")

SPACE: Space = {"factors": Range(4, 64, log=True, whole=True), "weight": Range(0.0, 1.0), "once": (True, False)}


def worth(options):
    """Best at 16 factors, a weight of 0.25, and once."""
    return -abs(options["factors"] - 16) / 16 - abs(options["weight"] - 0.25) + options["once"]


def test_a_search_keeps_to_its_space_and_its_trials(tmp_path):
    """The first trials are those named; all others are within the ranges; no more are made than allowed."""
    named: dict[str, int | float | bool | str] = {"factors": 60, "weight": 0.9, "once": False, "other": 3}
    first = [named, {**named, "factors": 8}]
    tried = search_space(worth, SPACE, tmp_path / "deep" / "journal", SearchBudget(trials_max=15), first)
    assert len(tried) == 15
    assert tried[0].options == {"factors": 60, "weight": 0.9, "once": False}
    assert tried[1].options == {"factors": 8, "weight": 0.9, "once": False}
    for each in tried:
        assert each.worth == worth(each.options)
        assert isinstance(each.options["factors"], int)
        assert 4 <= float(each.options["factors"]) <= 64
        assert 0.0 <= float(each.options["weight"]) <= 1.0
    assert best_tried(tried).worth == max(each.worth for each in tried)


def test_a_search_is_decided_by_its_seed(tmp_path):
    """Two searches of one seed try the same, one of another seed does not."""
    found = [
        search_space(worth, SPACE, tmp_path / name, SearchBudget(trials_max=5, seed=seed))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    ]
    assert found[0] == found[1] != found[2]


def test_a_search_that_was_broken_off_goes_on(tmp_path):
    """What was finished is not tried again, and counts; a trial that raised is none."""
    journal = tmp_path / "journal"
    asked: list[dict[str, object]] = []

    def breaks(options):
        asked.append(options)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return worth(options)

    with pytest.raises(KeyboardInterrupt):
        search_space(breaks, SPACE, journal, SearchBudget(trials_max=10))
    tried = search_space(worth, SPACE, journal, SearchBudget(trials_max=6))
    assert len(tried) == 6
    assert [each.options for each in tried[:3]] == asked[:3]
    assert search_space(worth, SPACE, journal, SearchBudget(trials_max=6)) == tried


def test_options_named_later_are_tried_next_and_once(tmp_path):
    """A journal that goes on takes them before what it would have tried; what it holds is not tried again."""
    journal = tmp_path / "journal"
    first: list[dict[str, int | float | bool | str]] = [{"factors": 60, "weight": 0.9, "once": False}]
    begun = search_space(worth, SPACE, journal, SearchBudget(trials_max=2), first)
    first.append({"factors": 16, "weight": 0.25, "once": True})
    tried = search_space(worth, SPACE, journal, SearchBudget(trials_max=4), first)
    assert tried[:2] == begun
    assert [each.options for each in tried].count(first[0]) == 1
    assert tried[2].options == first[1]


@pytest.mark.parametrize("broken_at", [0, 1])
def test_options_named_whose_trial_was_killed_are_tried_by_the_next_search(tmp_path, broken_at):
    """Before all others, and once; a trial that no time was left for waits."""
    first: list[dict[str, int | float | bool | str]] = [
        {"factors": 60, "weight": 0.9, "once": False},
        {"factors": 16, "weight": 0.25, "once": True},
    ]
    asked: list[dict[str, object]] = []

    def breaks(options):
        asked.append(options)
        if len(asked) == broken_at + 1:
            raise KeyboardInterrupt
        return worth(options)

    with pytest.raises(KeyboardInterrupt):
        search_space(breaks, SPACE, tmp_path / "journal", SearchBudget(trials_max=3), first)
    assert len(search_space(worth, SPACE, tmp_path / "journal", SearchBudget(seconds_max=1e-9), first)) == broken_at
    tried = search_space(worth, SPACE, tmp_path / "journal", SearchBudget(trials_max=3), first)
    assert sorted(each.worth for each in tried[:2]) == sorted(map(worth, first))
    assert [each.options for each in search_space(worth, SPACE, tmp_path / "journal", SearchBudget(4), first)].count(
        first[0]
    ) == 1


def test_options_named_outside_the_space_are_drawn_inside(tmp_path):
    """A space may be another one than that under which they were chosen."""
    first: list[dict[str, int | float | bool | str]] = [{"factors": 100, "weight": 0.9, "once": "maybe"}]
    (tried,) = search_space(worth, SPACE, tmp_path / "journal", SearchBudget(trials_max=1), first)
    assert tried.options["weight"] == 0.9
    assert 4 <= float(tried.options["factors"]) <= 64
    assert tried.options["once"] in (True, False)


def test_a_search_that_goes_on_draws_nothing_again(tmp_path):
    """However often it is broken off: no options are tried twice."""
    space: Space = {"weight": Range(0.0, 1.0)}

    def searched(trials):
        return search_space(lambda options: float(options["weight"]), space, tmp_path / "journal", SearchBudget(trials))

    assert [len(searched(trials)) for trials in (2, 4, 7)] == [2, 4, 7]
    assert len({each.options["weight"] for each in searched(12)}) == 12


def test_no_trial_is_begun_after_the_time(tmp_path):
    """A budget of no time allows none; the next search with time does them all."""
    assert search_space(worth, SPACE, tmp_path / "journal", SearchBudget(seconds_max=1e-9)) == ()
    assert len(search_space(worth, SPACE, tmp_path / "journal", SearchBudget(trials_max=2))) == 2


def test_trials_of_another_question_are_not_gone_on_with(tmp_path):
    """In one journal too; nor are those of another space."""
    journal, budget = tmp_path / "journal", SearchBudget(trials_max=3)
    ours = search_space(worth, SPACE, journal, budget, question="NDCG@10 of shop")
    theirs = search_space(lambda options: -worth(options), SPACE, journal, budget, question="NDCG@20 of shop")
    assert [each.worth for each in theirs] == [-worth(each.options) for each in theirs]
    other = search_space(worth, {**SPACE, "weight": Range(2.0, 3.0)}, journal, budget, question="NDCG@10 of shop")
    assert len(ours) == len(theirs) == len(other) == 3
    assert all(float(each.options["weight"]) >= 2.0 for each in other)


def test_options_without_an_answer_are_a_trial_that_failed(tmp_path):
    """The search goes on; it counts, so a space of nothing else ends; then there is no best."""

    def fails(options):
        if options["once"]:
            raise Invalid((Fault("$.once", "no answer", "false", "/docs/models.md"),))
        return worth(options)

    budget = SearchBudget(trials_max=12)
    tried = search_space(fails, SPACE, tmp_path / "journal", budget)
    assert 0 < len(tried) < 12
    assert not any(each.options["once"] for each in tried)
    assert search_space(fails, SPACE, tmp_path / "journal", budget) == tried
    none = search_space(fails, {**SPACE, "once": (True,)}, tmp_path / "journal", SearchBudget(trials_max=3))
    assert none == ()
    with pytest.raises(Invalid, match="No trial"):
        best_tried(none)
