"""Pins on the request path: candidates like any other, named when they cannot be, and the same in a rerun."""

import asyncio
import math
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.schema import Config, ItemsSection, Placement
from midstream.app.wiring import plans
from midstream.core.types import Candidates, Mask, Moment, Proposal, Served, Trace
from midstream.events.served_body import decode_body
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.ranking.record.served import blank_served, decode_served, encode_served
from midstream.ranking.rules.arrangement import ARRANGEMENT
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.pin import PINS, Pin, Pinned, Pins
from midstream.ranking.rules.rules import WORDS
from midstream.ranking.rules.traces import OUTSIDE_MAX, ServedTrace, pack_traces, unpack_traces
from tests.support.frozen_shop import SMALL
from tests.support.slates import random_shape, shop, slate_of

SHOP = shop()
PIN = Pin(name="hero", items=("i50", "i19", "nobody"), positions=(1, 2, 3))
"""The second is not available, nobody knows the third."""


@dataclass(frozen=True)
class Fixed:
    """Proposes given items, the first with the highest score."""

    item_index: tuple[int, ...]
    name: str = "fixed"

    def retrieve(self, moment: Moment) -> Proposal:
        rows = np.array(self.item_index, dtype=np.int32)
        return Proposal(rows, -rows.astype(np.float32))


@dataclass(frozen=True)
class Odd:
    """Keeps items of an odd number."""

    name: str = "odd"

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        kept: Mask = candidates.item_index % 2 == 1
        return kept


def plan_of(*rules: Pin, caps: tuple[Cap, ...] = (), filters: tuple[Odd, ...] = ()) -> Plan:
    """What answers a placement with some rules, whose one source proposes ten items."""
    placement = Placement(rules=rules, caps=caps)
    made = plans(Config(items=ItemsSection(attributes=SMALL.attributes), placements=(placement,)))["default"]
    return replace(made, sources=(Fixed(tuple(range(10))),), filters=(*made.filters, *filters))


def answer(plan: Plan, **changes) -> Served:
    """Answer at rest."""
    return asyncio.run(recommend(plan, SHOP.moment, replace(SHOP.query(), **changes), lambda: math.inf))


def slate(served: Served) -> list[int]:
    """The numbers of what was served."""
    found: list[int] = served.candidates.item_index[served.selection.chosen].tolist()
    return found


def recorded(served: Served) -> bytes:
    """The body of the served record."""
    vocabulary = SHOP.fold.vocabulary
    ids = vocabulary.item_ids(served.candidates.item_index[served.selection.chosen])
    return encode_served(served, ids, pack_traces(served, vocabulary))


def test_what_no_source_proposed_comes_from_its_rule_and_passes_filters() -> None:
    """It is retrieved under the rule's name, and what is not eligible is removed by the filter that says so."""
    served = answer(plan_of(PIN), slate_size=4)
    assert slate(served)[1] == 50
    assert served.retrieved["hero"] == 2
    assert served.removed["available"] == 1
    assert served.retrieved_count == sum(served.removed.values()) + len(served.candidates)
    assert served.traces == (
        Trace("hero", -1, 3, "unknown"),
        Trace("hero", 19, 2, "ineligible"),
        Trace("hero", 50, 1, "pinned"),
    )
    assert 50 not in slate(answer(plan_of(PIN, filters=(Odd(),)), slate_size=4))
    assert slate(answer(plan_of(PIN), slate_size=1)) == [0]  # a pin behind the slate does nothing


def test_what_a_source_proposed_is_no_candidate_of_the_rule() -> None:
    """It stands at its position, and its sources are its own."""
    served = answer(plan_of(Pin(name="hero", items=("i7",), positions=(0,))), slate_size=3)
    assert slate(served) == [7, 0, 1]
    assert "hero" not in served.retrieved
    assert "hero" not in served.candidates.source_names


@dataclass(frozen=True)
class Broken(Pins):
    """Pins that cannot be read."""

    def read(self, moment: Moment) -> Pinned:
        raise ValueError("gone")


def test_pins_that_cannot_be_read_are_named_and_left_out() -> None:
    """The slate is that without them, and a rerun is the same."""
    plan = plan_of(PIN)
    assert plan.pins is not None
    served = answer(replace(plan, pins=Broken(plan.pins.rulings)), slate_size=4)
    assert [each.component for each in served.failures] == [PINS]
    assert slate(served) == slate(answer(plan_of(), slate_size=4))
    again = asyncio.run(rerun(plan, SHOP.moment, decode_served(recorded(served))))
    assert recorded(again) == recorded(served)


def test_rules_that_fail_behind_the_pins_leave_these_among_the_candidates() -> None:
    """Only their place is lost; the counts of then are those of the rerun."""
    plan = plan_of(PIN, caps=(Cap(attribute="nowhere", max=1),))
    served = answer(plan, slate_size=4)
    assert [each.component for each in served.failures] == [ARRANGEMENT]
    assert served.retrieved["hero"] == 2
    assert slate(served) == [0, 1, 2, 3]
    again = asyncio.run(rerun(plan, SHOP.moment, decode_served(recorded(served))))
    assert recorded(again) == recorded(served)


