"""Fetching: columns of outside systems in the query, from the cache or in one call, and the same answer again."""

import asyncio
import string
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from msgspec import structs

from midstream.core.errors import NotFound
from midstream.core.types import Column, Fetched, Models, Moment, Proposal, Query, Served, TimestampMs
from midstream.events.served_body import decode_body, encode_body
from midstream.features.declared import block_of
from midstream.features.expressions.names import Names
from midstream.features.kinds.kinds import columns_by_name
from midstream.features.kinds.request import ItemField
from midstream.features.language import Condition, condition
from midstream.ranking.boundary import Account
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.explain.why_not import explain_with
from midstream.ranking.fetch_cache import FetchCache
from midstream.ranking.fetched_columns import IDS_MAX, DeclaredFetch
from midstream.ranking.fetching import FetchRequest, filters_after, peeked
from midstream.ranking.filters.available import Available
from midstream.ranking.filters.expression_filter import ExpressionFilter, RequestFilter
from midstream.ranking.page import recommend_page
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.ranking.record.continuation import query_on, read_on
from midstream.ranking.record.fetched_fields import FETCHED_BYTES_MAX, pack_fetched, unpack_fetched, unpack_ids
from midstream.ranking.record.served import decode_served, encode_served
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.catalogue import Catalogue
from midstream.retrieval.popular import Popular
from tests.support.frozen_shop import SMALL, StillShop
from tests.support.virtual_loop import VirtualLoop

if TYPE_CHECKING:
    from midstream.core.protocols import Filter

COLUMNS = columns_by_name((ItemField(name="stock"), ItemField(name="price_now")), SMALL.attributes)
NAMES = Names(SMALL.attributes, COLUMNS, context={"member": "boolean"})


@dataclass
class Outside:
    """An outside system: it counts, and does what it is told."""

    act: Callable[[Sequence[str]], Mapping[str, Column]]
    waits_s: float = 0.0
    asked: list[tuple[str, ...]] = field(default_factory=list)

    async def fetch(self, ids: Sequence[str]) -> Mapping[str, Column]:
        self.asked.append(tuple(ids))
        if self.waits_s:
            await asyncio.sleep(self.waits_s)
        return self.act(ids)


def stock_of(ids: Sequence[str]) -> Mapping[str, Column]:
    """Return the number in each id, so that i0 has none, and nothing of those that end in 7."""
    return {"stock": [None if each.endswith("7") else float(each[1:]) for each in ids]}


def gone(ids: Sequence[str]) -> Mapping[str, Column]:
    """The system is not there."""
    raise ConnectionError(ids[0])


def of_items(outside: Outside, name: str = "stock", age_ms: int = 0, **changes: Any) -> DeclaredFetch:
    """Return a fetch of items."""
    made = DeclaredFetch(name, "item", {"stock": "number"}, outside, age_ms, 0.02, name)
    return replace(made, **changes)


def of_user(outside: Outside, **changes: Any) -> DeclaredFetch:
    """Return a fetch of the user."""
    made = DeclaredFetch("crm", "user", {"member": "boolean", "tier": "category"}, outside, 0, 0.02, "crm")
    return replace(made, **changes)


def crm(_: Sequence[str]) -> Mapping[str, Column]:
    """Return a member."""
    return {"member": [True], "tier": ["gold"]}


def rule_of(text: str, name: str = "filter") -> ExpressionFilter:
    """Return a filter of a text."""
    found = condition(text, NAMES, "")
    assert isinstance(found, Condition)
    return ExpressionFilter(found, name)


@dataclass(frozen=True)
class FewItems:
    """A filter of the shop's own: three of 1,300 items."""

    name: str = "few"

    def keep(self, moment, candidates):
        return candidates.item_index % 434 == 0


@dataclass
class Counting:
    """A source that counts."""

    calls: int = 0
    name: str = "counting"

    def retrieve(self, moment: Moment) -> Proposal:
        self.calls += 1
        return Proposal(np.array([9, 5, 0], np.int32), np.array([3, 2, 1], np.float32))


