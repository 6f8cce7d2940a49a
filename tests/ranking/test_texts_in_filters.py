"""A text that is a filter: what it reads is that of the log position, and what cannot be read lets nothing pass."""

import asyncio
import math
from dataclasses import replace

from midstream.core.types import Models
from midstream.features.language import Condition, condition
from midstream.features.readers.item_inputs import ItemNumber
from midstream.ranking.filters.available import Available
from midstream.ranking.filters.expression_filter import ExpressionFilter
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.catalogue import Catalogue
from midstream.state.fold import Fold
from tests.features.plain_language import moment_of, names, shop

TEXT = 'views >= 1 and item.count("view", "24h") >= 1 and item.colour in user.top("colour", 2) and dear < 9'


def plan_of(text: str) -> Plan:
    """A plan with a filter text."""
    found = condition(text, names(), "$")
    assert isinstance(found, Condition)
    filters = (Available(), ExpressionFilter(found))
    return Plan(
        name="home",
        config_hash="c0ffee",
        fetches=(),
        sources=(),
        floor=(),
        fill=Catalogue(),
        filters=filters,
        features=(),
        scorers=(Blend(),),
        selectors=(TopK(),),
        models=Models({}),
    )


def answer(plan: Plan, fold: Fold, failed=()):
    """The ids of what is served, and the answer."""
    moment = moment_of("ann")
    ask = recommend(plan, lambda query: fold.moment(query, moment.models), moment.query, lambda: math.inf, failed)
    served = asyncio.run(ask)
    chosen = served.candidates.item_index[served.selection.chosen].tolist()
    return [fold.vocabulary.item_id(each) for each in chosen], served


def test_a_rerun_on_the_state_of_then_passes_the_same_items():
    """Features, counts and tastes are read at the log position: another process that restored it serves the same."""
    live, served = answer(plan_of(TEXT), shop())
    other = Fold(shop().settings)
    other.restore({name: each.copy() for name, each in shop().arrays().items()})
    again, made_again = answer(plan_of(TEXT), other)
    assert set(live) == {"a", "f"}
    assert again == live
    assert made_again.removed == served.removed


def test_a_reader_that_raises_lets_nothing_pass(monkeypatch):
    """Eligibility fails closed: the filter is named, also where the part that raised could not have decided."""

    def fill(*_):
        message = "the column is gone"
        raise OSError(message)

    assert answer(plan_of("true or item.price < 3"), shop())[0]
    monkeypatch.setattr(ItemNumber, "fill", fill)
    ids, served = answer(plan_of("true or item.price < 3"), shop())
    assert ids == []
    assert [each.component for each in served.failures] == ["filter"]
    assert answer(plan_of("true or item.price < 3"), shop(), served.failures)[0] == []


def test_two_plans_of_one_text_are_equal():
    """So that nothing is made anew for a change that is none."""
    assert plan_of(TEXT).filters == plan_of(TEXT).filters
    assert replace(plan_of(TEXT), filters=()).filters != plan_of(TEXT).filters
