"""The kernel of a block: the same bits as readers that fill their rows one by one and steps behind them."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import Candidates, LogPosition, Models, Query, TimestampMs
from midstream.features.block_inputs import TOGETHER
from midstream.features.declared import block_of
from midstream.features.readers.coding import Coding
from midstream.features.readers.condition_inputs import ItemAmong, Listed, ZoneTime
from midstream.features.readers.history_inputs import Last, Shared
from midstream.features.readers.inputs import Reader, columns_from
from midstream.features.readers.item_inputs import ItemArrival, ItemCategory, ItemDifference, ItemNumber, ItemVector
from midstream.features.readers.request_inputs import (
    ContextValue,
    ItemFieldReader,
    LocalTimeReader,
    PositionReader,
    RandomReader,
    ToldCategory,
)
from midstream.state.expressions.program import NOW as TIME
from midstream.state.expressions.program import Cell, Expression, Op, ScopeName, column
from midstream.state.fold import Fold
from tests.support.events import random_events, tiny_settings

MINUTE, DAY = 60_000, 86_400_000
HASHED = Coding("hashed", buckets=97)
SCOPES: tuple[tuple[ScopeName, str], ...] = (
    ("global", ""), ("user", ""), ("item", ""), ("session", ""), ("user_item", ""), ("attribute", "category"),
    ("attribute", "tags"), ("user_attribute", "category"), ("user_attribute", "tags"),
)  # fmt: skip
CELLS = tuple(
    sorted(
        (
            Cell(scope, ("click", "view"), attribute=attribute, **how)
            for scope, attribute in SCOPES
            for how in (
                {}, {"half_life_ms": 10 * MINUTE}, {"half_life_ms": 1_000}, {"window_ms": 30 * MINUTE},
                {"window_ms": 40 * DAY, "take": "value"}, {"take": "value", "fold": "min"},
                {"take": "value", "fold": "last"}, {"fold": "distinct", "of": "user"},
            )
        ),
        key=msgspec.json.encode,
    )
)  # fmt: skip
READERS: tuple[Reader, ...] = (
    ItemNumber("price"), ItemNumber("fresh"), ItemNumber("available"), ItemNumber("nothing"), ItemArrival(),
    ItemCategory("category", HASHED), ItemCategory("tags", HASHED), ItemCategory("brand", Coding("index", ("a", "b"))),
    ItemCategory("tags", Coding("one_hot", ("red", "sale"))), ItemVector("look", 3), ItemDifference("price"),
    *(Shared(scope, name, (), 4) for scope in ("session", "user") for name in ("category", "tags", "price")),
    Shared("user", "tags", ("click", "dismiss", "unknown"), 2), Shared("session", "category", ("click",), 1),
    Shared("user", "category", (), 50), LocalTimeReader("hour", -90, ""), LocalTimeReader("time_of_day", 45, ""),
    LocalTimeReader("weekday", 0, ""), LocalTimeReader("month", 0, ""),
    Last("user", "", (), 3, HASHED), Last("session", "category", (), 2, HASHED), RandomReader("dice"),
    RandomReader("other"), ItemFieldReader("margin"), ItemFieldReader("stock"), PositionReader(-1.0),
    ContextValue("request", "x", "number"), ContextValue("user", "age", "number"),
    LocalTimeReader("time_of_day", 60, "offset"), ToldCategory("request", "x", Coding("one_hot", ("red", "sale"))),
    ZoneTime("hour", "UTC"), ItemAmong("category", Listed(("shoes", "hats"))),
)  # fmt: skip


@dataclass(frozen=True)
class Own:
    """A reader of a shop's own."""

    rows: int = 2

    def fill(self, moment, candidates, found):
        found[0] = candidates.item_index * 1.5
        found[1] = moment.query.seed


@cache
def world():
    """A state in which every maximum was met."""
    fold = Fold(msgspec.structs.replace(tiny_settings(), cells=CELLS))
    fold.apply(LogPosition(0), random_events(1_500, 11))
    return fold