def plan_of(*fetches: DeclaredFetch, filters: "Sequence[Filter]" = (), **changes: Any) -> Plan:
    """Return a plan of real parts that reads the stock."""
    every: tuple[Filter, ...] = (Available(), *filters, RequestFilter(NAMES))
    made = Plan(
        name="default",
        config_hash="c0ffee",
        fetches=fetches,
        sources=(),
        floor=(Popular(limit=10),),
        fill=Catalogue(),
        filters=every,
        features=(block_of({name: COLUMNS[name] for name in ("stock", "price_now")}, {}),),
        scorers=(Blend(),),
        selectors=(TopK(),),
        models=Models({}),
        after_fetch=frozenset(filters_after(fetches, every, ())),
    )
    return replace(made, **changes)


class World:
    """A shop at rest, and a loop in which time is a number."""

    def __init__(self, items: int = 30) -> None:
        self.shop = StillShop()
        for number in range(items):
            self.shop.put(f"i{number}", price=float(number), category="even" if number % 2 == 0 else "odd")
        for number in range(4):
            self.shop.act("view", "bob", *[f"i{number}"] * (5 - number))
        self.loop = VirtualLoop(lambda: 0.0)
        self.cache = FetchCache()

    def close(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(1_000.0))
        self.loop.close()

    def query(self, **asked: Any) -> Query:
        return replace(self.shop.query(), **{"user_id": "ann", "slate_size": 8, **asked})

    def observe(self, query: Query) -> Moment:
        return self.shop.fold.moment(query, Models({}))

    def answer(self, plan: Plan, deadline_s: float = 0.05, **asked: Any) -> Served:
        async def ask() -> Served:
            until = self.loop.time() + deadline_s
            left_s = lambda: until - self.loop.time()  # noqa: E731  the clock of one answer
            return await recommend(plan, self.observe, self.query(**asked), left_s, (), self.cache)

        return self.loop.run_until_complete(ask())

    def ids(self, served: Served) -> list[str]:
        return self.shop.ids(served.candidates.item_index[served.selection.chosen].tolist())

    def body(self, served: Served) -> bytes:
        rows = served.selection.chosen
        if served.order is not None:
            rows = np.concatenate((rows, served.order.chosen))
        return encode_served(served, self.shop.ids(served.candidates.item_index[rows].tolist()))

    def again(self, plan: Plan, served: Served) -> Served:
        """Answer the record again, in which each outside system is gone."""
        without = tuple(replace(each, component=Outside(gone)) for each in plan.fetches)
        return asyncio.run(rerun(replace(plan, fetches=without), self.observe, decode_served(self.body(served))))


@pytest.fixture(name="world")
def _world() -> Iterator[World]:
    with closing(World()) as world:
        yield world


def failures(served: Served) -> dict[str, str]:
    """Return what failed, and why."""
    return {each.component: each.reason for each in served.failures}


def test_a_filter_and_a_feature_read_what_was_fetched_of_items(world):
    """One call for all candidates; what is not known does not pass, and is NaN as a feature."""
    outside = Outside(stock_of)
    plan = plan_of(of_items(outside), filters=(rule_of("stock >= 20"),))
    served = world.answer(plan)
    assert set(world.ids(served)) < {f"i{number}" for number in range(20, 30) if number != 27}
    assert len(served.selection.chosen) == 8
    assert (len(outside.asked), len(set(outside.asked[0]))) == (1, 30)
    free = world.answer(plan_of(of_items(outside)))
    stock = dict(zip(world.shop.ids(free.candidates.item_index.tolist()), free.features.values[:, 0], strict=True))
    assert np.isnan(stock.pop("i27"))
    assert stock == {each: float(each[1:]) for each in stock}


def test_a_rerun_asks_no_one_and_is_the_same_to_the_bit(world):
    """What was read is in the record: of the user, and of each candidate."""
    outside, people = Outside(stock_of), Outside(crm)
    text = 'stock >= 10 and (context.member and context.tier == "gold")'
    plan = plan_of(of_items(outside), of_user(people), filters=(rule_of(text),))
    served = world.answer(plan)
    again = world.again(plan, served)
    assert world.body(again) == world.body(served)
    assert len(served.selection.chosen) == 8
    assert (len(outside.asked), len(people.asked), people.asked[0]) == (1, 1, ("ann",))


