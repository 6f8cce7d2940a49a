"""The kernel from scores to a slate as plain functions: every index is checked, and the bytes are those of the kernel.

That they are also those of the pipeline is what tests/engine/answer/test_composed_slates.py shows.
"""

import numpy as np
import pytest

from midstream.app.config.schema import Config, Placement
from midstream.app.wiring import plans
from midstream.core.types import LogPosition, Query, TimestampMs
from midstream.ranking.boundary import Account
from midstream.ranking.compiled import slate_kernel
from midstream.ranking.compiled.compiled_plan import CompiledPlan, compiled_plan
from midstream.ranking.compiled.composed_plan import ComposedPlan, composed_plan
from midstream.ranking.compiled.decision_kernel import ANSWERED, UNUSUAL
from midstream.ranking.compiled.room import PASSED, SHORTLIST, SIZE
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.rules.traces import OUTSIDE_MAX
from midstream.ranking.scorers.model_scorer import ModelScorer
from midstream.retrieval.popular import Popular
from midstream.state.fold import Fold
from tests.engine.answer.test_compiled_slates import STREAM
from tests.engine.answer.test_composed_slates import CATEGORY, catalogue
from tests.ranking.compiled.test_answer_kernel import LIMITS, plain_kernels, said
from tests.support.events import random_events

RULES = {"caps": (Cap(attribute="category", max=2),), "diversity": Diversity(attribute="brand", weight=0.5)}
MODEL = {"scorers": (ModelScorer(name="ranker"),)}


def bound(**more: object) -> tuple[CompiledPlan, ComposedPlan]:
    """A plan with something behind the cut, over a state with a catalogue."""
    placement = Placement(sources=(Popular(limit=80),), slate_size=10, **more)  # type: ignore[arg-type]
    config = Config(limits=LIMITS, placements=(placement,), items=CATEGORY)
    fold = Fold(config.fold_settings())
    fold.apply(LogPosition(0), random_events(900, 5, STREAM))
    fold.apply(LogPosition(fold.log_position), catalogue(np.random.default_rng(5), fold.log_time_ms))
    compiled = compiled_plan(plans(config)["default"], fold)
    assert isinstance(compiled, CompiledPlan)
    composed = composed_plan(compiled)
    assert composed is not None
    return compiled, composed


def scored(compiled: CompiledPlan, composed: ComposedPlan, size: int, score: np.ndarray) -> np.ndarray:
    """Put a shortlist into the room, with these scores from the front on; return all scores."""
    query = Query("r", "default", None, None, size, TimestampMs(compiled.fold.log_time_ms), 1)
    assert composed.ask(query, Account()) is not None  # the codes of the attributes
    assert compiled.gather(query, SHORTLIST, Account())
    count = compiled.counts[PASSED]
    compiled.room.blended[:count] = np.resize(score, count)
    return compiled.room.blended[:count]


@pytest.mark.parametrize("rules", [MODEL, RULES, {"caps": RULES["caps"]}, {"diversity": RULES["diversity"]}])
def test_plain_functions_give_the_same_bytes(rules: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equal scores, of some that are no numbers, of slates of one item and of as many as there are candidates."""
    compiled, composed = bound(**rules)
    dice = np.random.default_rng(4)
    for size in (1, 2, 9, 25, 40):
        score = np.round(dice.normal(size=90), 1).astype(np.float32)
        score[dice.random(90) < 0.2] = np.nan
        scored(compiled, composed, size, score)
        code = composed._finish(composed._bound)
        found = said(compiled, code), bytes(composed.actions()), composed.counts_by_rule(), composed.picked().tolist()
        assert code == ANSWERED
        scored(compiled, composed, size, score)
        with plain_kernels(monkeypatch):
            other = int(slate_kernel.finish_slate(*composed.columns))
        told = said(compiled, other), bytes(composed.actions()), composed.counts_by_rule(), composed.picked().tolist()
        assert found == told
        assert compiled._ask[SIZE] == size


def test_a_record_has_only_so_many_actions_on_items_outside_of_the_slate() -> None:
    """All of them are counted."""
    compiled, composed = bound(caps=(Cap(attribute="category", max=1),))
    scored(compiled, composed, 60, np.arange(90, dtype=np.float32)[::-1].copy())
    assert composed._finish(composed._bound) == ANSWERED
    (_, count), *_ = composed.counts_by_rule()
    assert count > OUTSIDE_MAX
    assert composed.actions()[:3].hex() == f"c4{OUTSIDE_MAX * 4:02x}00"


def test_scores_of_which_none_is_a_number_make_no_slate() -> None:
    """The scorer has failed."""
    compiled, composed = bound(**RULES)
    scored(compiled, composed, 5, np.array([np.nan, np.inf], dtype=np.float32))
    assert composed._finish(composed._bound) == UNUSUAL