def test_the_users_that_are_asked_for_have_acted():
    """Else nothing of a user would be compared."""
    fold = world()
    for user in ("user-0", "user-1", "user-2"):
        slot = fold.vocabulary.user_slot(fold.vocabulary.user_hash_of(user))
        assert len(fold.users.last_distinct(slot, (), 4)) > 0


def leaves():
    """A column for each cell, and for each column of each reader but those that raise."""
    cells = [column(each) for each in CELLS]
    inputs = [each for reader in (*READERS, Own()) for each in columns_from(reader)]
    return [*cells, *inputs, TIME, column(2.5)]


def attempts(raised):
    """An ``Attempt`` that notes who raised."""

    def attempt(number, fill):
        try:
            fill()
        except Exception:  # noqa: BLE001  # as at the boundary of a component
            raised.append(number)
            return False
        return True

    return attempt


def candidates_of(items):
    """Candidates of these indices."""
    index = np.array(items, dtype=np.int32)
    return Candidates(index, (), np.empty((len(index), 0), np.float32), np.empty((len(index), 0), np.int32))


@st.composite
def expressions(draw):
    """Columns by name: leaves, and operations on them and on one another."""
    found = list(draw(st.permutations(leaves()))[: draw(st.integers(1, 40))])
    for _ in range(draw(st.integers(0, 12))):
        op = draw(st.sampled_from([each for each in Op if each > Op.NOW]))
        sides = 1 if op in {Op.LOG, Op.SQRT} else 2
        found.append(Expression(op, tuple(draw(st.sampled_from(found)) for _ in range(sides))))
    return {f"c{place}": each for place, each in enumerate(found)}


@given(
    expressions(),
    st.lists(st.integers(-1, 11), min_size=1, max_size=20).map(lambda some: some * 9),
    st.sampled_from([None, "user-0", "user-1", "user-2", "user-4", "nobody"]),
    st.sampled_from([0, 5 * MINUTE, 3 * DAY, 90 * DAY]),
    st.booleans(),
    st.integers(-5, 1 << 63),
)
def test_a_block_is_its_readers_and_steps(columns, items, user, later, is_sent, seed):
    """To the bit: every kind of reader and cell, several blocks of candidates, items and users that are not known."""
    fold = world()
    count = fold.vocabulary.item_count
    names = [fold.vocabulary.item_id(each) for each in range(3)]
    sent: Any = {name: {"margin": place / 3, "stock": "none"} for place, name in enumerate(names)}
    query = Query(
        "r", "home", user, None, 5, TimestampMs(fold.log_time_ms + later), seed, context={"x": 3.5, "offset": -90},
        items=tuple(names[:2]), item_fields=sent if is_sent else {},
    )  # fmt: skip
    moment, block = fold.moment(query, Models({})), block_of(columns)
    candidates = candidates_of([each % count if each >= 0 else -1 for each in items])
    raised: list[int] = []
    twin_raised: list[int] = []
    found = block.read(moment, candidates, attempts(raised))
    twin = block.read_by_readers(moment, candidates, attempts(twin_raised))
    assert (found.dtype, found.shape, found.strides) == (twin.dtype, twin.shape, twin.strides)
    assert found.tobytes() == twin.tobytes()
    assert sorted(raised) == sorted(twin_raised)
    assert all(number != TOGETHER for number in raised)


def test_most_readers_of_the_package_need_no_row():
    """Only what is counted here is filled one by one: a new kind of reader is noticed."""
    block = block_of({f"c{place}": each for place, each in enumerate(leaves())})
    bound = block._bound(world().moment(Query("r", "home", "u1", None, 5, TimestampMs(0), 1), Models({})))
    filled = [type(reader).__name__ for _, _, reader in bound.given]
    assert sorted(filled) == [
        "ItemAmong", "ItemCategory", "ItemCategory", "ItemDifference", "ItemNumber", "ItemVector", "Own",
        "PositionReader", "Shared", "Shared",
    ]  # fmt: skip