def test_what_failed_is_named_and_a_rerun_goes_without_it(world):
    """An answer all the same, of the tier ``reduced``."""
    plan = plan_of(of_items(Outside(gone)), of_user(Outside(crm)))
    served = world.answer(plan)
    assert (served.tier, failures(served)) == ("reduced", {"stock": f"ConnectionError: {world.ids(served)[0]}"})
    assert served.query.context == {"member": True, "tier": "gold"}
    assert served.query.item_fields == {}
    assert world.body(world.again(plan, served)) == world.body(served)


def test_the_caller_s_own_values_win(world):
    """Of the context and of each field of each item; the record knows whose each is."""
    plan = plan_of(of_items(Outside(stock_of)), of_user(Outside(crm)))
    said = {"i3": {"stock": 99.0, "price_now": 1.5}, "i2": {"price_now": 2.5}}
    served = world.answer(plan, context={"tier": "lead"}, item_fields=said)
    assert served.query.context == {"tier": "lead", "member": True}
    assert served.query.item_fields["i3"] == said["i3"]
    assert served.query.item_fields["i2"] == {"stock": 2.0, "price_now": 2.5}
    body, record = decode_body(world.body(served)), decode_served(world.body(served))
    assert (body.item_fields, body.fetched_context) == (said, ("member",))
    assert "i3" not in unpack_ids(body.fetched_ids)
    assert record.query == served.query
    assert record.fetched.item_fields["i2"] == {"stock": 2.0}


@pytest.mark.parametrize("deadline_s, cut_ms", [(0.02, 10), (1.0, 20)])
def test_a_slow_system_is_cut_off_at_half_of_the_time_or_its_own(world, deadline_s, cut_ms):
    """Half of the deadline is left to answer without it; and no fetch has longer than its timeout."""
    served = world.answer(plan_of(of_items(Outside(stock_of, waits_s=3.0))), deadline_s)
    assert failures(served) == {"stock": f"TimeoutError: no answer within {cut_ms} ms"}
    assert len(served.selection.chosen) == 8


def test_fetches_of_one_scope_are_asked_at_once_and_users_before_items(world):
    """Two systems take as long as the slower one; a user's columns are known when items are looked for."""
    slow = [Outside(stock_of, waits_s=0.01), Outside(lambda ids: {"price_now": [1.0] * len(ids)}, waits_s=0.01)]
    prices = of_items(slow[1], "prices", columns={"price_now": "number"})
    people = Outside(crm, waits_s=0.005)
    segment = rule_of('context.tier == "gold" and item.price >= 20', "club")
    before = world.loop.time()
    served = world.answer(plan_of(of_items(slow[0]), prices, of_user(people), filters=(segment,)), 1.0)
    assert world.loop.time() - before == pytest.approx(0.015)
    assert set(slow[0].asked[0]) == {f"i{number}" for number in range(22, 30)}
    assert served.query.item_fields["i22"] == {"stock": 22.0, "price_now": 1.0}


def test_nobody_is_asked_for_a_user_that_is_not_there(world):
    """An anonymous request has nothing of a user."""
    people = Outside(crm)
    assert world.answer(plan_of(of_user(people)), user_id=None).query.context == {}
    assert people.asked == []


def test_what_is_young_enough_is_not_asked_again_and_nothing_is_awaited(world):
    """An answer of which all is in the cache runs through without giving way; a second later all is asked anew."""
    outside = Outside(stock_of, waits_s=0.001)
    plan = plan_of(of_items(outside, age_ms=1_000))
    now_ms = world.query().now_ms
    first = world.answer(plan)
    coroutine = recommend(
        plan, world.observe, world.query(now_ms=TimestampMs(now_ms + 1_000)), lambda: 1.0, (), world.cache
    )
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert world.ids(ended.value.value) == world.ids(first)
    assert ended.value.value.query.item_fields == first.query.item_fields
    assert len(outside.asked) == 1
    world.answer(plan, now_ms=TimestampMs(now_ms + 1_001))
    assert len(outside.asked) == 2


