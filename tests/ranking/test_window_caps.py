"""Caps over a time: what was served to who asks counts beside the slate, in this placement, as long as it is recent."""

import asyncio
import math
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.core.kinds import Kind
from midstream.events.schema import Event
from midstream.ranking.pipeline import recommend
from midstream.ranking.rules.arrangement import Arrangement
from midstream.ranking.rules.cap import Cap
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from tests.ranking.test_cursor import first_of
from tests.ranking.test_pipeline import Fixed, plan_of, shop_of, slate
from tests.support.events import served_body

ITEMS = 24
HOUR_MS = 3_600_000


def value_of(item):
    """Return the category of an item."""
    return "even" if int(item[1:]) % 2 == 0 else "odd"


def serve(shop, number, items, user="ann", placement="default"):
    """Fold a served record."""
    body = served_body(f"q{number}", [f"i{each}" for each in items], placement)
    shop.record([Event(Kind.SERVED, user_id=user, request_id=f"q{number}", body=body)])


def capped(most, *, explores=False):
    """Return a plan with a cap over a time."""
    plan = plan_of([Fixed("s", tuple(range(ITEMS)))], selectors=(PlackettLuce(),) if explores else ())
    cap = Cap(attribute="category", max=most, within=Duration("1h"))
    return replace(plan, arrangement=Arrangement((cap,), None))


def asked(shop, plan, user="ann"):
    """Return the slate of a question."""
    query = replace(shop.query(), user_id=user, slate_size=12)
    return slate(shop, asyncio.run(recommend(plan, shop.moment, query, lambda: math.inf)))


history = st.lists(
    st.tuples(
        st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=6),
        st.sampled_from(["ann", "ann", "bob"]),
        st.sampled_from(["default", "default", "cart"]),
        st.sampled_from([0, HOUR_MS // 2, HOUR_MS]),
    ),
    max_size=6,
)


@given(history, st.integers(1, 6), st.booleans())
def test_what_was_served_within_the_time_and_the_slate_together_are_within_the_cap(told, most, explores):
    """Of each value; where it was over before none comes, and what the cap leaves room for does."""
    shop, counts = shop_of(ITEMS), Counter[str]()
    served = []
    for number, (items, user, placement, pause) in enumerate(told):
        serve(shop, number, items, user, placement)
        if (user, placement) == ("ann", "default"):
            served.append((shop.now_ms, items))
        shop.wait(pause)
    for time_ms, items in served:
        if time_ms >= shop.now_ms - HOUR_MS:
            counts.update(value_of(f"i{each}") for each in items)
    found = Counter(map(value_of, asked(shop, capped(most, explores=explores))))
    for value in ("even", "odd"):
        assert found[value] <= max(0, most - counts[value])
    room = {value: max(0, most - counts[value]) for value in ("even", "odd")}
    assert sum(found.values()) == min(12, sum(room.values()))


@given(st.integers(1, 4), st.integers(1, 9))
def test_pages_of_one_answer_are_within_the_cap_together(most, size):
    """As if each page had been served when the next one is chosen."""
    shop = shop_of(ITEMS)
    serve(shop, 0, [0])
    record = first_of(shop, capped(most), size)
    every = [item.id for block in (record.items, *record.order) for item in block]
    assert Counter(map(value_of, every)) == +Counter({"even": most - 1, "odd": most})


def test_a_cap_of_the_slate_and_one_of_a_time_hold_together():
    """Each by itself."""
    shop = shop_of(ITEMS)
    serve(shop, 0, [0, 2])
    caps = (Cap(attribute="category", max=2), Cap(attribute="category", max=3, within=Duration("1h")))
    plan = replace(capped(1), arrangement=Arrangement(caps, None))
    assert Counter(map(value_of, asked(shop, plan))) == {"even": 1, "odd": 2}
    assert Counter(map(value_of, asked(shop, plan, "bob"))) == {"even": 2, "odd": 2}
    assert [cap.name for cap in caps] == ["caps.category", "caps.category.1h"]
