"""Candidates and moment of a compiled plan are the pipeline's, row for row. What comes of them is tested elsewhere."""

from dataclasses import fields

import numpy as np

from midstream.app.config.schema import Config, Placement
from midstream.app.wiring import plans
from midstream.core.types import LogPosition, Moment, Query, TimestampMs
from midstream.ranking.boundary import Account
from midstream.ranking.compiled.compiled_plan import CompiledPlan, compiled_plan
from midstream.ranking.compiled.room import PASSED, SHORTLIST
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.shortlist import shortlist
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.popular import Popular
from midstream.retrieval.session_knn import SessionKnn
from midstream.state.fold import Fold
from tests.engine.answer.test_compiled_slates import STREAM
from tests.ranking.compiled.test_answer_kernel import LIMITS
from tests.support.events import random_events


def test_candidates_and_moment_are_those_of_the_pipeline() -> None:
    """Of users with and without acts, with items that came, cut or not; where too few pass there are none."""
    sources = (SessionKnn(limit=60), Covisitation(limit=40), Popular(limit=40))
    config = Config(limits=LIMITS, placements=(Placement(sources=sources, slate_size=5, candidates_max=100),))
    fold = Fold(config.fold_settings())
    fold.apply(LogPosition(0), random_events(1_200, 3, STREAM))
    plan = plans(config)["default"]
    compiled = compiled_plan(plan, fold)
    assert isinstance(compiled, CompiledPlan)
    found = 0
    for number in range(60):
        items = (f"item-{number}",) if number % 3 == 0 else ()
        now_ms = TimestampMs(fold.log_time_ms)
        size = 100 if number % 10 == 9 else 5
        session = f"session-0-{number % 12}" if number % 2 else None
        query = Query(
            "r",
            "default",
            f"user-{number}" if number % 4 else None,
            session,
            size,
            now_ms,
            1,
            items=items,
            exclude=("item-2",),
        )
        is_found = compiled.gather(query, SHORTLIST, Account())
        theirs = shortlist(PlanRun(plan, fold.moment(query, plan.models), Account())).candidates
        if not is_found:
            assert size == 100
            continue
        mine = compiled.candidates()
        np.testing.assert_array_equal(compiled.items(), mine.item_index, strict=True)
        found += 1
        moment, other = compiled.moment(query), fold.moment(query, plan.models)
        for name in (each.name for each in fields(Moment)):
            one, two = getattr(moment, name), getattr(other, name)
            assert type(one) is type(two)
            if isinstance(one, np.ndarray):
                np.testing.assert_array_equal(one, two, strict=True)
            else:
                assert one == two
        assert compiled.counts[PASSED] == len(theirs)
        assert mine.source_names == theirs.source_names
        for name in ("item_index", "source_score", "source_rank"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), strict=True)
    assert found >= 50