def test_only_what_the_cache_lacks_is_asked(world):
    """And what is known already is used where the rest fails."""
    outside = Outside(stock_of)
    plan = plan_of(of_items(outside, age_ms=1_000))
    world.answer(plan, given=("i1", "i2"))
    outside.act = gone
    served = world.answer(plan, given=("i1", "i2", "i3"))
    assert outside.asked == [("i1", "i2"), ("i3",)]
    assert served.query.item_fields == {"i1": {"stock": 1.0}, "i2": {"stock": 2.0}}
    assert failures(served) == {"stock": "ConnectionError: i3"}


def test_an_item_that_came_in_between_has_no_columns(world):
    """The answer reads all of its state anew: an item of which nobody asked is missing, and a filter says no to it."""

    def selling(ids: Sequence[str]) -> Mapping[str, Column]:
        world.shop.put("i99", price=1.0, category="odd")
        world.shop.act("view", "bob", *["i99"] * 40)
        return stock_of(ids)

    free = world.answer(plan_of(of_items(Outside(selling))))
    column = dict(zip(world.shop.ids(free.candidates.item_index.tolist()), free.features.values[:, 0], strict=True))
    assert np.isnan(column["i99"])
    assert column["i2"] == 2.0
    assert free.log_position == world.shop.fold.log_position
    assert "i99" in world.ids(free)


def test_one_pass_without_fetches_of_items_and_two_with_them(world):
    """Nobody pays for a peek who needs none: a plan without fetches, one of users, and a caller's own items."""
    for fetches, asked, calls in (
        ((), {}, 1),
        ((of_user(Outside(crm)),), {}, 1),
        ((of_items(Outside(stock_of)),), {"given": ("i1", "i2")}, 1),
        ((of_items(Outside(stock_of)),), {}, 2),
    ):
        source = Counting()
        world.answer(plan_of(*fetches, sources=(source,)), **asked)
        assert source.calls == calls


def test_no_system_is_asked_without_a_cache(world):
    """As of a moment of the past, in a trial and in an evaluation."""
    outside = Outside(stock_of)
    served = asyncio.run(recommend(plan_of(of_items(outside)), world.observe, world.query(), lambda: 1.0))
    assert (outside.asked, served.query.item_fields, served.failures) == ([], {}, ())


def test_a_peek_is_the_shortlist_less_the_filters_that_read_what_is_fetched(world):
    """Up to 1,000 items where such a filter takes an unknown number away, else those that would be scored."""
    outside = Outside(stock_of)
    reads = plan_of(of_items(outside), filters=(rule_of("stock > 0", "sold"), rule_of("item.price < 15", "cheap")))
    assert reads.after_fetch == {"sold"}
    request = FetchRequest(reads, world.query(slate_size=3), Account())
    assert set(peeked(request, lambda _, query: world.observe(query)).item_ids) == {f"i{n}" for n in range(15)}
    plain = plan_of(of_items(outside))
    request = FetchRequest(plain, world.query(slate_size=3), Account())
    assert set(peeked(request, lambda _, query: world.observe(query)).item_ids) == {f"i{n}" for n in range(4)}
    assert set(filters_after(plain.fetches, plain.filters, ("available",))) == {"available"}
    assert not set(filters_after((of_user(outside),), reads.filters, ("available",)))


def test_placements_of_a_page_share_one_call(world):
    """Each fetch is asked once for all slates of a page, also where it is asked each time."""
    outside, people = Outside(stock_of), Outside(crm)
    plans = [plan_of(of_items(outside), of_user(people), name=name) for name in ("top", "below")]
    plans[1] = replace(plans[1], floor=(), sources=(Counting(),))
    slots = [(plan, world.query(placement=plan.name, slate_size=3)) for plan in plans]
    page = recommend_page(slots, lambda _, query: world.observe(query), world.shop.ids, lambda: 1.0, cache=world.cache)
    above, below = asyncio.run(page)
    assert (len(outside.asked), len(people.asked)) == (1, 1)
    assert {"i1", "i9"} <= set(outside.asked[0])
    assert len(outside.asked[0]) == len(set(outside.asked[0]))
    assert "i9" not in above.query.item_fields
    assert below.query.item_fields["i9"] == {"stock": 9.0}
    assert below.query.context["tier"] == above.query.context["tier"] == "gold"