def test_of_the_callers_own_items_those_are_pinned_that_are_among_them() -> None:
    """A rule adds nothing to what the caller gave."""
    given_items = ("i4", "i50", "i3")
    served = answer(plan_of(PIN), slate_size=3, given=given_items)
    assert slate(served)[1] == 50
    assert {*slate(served)} == {3, 4, 50}
    other = answer(plan_of(PIN), slate_size=2, given=("i4", "i3"))
    assert {*slate(other)} == {3, 4}


def test_a_pin_that_the_caller_did_not_give_is_not_in_the_ranking_at_all() -> None:
    """No filter removed it, so nothing says so; and another pin may have its position."""
    other = Pin(name="other", items=("i4",), positions=(1,))
    served = answer(plan_of(PIN, other), slate_size=4, given=("i3", "i4", "i5", "i6"))
    assert served.traces == (Trace("other", 4, 1, "pinned"),)
    assert slate(served)[1] == 4
    hidden = answer(plan_of(PIN), slate_size=4, given=("i3", "i4", "i19", "nobody"))
    assert hidden.traces == (Trace("hero", -1, 3, "unknown"), Trace("hero", 19, 2, "ineligible"))


@given(st.integers(0, 2**32 - 1))
def test_traces_come_back_from_the_record(seed: int) -> None:
    """Rule, word, item and position, whatever was done; and a rerun of the record is the record."""
    answered = slate_of(random_shape(seed))
    served, ids = answered.served, SHOP.fold.vocabulary.item_id
    record = decode_served(recorded(served))
    told = [
        ServedTrace(
            each.rule,
            each.what,
            None if each.item_index < 0 else ids(each.item_index),
            None if each.position < 0 else each.position,
        )
        for each in served.traces
    ]
    assert list(record.traces) == told
    again = asyncio.run(rerun(answered.plan, SHOP.moment, record))
    assert recorded(again) == recorded(served)
    assert decode_blank(recorded(served)) == ()


def decode_blank(body: bytes) -> tuple[ServedTrace, ...]:
    """The traces of a record once its user is erased."""
    return decode_served(blank_served(body)).traces


def test_a_record_names_at_most_so_many_items_that_are_not_in_the_slate() -> None:
    """The longest slate in which everything was done: what is behind them is left to a rerun."""
    served = answer(plan_of(), slate_size=5)
    many = tuple(Trace("caps.category", 30, -1, "capped") for _ in range(OUTSIDE_MAX + 5))
    stands = Trace("hero", slate(served)[4], 4, "pinned")
    record = decode_served(recorded(replace(served, traces=(*many, stands))))
    assert len(record.traces) == OUTSIDE_MAX + 1
    assert record.traces[-1] == ServedTrace("hero", "pinned", f"i{slate(served)[4]}", 4)
    assert len(recorded(replace(served, traces=(*many, stands)))) < len(recorded(served)) + 4 * 33 + 4 * 32 + 40


@given(st.lists(st.tuples(st.sampled_from(WORDS), st.integers(-1, 999)), max_size=40))
def test_traces_of_the_longest_slate_come_back(done: list[tuple[str, int]]) -> None:
    """A ranking has 1,000 places: none of them reads as no place, or as another one."""
    served = answer(plan_of(), slate_size=5)
    rows = np.arange(1_000, dtype=np.int32) % len(served.candidates)
    chosen = replace(served.selection, chosen=rows.astype(np.intp))
    items = [-1 if place < 0 else int(served.candidates.item_index[rows[place]]) for _, place in done]
    traces = tuple(Trace("rule", item, place, word) for item, (word, place) in zip(items, done, strict=True))
    packed = pack_traces(replace(served, selection=chosen, traces=traces), SHOP.fold.vocabulary)
    ids = tuple(SHOP.fold.vocabulary.item_ids(served.candidates.item_index[rows]))
    told = msgspec.structs.replace(
        decode_body(recorded(served)), ids=ids, trace_rules=packed.rules, traces=packed.actions, trace_ids=packed.ids
    )
    expected = [
        ServedTrace("rule", word, None if place < 0 else ids[place], None if place < 0 else place)
        for word, place in done
    ]
    outside = [number for number, (_, place) in enumerate(done) if place < 0]
    expected = [each for number, each in enumerate(expected) if number not in outside[OUTSIDE_MAX:]]
    assert list(unpack_traces(told)) == expected


def test_traces_of_a_record_of_an_earlier_version_are_read() -> None:
    """Its positions have one byte: the log outlives the releases that wrote it."""
    told = msgspec.structs.replace(
        decode_body(recorded(answer(plan_of(), slate_size=5))),
        version=6,
        trace_rules=("a", "b"),
        traces=bytes((0, WORDS.index("pinned"), 1, 1, WORDS.index("none") + 128, 255)),
        trace_ids=("",),
    )
    assert unpack_traces(told) == (ServedTrace("a", "pinned", told.ids[1], 1), ServedTrace("b", "none", None, None))


@pytest.mark.parametrize("word", WORDS)
def test_every_word_is_on_the_page(word: str) -> None:
    """A reader of a trace finds what it means."""
    assert f"`{word}`" in (Path(__file__).parents[2] / "docs" / "rules.md").read_text("utf-8")
