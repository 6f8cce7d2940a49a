"""Selectors by name: what is wrong with one is said, and what it drew is in the served record and drawn again."""

import asyncio
from collections import Counter
from functools import partial

import msgspec
import numpy as np
import pytest

from midstream.app.config.reader import parse_config
from midstream.app.wiring import plans
from midstream.core.errors import ConfigInvalid
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.types import Ask
from midstream.events.schema import event_at
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.record.served import decode_served
from tests.support.rig import SMALL, Rig, view

COUNTED = """
[[features]]
name = "clicks"
kind = "count"
actions = ["view"]
half_life = ["30d"]

[[features]]
name = "seen"
kind = "count"
actions = ["impression"]
half_life = ["30d"]

[[placements]]
features = ["clicks", "seen"]
selector = """
DRAWING = [
    '{ kind = "plackett_luce", temperature = 2.0, keep = 1 }',
    '{ kind = "epsilon_greedy", epsilon = 0.5, keep = 1 }',
    '{ kind = "thompson", acts = "clicks", impressions = "seen", keep = 1 }',
]


@pytest.mark.parametrize(
    "line, right",
    [
        ('selector = { kind = "plackett_luce", temperature = 0 }', "A number from 1e-06 to 1,000."),
        ('diversity = { attribute = "price", weight = 0 }', "A number above 0, at most 1."),
    ],
)
def test_both_bounds_are_said_and_one_that_is_exclusive_as_such(line: str, right: str) -> None:
    """What came is the bound itself, or next to it."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(f"[[placements]]\n{line}")
    assert [each.right for each in caught.value.faults if each.came == "0 came."] == [right]


def require_fault(text: str, where: str, came: str) -> None:
    """Require that a configuration has one fault: there in its placement, with that, and with the page of selectors."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(text)
    (fault,) = caught.value.faults
    assert fault.where.endswith(f"$.placements[0].{where}")
    assert came in fault.came
    assert fault.page == ("/docs/selectors.md" if where.startswith("selector") else "/docs/rules.md")


@pytest.mark.parametrize(
    "selector, where, came",
    [
        ('{ kind = "thomson" }', "selector.kind", 'Nearest: "thompson"'),
        ('{ kind = "plackett_luce", temperature = 0 }', "selector.temperature", "0"),
        ('{ kind = "epsilon_greedy", epsilon = 1.5 }', "selector.epsilon", "1.5"),
        ('{ kind = "epsilon_greedy", pool = 0 }', "selector.pool", "0"),
        ('{ kind = "epsilon_greedy", keep = 20, pool = 20 }', "selector.keep", "nothing is left to draw"),
        ('{ kind = "plackett_luce", temperature = 1e-310 }', "selector.temperature", "1e-310"),
        ('{ kind = "thompson", impressions = "seen" }', "selector.acts", "missing"),
        ('{ kind = "thompson", acts = "click", impressions = "seen" }', "selector.acts", 'Nearest: "clicks"'),
        (
            '{ kind = "thompson", acts = "clicks", impressions = "seen", prior_acts = 30.0 }',
            "selector.prior_acts",
            "30.0 acts of 20.0 impressions",
        ),
    ],
)
def test_what_is_wrong_is_said(selector, where, came):
    """Where, what came, what would be right, and the page."""
    require_fault(COUNTED + selector, where, came)


ATTRIBUTES = """
[items.attributes]
category = "category"
price = "number"
taste = "vector:2"

[[placements]]
"""


@pytest.mark.parametrize(
    "lines, where, came",
    [
        ('caps = [{ attribute = "categry", max = 3 }]', "caps[0].attribute", 'Nearest: "category"'),
        ('caps = [{ attribute = "price", max = 3 }]', "caps[0].attribute", "of kind number"),
        ('caps = [{ attribute = "taste", max = 3 }]', "caps[0].attribute", "of kind vector:2"),
        ('caps = [{ attribute = "category", max = 0 }]', "caps[0].max", "0"),
        (
            'caps = [{ attribute = "category", max = 1 }, { attribute = "category", max = 2 }]',
            "caps[1].attribute",
            "there already",
        ),
        ('diversity = { attribute = "price" }', "diversity.attribute", "of kind number"),
        ('diversity = { attribute = "taste", weight = 2.0 }', "diversity.weight", "2.0"),
        ("diversity = { weight = 0.5 }", "diversity.attribute", "missing"),
        (
            'caps = [{ attribute = "category", max = 3 }]\nselector = { kind = "custom", path = "a:B" }',
            "caps",
            "selector of your own",
        ),
    ],
)
def test_what_is_wrong_with_rules_is_said(lines, where, came):
    """An attribute that is none, or of another kind, a cap twice, and rules beside what cannot keep them."""
    require_fault(ATTRIBUTES + lines, where, came)


def test_rules_of_the_file_hold_in_answers():
    """Slates have at most two items of a category, of those that have one, and what has none is not capped."""
    text = ATTRIBUTES + 'caps = [{ attribute = "category", max = 2 }]\ndiversity = { attribute = "taste" }'
    config = msgspec.structs.replace(parse_config(text), limits=SMALL.limits)

    async def work(rig: Rig) -> None:
        items = [
            {
                "type": "item",
                "item_id": f"i{number}",
                "attributes": {"category": f"c{number % 4}", "taste": [number % 3, 1]},
            }
            for number in range(40)
        ]
        await rig.engine.record(rig.batch(*items, *(view(f"i{number}") for number in range(0, 60, 5))))
        answer = await rig.engine.recommend(Ask(n=20))
        categories = [int(item.id[1:]) % 4 for item in answer.items if int(item.id[1:]) < 40]
        assert Counter(categories) == {0: 2, 1: 2, 2: 2, 3: 2}
        assert answer.tier == "full"
        assert "i45" in {item.id for item in answer.items}

    Rig(config=config).run(work)


@pytest.mark.parametrize("selector", DRAWING)
def test_what_was_drawn_is_served_logged_and_drawn_again(selector):
    """Slates differ between requests, their propensities are in the record, and a rerun is the same to the bit."""
    config = msgspec.structs.replace(parse_config(COUNTED + selector), limits=SMALL.limits)

    async def work(rig: Rig) -> None:
        items = [f"i{number}" for number in range(40)]
        await rig.engine.record(rig.batch(*(view(item, user=f"u{n}") for n in range(3) for item in items[n::2])))
        slates = [await rig.engine.recommend(Ask(n=10)) for _ in range(30)]
        # Ids of the rig count up, and a seed is half of one: two requests each are drawn alike.
        assert len({tuple(item.id for item in slate.items) for slate in slates}) >= 15

    rig = Rig(config=config)
    rig.run(work)
    plan, served = plans(config)["default"], 0
    for _, batch in rig.log.read(LogPosition(0), 1_000):
        for place in np.flatnonzero(batch.rows["kind"] == Kind.SERVED).tolist():
            record = decode_served(event_at(batch, place).body)
            propensity = np.array([item.propensity for item in record.items])
            assert propensity[0] == 1
            assert ((propensity > 0) & (propensity <= 1)).all()
            assert (propensity[1:] < 1).any()
            again = asyncio.run(rerun(plan, partial(rig.engine.fold.moment, models=plan.models), record))
            assert again.selection.propensity.tolist() == propensity.tolist()
            chosen = again.candidates.item_index[again.selection.chosen]
            assert rig.engine.fold.vocabulary.item_ids(chosen) == [item.id for item in record.items]
            served += 1
    assert served == 30