def test_a_page_s_failure_is_named_in_each_slate(world):
    """Each that lists the fetch goes without it."""
    plans = [plan_of(of_items(Outside(gone), key="same"), name=name) for name in ("top", "below")]
    slots = [(plan, world.query(placement=plan.name, slate_size=3)) for plan in plans]
    found = asyncio.run(
        recommend_page(slots, lambda _, query: world.observe(query), world.shop.ids, lambda: 1.0, cache=world.cache)
    )
    assert [list(failures(each)) for each in found] == [["stock"], ["stock"]]
    assert all("stock" in each.took_s for each in found)


def test_more_ids_than_one_call_takes_are_asked_in_several(world):
    """What came before a call that failed is of use."""
    ids = tuple(f"i{number}" for number in range(IDS_MAX + 5))
    outside = Outside(lambda some: gone(some) if len(some) < IDS_MAX else stock_of(some))
    served = world.answer(plan_of(of_items(outside)), given=ids)
    assert [len(each) for each in outside.asked] == [IDS_MAX, 5]
    assert served.query.item_fields["i900"] == {"stock": 900.0}
    assert failures(served) == {"stock": f"ConnectionError: i{IDS_MAX}"}


def test_a_part_that_takes_the_time_in_the_peek_is_seen_by_the_breaker(world):
    """Both passes count, so a source cannot hide behind the first one."""

    @dataclass
    class Slow(Counting):
        def retrieve(self, moment: Moment) -> Proposal:
            world.loop.spend(0.01)
            return super().retrieve(moment)

    served = world.answer(plan_of(of_items(Outside(stock_of)), sources=(Slow(),)))
    assert served.took_s["counting"] == pytest.approx(0.02)


def test_a_slate_that_continues_another_goes_by_what_was_fetched_for_it(world):
    """Nobody is asked: filters read the columns of the order, and so does a rerun."""
    plan = plan_of(of_items(Outside(stock_of)), filters=(rule_of("stock >= 4"),))
    served = world.answer(plan, slate_size=4, order_max=20)
    record = decode_served(world.body(served))
    strict = plan_of(of_items(Outside(gone)), filters=(rule_of("stock >= 20"),))
    query = query_on(record, replace(world.query(), request_id="r-2"), 1, 4)
    found_on = read_on(strict, world.observe, query, record)
    found = found_on.served
    behind = {item.id: {"stock": float(item.id[1:])} for slate in record.order[: found_on.turn - 1] for item in slate}
    assert found.query.item_fields == found.fetched.item_fields == behind
    later = decode_served(world.body(found))
    assert later.rerunnable
    again = asyncio.run(rerun(strict, world.observe, later, record))
    assert world.body(again) == world.body(found)
    assert all(int(each[1:]) >= 20 for each in world.ids(found))


def test_more_than_a_record_has_room_for_keeps_the_slate_s_own_and_says_so():
    """Training has what it needs; a rerun would be another answer, and is refused by name."""
    chance = np.random.default_rng(7)
    names = ("stock", *(f"column_{number}" for number in range(20)))
    outside = Outside(lambda ids: {name: chance.random(len(ids)) for name in names})
    many = of_items(outside, columns=dict.fromkeys(names, "number"))
    with closing(World(700)) as world:
        plan = plan_of(many, filters=(rule_of("stock >= 0"),), own=frozenset({"counting"}))
        served = world.answer(plan)
        body = decode_body(world.body(served))
        assert not body.rerunnable
        assert set(unpack_ids(body.fetched_ids)) == set(world.ids(served))
        record = decode_served(world.body(served))
        first = world.ids(served)[0]
        assert record.query.item_fields[first] == served.query.item_fields[first]
        with pytest.raises(NotFound, match="took more bytes than a record has"):
            world.again(plan, served)


