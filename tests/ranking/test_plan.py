"""Plans as values: what their parts declare, and what is left without some of them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from midstream.app.wiring import plans
from midstream.core.types import Proposal
from midstream.ranking.fetched_columns import DeclaredFetch
from midstream.ranking.plan import SELECTOR, Closed, Nothing
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.popular import Popular
from tests.support.rig import SMALL

if TYPE_CHECKING:
    from midstream.core.protocols import Scorer, Selector


@dataclass(frozen=True)
class Own:
    """A component of one's own of any kind."""

    name: str

    def retrieve(self, moment):
        return Proposal(np.empty(0, np.int32), np.empty(0, np.float32))

    def keep(self, moment, candidates):
        return np.ones(len(candidates), np.bool_)

    async def fetch(self, ids):
        return {}


def test_bounded_are_all_parts_but_those_that_declare_nothing():
    """A system outside never is; the selector that is asked first stands for both."""
    plan = plans(SMALL)["default"]
    assert plan.bounded == {*plan.part_names}
    own = replace(
        plan,
        fetches=(DeclaredFetch("weather", "user", {}, Own("weather"), 0, 1.0, ""),),
        sources=(Own("shelf"), *plan.sources),
        filters=(*plan.filters, Own("first")),
        scorers=(cast("Scorer", Own("numbers")), Blend()),
        selectors=(cast("Selector", Own("selector")), TopK()),
    )
    assert {*own.part_names} - own.bounded == {"weather", "shelf", "first", "numbers", SELECTOR}


def test_what_stands_for_a_failed_part_has_its_name_and_is_bounded():
    """A closed filter and an empty catalogue are ours, whoever wrote what failed."""
    plan = plans(SMALL)["default"]
    plan = replace(plan, fill=Popular(name="all"), filters=(*plan.filters, Own("first")))
    less = plan.without(frozenset(("all", "first")))
    assert less.fill == Nothing("all")
    assert less.filters[-1] == Closed("first")
    assert less.part_names == plan.part_names
    assert less.bounded == {*less.part_names}
