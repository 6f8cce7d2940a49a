"""A training says whether what it fitted is better than what is in service, on questions that neither has learned."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from midstream.app.training.champion_comparison import (
    Champion,
    ChampionComparison,
    champion_of,
    compare_items,
    compare_rows,
)
from midstream.app.training.fit import Trained
from midstream.cli.models.train import next_steps
from midstream.events.segments.log_identity import identity_of
from midstream.models.artifact.artifact import Window
from midstream.models.histories import Histories
from midstream.models.rows.examples import Examples
from midstream.models.vocabulary import ItemVocabulary
from midstream.training.datasets import Acts
from midstream.training.registry import LoadedVersion, Registry

REQUESTS, SIZE = 60, 4
LOG = identity_of(bytes(range(16)), 0)


class Column:
    """Scores rows by one of their columns, or by its opposite."""

    def __init__(self, name, sign=1.0, inputs=("price", "views")):
        self.inputs, self.column, self.sign = inputs, inputs.index(name), sign

    def score(self, values):
        return (self.sign * values[:, self.column]).astype(np.float32)


class Order:
    """Recommends the items of a vocabulary in a given order, whoever asks."""

    def __init__(self, ids, best):
        self.vocabulary = ItemVocabulary.of(ids)
        self.best = np.array([best.index(each) for each in ids], dtype=np.float32)

    def scores(self, histories):
        return np.tile(-self.best, (len(histories), 1))


def ranker(*arguments, **named) -> Any:
    """A row model, as far as it is asked."""
    return Column(*arguments, **named)


def lists(ids, best) -> Any:
    """An item model, as far as it is asked."""
    return Order(ids, best)


def in_service(model, **window):
    """A version in service that was fitted on a part of the log."""
    manifest = cast("Any", msgspec.defstruct("Manifest", [("window", Window)])(Window(LOG.public_name, **window)))
    return Champion("0001-a", LoadedVersion("clicks", "0001-a", manifest, "", model))


@pytest.fixture
def later():
    """Requests of which the dearest row was clicked, a millisecond apart."""
    rng = np.random.default_rng(4)
    values = rng.permuted(np.tile(np.arange(SIZE, dtype=np.float32), (2 * REQUESTS, 1)), axis=1)
    price, views = values[:REQUESTS].ravel(), values[REQUESTS:].ravel()
    rows = Examples.of_rows(
        ("views", "price"), np.stack([views, price], axis=1), (price == SIZE - 1).astype(np.float32)
    )
    return replace(
        rows,
        start=np.arange(0, REQUESTS * SIZE + 1, SIZE, dtype=np.int64),
        time_ms=np.arange(REQUESTS, dtype=np.int64),
    )


def test_what_orders_better_is_better_and_the_other_way_round_worse(later):
    """Columns are found by name: the champion reads them in another order."""
    good, poor = ranker("price", inputs=later.names), ranker("views", inputs=later.names)
    found = compare_rows(in_service(ranker("views"), end_ms=-1), good, later)
    assert (found.verdict, found.metric, found.questions) == ("better", "NDCG@10", REQUESTS)
    assert found.mean is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.mean <= found.high
    assert compare_rows(in_service(ranker("price"), end_ms=-1), poor, later).verdict == "worse"
    same = compare_rows(in_service(ranker("price"), end_ms=-1), good, later)
    assert (same.verdict, same.mean) == ("open", 0.0)


@pytest.mark.parametrize("questions, verdict", [(6, "open"), (29, "open"), (30, "better")])
def test_few_questions_leave_it_open(later, questions, verdict):
    """However far apart both are: of few questions the interval is too narrow."""
    good = ranker("price", inputs=later.names)
    champion = in_service(ranker("price", -1.0), end_ms=REQUESTS - questions - 1)
    found = compare_rows(champion, good, later)
    assert (found.questions, found.verdict) == (questions, verdict)
    assert ("too few to tell" in str(found)) == (verdict == "open")


def test_a_difference_that_chance_gives_too_is_open():
    """An interval that leaves out 0 is not enough."""
    assert msgspec.structs.replace(BESIDE, p_value=0.05).verdict == "open"
    assert BESIDE.verdict == "better"


def test_what_the_champion_has_learned_asks_nothing(later):
    """It would know the answers: only requests after its own count."""
    good = ranker("price", inputs=later.names)
    assert compare_rows(in_service(ranker("views"), end_ms=39), good, later).questions == REQUESTS - 40
    none = compare_rows(in_service(ranker("views"), end_ms=REQUESTS), good, later)
    assert none.verdict == "unknown"
    assert "has learned all requests" in none.why_not


def test_a_champion_that_cannot_be_asked_says_why(later, tmp_path: Path):
    """A column that is gone, another kind, another log, a version that is not there."""
    good = ranker("price", inputs=later.names)
    gone = compare_rows(in_service(ranker("stock", inputs=("stock", "price")), end_ms=-1), good, later)
    assert "reads stock" in gone.why_not
    assert "a ranker" in compare_rows(in_service(lists(["a"], ["a"])), good, later).why_not
    missing = champion_of(Registry(tmp_path), "clicks", "0001-a", LOG)
    assert "cannot be loaded" in compare_rows(missing, good, later).why_not
    assert champion_of(Registry(tmp_path), "clicks", "", LOG).cannot().champion == ""


@pytest.fixture
def acts():
    """Users who each viewed item a, and then b."""
    users = 40
    return Acts(
        vocabulary=ItemVocabulary.of(["a", "b", "c"]),
        owner=np.tile(np.arange(users), 2).astype(np.uint64),
        item=np.repeat([0, 1], users).astype(np.int32),
        weight=np.ones(2 * users, dtype=np.float32),
        position=np.arange(2 * users, dtype=np.int64),
        time_ms=np.arange(2 * users, dtype=np.int64),
        log_time_ms=(0, 2 * users),
        left_out={},
    )


def test_item_models_of_different_vocabularies_answer_the_same_questions(acts):
    """The champion knows other items, in another order, and one of those that were acted on not at all."""
    good, poor = lists(["a", "b", "c"], ["b", "c", "a"]), lists(["a", "b", "c"], ["c", "a", "b"])
    first = len(acts) // 2
    told: Any = {"acts": acts, "first": first, "history_acts_max": 10, "by_session": False}
    found = compare_items(in_service(lists(["d", "c", "b"], ["d", "c", "b"]), end=first), good, **told)
    assert (found.verdict, found.metric, found.questions) == ("better", "NDCG@20", first)
    assert compare_items(in_service(lists(["b", "a"], ["b", "a"]), end=first), poor, **told).verdict == "worse"
    equal = compare_items(in_service(lists(["c", "b", "a"], ["b", "c", "a"]), end=first), good, **told)
    assert (equal.verdict, equal.mean) == ("open", 0.0)
    none = compare_items(in_service(good, end=len(acts)), good, **told)
    assert "has learned all acts" in none.why_not


def test_users_who_come_back_are_drawn_whole():
    """One likes the first ranker better, another the second: of 40 worlds without a difference half would show
    one by request.
    """
    dice, users, times, alarms = np.random.default_rng(4), 12, 10, 0
    count = users * times * SIZE
    for _ in range(40):
        owner = np.repeat(np.arange(users), times)
        likes = np.repeat(dice.normal(0.0, 3.0, users)[owner], SIZE)
        values = dice.normal(size=(count, 2)).astype(np.float32)
        wanted = values[:, 0] * likes - values[:, 1] * likes + dice.normal(size=count)
        label = np.zeros(count, dtype=np.float32)
        label[np.arange(0, count, SIZE) + wanted.reshape(-1, SIZE).argmax(axis=1)] = 1
        rows = replace(
            Examples.of_rows(("views", "price"), values, label),
            start=np.arange(0, count + 1, SIZE, dtype=np.int64),
            time_ms=np.arange(users * times, dtype=np.int64),
            owner=owner.astype(np.uint64),
        )
        judged = ranker("price", inputs=rows.names)
        alarms += compare_rows(in_service(ranker("views"), end_ms=-1), judged, rows).verdict != "open"
    assert alarms <= 6


def test_sessions_of_several_questions_are_drawn_whole():
    """Each goes on with items of one half, and each model knows one half: none of two equal ones is better."""
    dice, sessions, length, alarms = np.random.default_rng(5), 12, 8, 0
    ids = [f"i{each}" for each in range(20)]
    even, odd = ids[::2] + ids[1::2], ids[1::2] + ids[::2]
    for _ in range(40):
        half = dice.integers(0, 2, (sessions, 1))
        items = 2 * np.stack([dice.permutation(10)[:length] for _ in range(sessions)]) + half
        count = items.size
        acts = Acts(
            vocabulary=ItemVocabulary.of(ids),
            owner=np.repeat(np.arange(sessions), length).astype(np.uint64),
            item=items.ravel().astype(np.int32),
            weight=np.ones(count, dtype=np.float32),
            position=np.arange(count, dtype=np.int64),
            time_ms=np.arange(count, dtype=np.int64),
            log_time_ms=(0, count),
            left_out={},
        )
        champion = in_service(lists(ids, even), end=0)
        alarms += compare_items(champion, lists(ids, odd), acts, 0, 10, by_session=True).verdict != "open"
    assert alarms <= 6


def test_of_a_few_users_nothing_is_said(later):
    """Five of five prefer one of two equal rankers in one of sixteen worlds."""
    good, champion = ranker("price", inputs=later.names), in_service(ranker("views"), end_ms=-1)
    few = compare_rows(champion, good, replace(later, owner=np.arange(REQUESTS, dtype=np.uint64) % 5))
    assert few.verdict == "unknown"
    assert "fewer than 6 users" in few.why_not
    enough = compare_rows(champion, good, replace(later, owner=np.arange(REQUESTS, dtype=np.uint64) % 6))
    assert (enough.verdict, enough.questions) == ("better", REQUESTS)


BESIDE = ChampionComparison("0001-a", "NDCG@10", 812, 0.02, 0.01, 0.03, 0.001)
PROMOTE = "midstream models promote clicks 0002-b"


@pytest.mark.parametrize(
    "beside, said, following",
    [
        (BESIDE, "better than 0001-a: NDCG@10 +0.0200 (+0.0100 to +0.0300) on 812 questions", f"next: {PROMOTE}"),
        (msgspec.structs.replace(BESIDE, low=-0.1), "not seen to be better or worse than", f"{PROMOTE} --alias shadow"),
        (msgspec.structs.replace(BESIDE, high=-0.1, low=-0.2), "worse than", "next: nothing; 0001-a goes on answering"),
        (
            ChampionComparison("0001-a", why_not="it is gone"),
            "cannot be said: it is gone",
            "models compare clicks 0001-a 0002-b",
        ),
        (ChampionComparison(""), "no version of it was in service", PROMOTE),
    ],
)
def test_the_summary_names_the_command_that_comes_next(beside, said, following):
    """For each of the answers."""
    lines = next_steps(Trained("clicks", "0002-b", {}, {}, {}, beside), Path("a shop"), is_promoted=False)
    assert said in lines[0]
    assert following in lines[1]
    assert lines[1].endswith("answering") or lines[1].endswith("--folder 'a shop'")


def test_a_version_that_was_promoted_can_be_taken_back():
    lines = next_steps(Trained("clicks", "0002-b", {}, {}, {}, BESIDE), Path(), is_promoted=True)
    assert lines[1] == "it answers from now on; back with: midstream models rollback clicks"


def test_histories_lose_what_the_other_vocabulary_has_not():
    from midstream.app.training.champion_comparison import _translated

    told = Histories.of([[0, 1], [2], [1, 1]])
    found = _translated(told, np.array([5, -1, 0], dtype=np.int32))
    assert (found.row.tolist(), found.start.tolist()) == ([5, 0], [0, 1, 2, 2])