def test_columns_come_back_bit_by_bit_and_take_four_bytes_where_that_is_exact():
    """A column of whole numbers is half as large; a column may lack some items."""
    fields = {f"i{number}": {"stock": float(number), "price": number / 10} for number in range(50)}
    fields["i7"] = {"price": 1e300}
    packed = pack_fetched(Fetched({"tier": "gold"}, fields), ())
    assert [len(zlib.decompress(packed.columns[name])) for name in ("stock", "price")] == [200, 400]
    assert packed.is_whole
    plain = plan_of()
    with closing(World()) as world:
        served = replace(world.answer(plain), fetched=Fetched({"tier": "gold"}, fields))
        served = replace(served, query=replace(served.query, context={"tier": "gold"}, item_fields=fields))
        told = decode_body(world.body(served))
        assert unpack_fetched(told).item_fields == fields
        assert unpack_fetched(told).context == {"tier": "gold"}
        assert decode_served(world.body(served)).query == served.query


def random_rows(count: int, columns: int) -> dict[str, dict[str, float]]:
    """Return columns that do not compress, of items with ids of 36 random letters and digits."""
    chance, letters = np.random.default_rng(7), np.array(list(string.ascii_letters + string.digits))
    ids = ["".join(letters[row]) for row in chance.integers(0, len(letters), (count, 36))]
    return {item: {f"column_{number}": float(chance.random()) for number in range(columns)} for item in ids}


@pytest.mark.parametrize("count, columns, is_whole", [(1_000, 1, True), (1_000, 8, True), (1_300, 8, False)])
def test_what_is_kept_of_outside_systems_stays_within_its_bytes(count, columns, is_whole):
    """1,000 items of eight columns are kept in full, ids and names with them, whatever they are."""
    fields = random_rows(count, columns)
    packed = pack_fetched(Fetched({"tier": "gold" * 10}, fields), tuple(fields)[:20])
    assert sum(map(len, (packed.ids, *packed.columns, *packed.columns.values()))) < FETCHED_BYTES_MAX
    assert packed.is_whole == is_whole
    assert unpack_ids(packed.ids) == list(fields)[: count if is_whole else 20]


def test_a_slate_that_is_all_that_was_read_is_whole_and_within_the_bytes_too():
    """A slate of 600 items is kept as all of it; of one that is too large the first items stay."""
    fields = random_rows(600, 2)
    assert pack_fetched(Fetched({}, fields), tuple(fields)).is_whole
    fields = random_rows(600, 60)
    packed = pack_fetched(Fetched({}, fields), tuple(fields))
    assert not packed.is_whole
    assert packed.size <= FETCHED_BYTES_MAX
    assert unpack_ids(packed.ids) == list(fields)[:150]


def test_the_record_keeps_the_rows_that_the_answer_examined_and_no_others():
    """The peek asks about 1,000 items and the answer examines a few: a rerun has what it needs, of these alone."""
    with closing(World(1_200)) as world:
        plan = plan_of(of_items(Outside(stock_of)), filters=(rule_of("stock >= 3"),))
        said = {"i1199": {"price_now": 2.5}}
        served = world.answer(plan, item_fields=said)
        kept = decode_served(world.body(served))
        assert len(served.selection.chosen) == 8
        assert 8 < len(kept.fetched.item_fields) < 20
        assert kept.rerunnable
        assert kept.query == served.query
        assert decode_body(world.body(served)).item_fields == said
        assert world.body(world.again(plan, served)) == world.body(served)


def test_a_custom_part_may_read_any_row_so_all_are_kept():
    """Of 1,000 items: a rerun has each of them."""
    with closing(World(1_200)) as world:
        plan = plan_of(of_items(Outside(stock_of)), filters=(rule_of("stock >= 3"),), own=frozenset({"counting"}))
        served = world.answer(plan)
        kept = decode_served(world.body(served))
        assert kept.rerunnable
        assert len(kept.fetched.item_fields) == 900  # nothing is known of ids that end in 7
        assert world.body(world.again(plan, served)) == world.body(served)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"no zlib",
        zlib.compress(b"\xff"),
        zlib.compress(b"\x91\xa1a"),
        zlib.compress(b"\x90") + b"more",
        zlib.compress(msgspec.msgpack.encode(["a" * (2 << 20)])),
    ],
)
def test_columns_that_are_none_are_no_record(damaged):
    """Damaged bytes are an expected error, as those of any other part of a record."""
    with closing(World()) as world:
        body = decode_body(world.body(world.answer(plan_of(of_items(Outside(stock_of))))))
    with pytest.raises(NotFound):
        decode_served(encode_body(structs.replace(body, fetched_ids=damaged)))


