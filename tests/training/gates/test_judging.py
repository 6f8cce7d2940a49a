"""Two models on the same newest questions: who is better, which column tells too much, and who knows the answers."""

from dataclasses import replace

import numpy as np
import pytest

from midstream.evaluation.metrics.list_metrics import RelevantItems
from midstream.models.histories import Histories
from midstream.models.rows.ftrl import FtrlOptions, fit_ftrl
from midstream.training.gates.judging import judged_items, judged_rows, paired, told_apart
from tests.support.fakes.models import chain_of
from tests.training.gates.test_bad_candidates import World, world_of

OPTIONS = FtrlOptions(bins=1)


@pytest.fixture(scope="module")
def world() -> World:
    """A world of rows."""
    return world_of(3)


def test_a_ranker_is_judged_beside_the_champion(world: World) -> None:
    """By request, with the interval of the difference; one that is inverted is worse."""
    candidate = fit_ftrl(world.middle, OPTIONS)
    found = judged_rows(candidate, world.champion, world.late)
    assert (found.figure, found.champion, found.difference) != (None, None, None)
    assert found.difference is not None
    assert found.champion is not None
    assert found.figure == pytest.approx(found.champion + found.difference.mean)
    assert found.difference.low <= found.difference.mean <= found.difference.high
    assert found.auc is not None
    assert found.auc > 0.7
    alone = judged_rows(candidate, None, world.late)
    assert (alone.difference, alone.why_not) == (None, "no version is in service")
    assert judged_rows(candidate, world.champion, world.late.take(np.array([], dtype=np.intp))).figure is None


def test_the_column_that_tells_most_is_named_in_either_direction(world: World) -> None:
    """A constant one tells nothing; an unknown value stands for the lowest."""
    label = world.late.label
    for sign in (1.0, -1.0):
        values = np.column_stack([world.late.values, sign * label]).astype(np.float32)
        name, figure = told_apart(replace(world.late, names=(*world.late.names, "later"), values=values))
        assert (name, figure) == ("later", 1.0)
    holes = np.where(label > 0, 1.0, np.nan)[:, None].astype(np.float32)
    assert told_apart(replace(world.late, names=("seen",), values=holes)) == ("seen", 1.0)
    same = np.zeros((len(label), 1), dtype=np.float32)
    assert told_apart(replace(world.late, names=("same",), values=same)) == ("same", 0.5)
    assert told_apart(replace(world.late, label=np.zeros_like(label)))[1] is None


def test_who_knows_the_answers_beats_one_who_knows_the_future_of_others(world: World) -> None:
    """A column that holds the answers of these very requests, beside an honest fit that knows the rest of that time."""
    half = world.late.take(np.arange(0, 240, 2))
    others = world.late.take(np.arange(1, 240, 2))
    insider, honest = fit_ftrl(others, OPTIONS), fit_ftrl(world.early, OPTIONS)
    assert (found := judged_rows(honest, None, half, insider).foresight) is not None
    assert found.low <= 0
    answers = np.column_stack([half.values, half.label]).astype(np.float32)
    known = replace(half, names=(*half.names, "answer"), values=answers)
    told = judged_rows(fit_ftrl(known, OPTIONS), None, known, insider)
    assert told.foresight is not None
    assert told.foresight.low > 0


def test_item_models_are_judged_by_what_histories_went_on_with() -> None:
    """A chain that is right beside one that is wrong; the popular ones beside them."""
    right, wrong = chain_of(12, 1), chain_of(12, 5)
    asked = Histories.of([[number] for number in range(10)])
    wanted = RelevantItems.of([[number + 1] for number in range(10)])
    owner = np.arange(10, dtype=np.uint64)
    found = judged_items(right, wrong, asked, wanted, owner, (wrong, None))
    assert (found.figure, found.questions) == (1.0, 10)
    assert found.champion is not None
    assert found.champion == found.baseline
    assert found.champion < 0.5
    assert found.difference is not None
    assert found.difference.low > 0
    assert judged_items(wrong, right, asked, wanted, owner).difference is not None
    nobody = judged_items(right, None, Histories.of([]), RelevantItems.of([]), np.empty(0, dtype=np.uint64))
    assert nobody.figure is None


def test_few_owners_have_no_interval() -> None:
    """Of fewer than six nothing can be told, however many questions they asked."""
    own, theirs = np.ones(60), np.zeros(60)
    assert paired(own, theirs, np.arange(60, dtype=np.uint64) % 5) is None
    assert paired(own, theirs, np.arange(60, dtype=np.uint64) % 6) is not None
    assert paired(np.full(9, np.nan), np.zeros(9), np.arange(9, dtype=np.uint64)) is None