@pytest.mark.parametrize(
    "packed", [zlib.compress(b"\x90") + b"more", zlib.compress(msgspec.msgpack.encode(["a" * (2 << 20)]))]
)
def test_ids_expand_to_no_more_than_a_record_may_have(packed):
    """A few bytes would else become gigabytes; what follows the content is no part of it."""
    with pytest.raises(ValueError, match="no compressed content"):
        unpack_ids(packed)


def test_a_peek_looks_for_1000_items_and_a_slate_that_they_leave_short_is_named():
    """The catalogue has more, which nobody asked about: the answer says so, and so does its rerun."""
    with closing(World(1_300)) as world:
        outside = Outside(stock_of)
        plan = plan_of(of_items(outside), filters=(rule_of("stock < 2 or stock >= 1298"),))
        served = world.answer(plan)
        (asked,) = outside.asked
        assert len(asked) == IDS_MAX
        assert 2 <= len(served.selection.chosen) < 8
        count = len(served.selection.chosen)
        found = f"{count} items passed of those that were asked about, which are not the whole catalogue"
        assert (served.tier, failures(served)) == ("reduced", {"fetches": found})
        again = world.again(plan, served)
        assert (again.failures, world.body(again)) == (served.failures, world.body(served))
        full = world.answer(plan_of(of_items(outside), filters=(rule_of("stock >= 3"),)))
        assert (full.tier, failures(full)) == ("full", {})


def test_a_short_slate_has_no_second_name_where_another_reason_is_there(world):
    """The catalogue was asked about to the last item, or the system is down."""
    few = world.answer(plan_of(of_items(Outside(stock_of)), filters=(rule_of("stock < 2"),)))
    assert (few.tier, failures(few), len(few.selection.chosen)) == ("full", {}, 2)
    with closing(World(1_300)) as large:
        down = large.answer(plan_of(of_items(Outside(gone)), filters=(rule_of("stock < 2"),)))
    assert list(failures(down)) == ["stock"]


def test_a_slate_that_another_filter_leaves_short_is_whole():
    """One of the shop's own that reads no column: the rest of the catalogue was looked at, by what is known."""
    with closing(World(1_300)) as world:
        few = FewItems()
        plan = plan_of(of_items(Outside(stock_of)), filters=(few,), own=frozenset({few.name}))
        plan = replace(plan, after_fetch=frozenset({few.name}))
        served = world.answer(plan)
        assert len(served.selection.chosen) == 3
        assert (served.tier, failures(served)) == ("full", {})


def test_why_an_item_is_out_names_no_filter_whose_columns_were_not_kept():
    """Of an item that the answer did not examine the columns are gone: the reason is that no source proposed it."""
    with closing(World(1_200)) as world:
        plan = plan_of(of_items(Outside(stock_of)), filters=(rule_of("stock >= 0"),))
        served = world.answer(plan)
        (far,) = explain_with(served, plan, world.observe(served.query), ["i1100"]).asked
        assert "i1100" not in served.fetched.item_fields
        assert (far.outcome, far.removed) == ("not_proposed", ())
        poor = plan_of(of_items(Outside(stock_of)), filters=(rule_of("stock >= 3"),))
        served = world.answer(poor)
        (near,) = explain_with(served, poor, world.observe(served.query), ["i1"]).asked
        assert near.outcome == "removed"


def test_a_record_without_fetches_has_nothing_of_them():
    """The usual record pays four bytes."""
    with closing(World()) as world:
        body = decode_body(world.body(world.answer(plan_of())))
    assert (body.fetched, body.fetched_ids, body.fetched_context, body.rerunnable) == ({}, b"", (), True)
