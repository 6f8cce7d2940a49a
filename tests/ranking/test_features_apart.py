"""A reader that raises: what needs it is NaN and named, everything else is read, and a rerun is the same."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import FeatureFailed
from midstream.core.types import Candidates, Moment, Query, TimestampMs
from midstream.features.declarations import Declarations
from midstream.features.declared import DeclaredFeatures
from midstream.features.kinds.kinds import (
    AnyFeature,
    Category,
    Computed,
    Count,
    ItemField,
    LocalTime,
    Number,
    Position,
    cells_of,
)
from midstream.features.readers.inputs import Reader
from midstream.features.readers.request_inputs import ItemFieldReader
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.frame import FAILED_FEATURES_MAX, read_or_stop
from midstream.ranking.record.served import ServedRecord, decode_served, encode_served, read_then
from midstream.state.expressions.program import Columns
from tests.ranking.test_pipeline import answer, plan_of, slate
from tests.support.frozen_shop import SMALL, StillShop

FEATURES = (
    Count(name="views", actions=("view",)),
    Number(name="price"),
    ItemField(name="margin"),
    ItemField(name="stock"),
    Category(name="kind", attribute="category", form="one_hot", values=("even", "odd")),
    LocalTime(name="hour"),
    Position(name="place", otherwise=3.0),
    Computed(name="dear", text="price * hour + views"),
    Computed(name="gain", text="if_nan(margin, 0.0) + 1.0"),
)
NEEDS = {
    "views": (),
    "price": ("price",),
    "margin": ("margin",),
    "stock": ("stock",),
    "kind": ("kind",),
    "hour": ("hour",),
    "place": ("place",),
    "dear": ("price", "hour"),
    "gain": ("margin",),
}
"""By whose readers each feature comes about, written by hand."""
DECLARED = Declarations(FEATURES, tuple(SMALL.attributes.items()))
ITEM_FIELDS = {f"i{number}": {"margin": number / 3, "stock": float(number)} for number in range(12)}


@dataclass(frozen=True)
class Raises:
    """A reader that writes something and then raises."""

    rows: int
    name: str

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        found[:] = 17.0
        message = f"the reader of {self.name}"
        raise ArithmeticError(message)


def shop_of() -> StillShop:
    """A shop of twelve items."""
    shop = StillShop(settings())
    for number in range(12):
        shop.put(f"i{number}", price=float(number), category="even" if number % 2 == 0 else "odd")
    shop.act("view", "bob", "i3", "i3", "i5")
    return shop


def settings():
    """The small shop's settings with the cells of the features."""
    return msgspec.structs.replace(SMALL, cells=cells_of(FEATURES))


SHOP = shop_of()
QUERY = Query("r-1", "default", "bob", None, 12, TimestampMs(0), 7, item_fields=ITEM_FIELDS)
OWN = {"price": 0, "margin": 1, "stock": 2, "kind": 3, "hour": 4, "place": 5}
"""Place of each feature's reader among those of the block, in the order of the declarations."""


def broken(block: DeclaredFeatures, names: Collection[str]) -> DeclaredFeatures:
    """Return the block with the readers of some features broken."""
    readers = list(block.readers)
    for name in names:
        readers[OWN[name]] = Raises(readers[OWN[name]].rows, name)
    return replace(block, readers=tuple(readers))


def plan_with(block):
    """A plan that reads a block and keeps what was read."""
    return replace(plan_of(), features=(block,), log_features=1.0, declared=DECLARED)


@given(st.sets(st.sampled_from(sorted(OWN))))
def test_what_needs_no_reader_that_raises_is_read(names):
    """Each feature that needs one is NaN and named, with the reason; all else is as ever; a rerun is the same."""
    block = DECLARED.block(DECLARED.names)
    whole = answer(SHOP, plan_with(block), QUERY)
    served = answer(SHOP, plan_with(broken(block, names)), QUERY)
    assert whole.features is not None
    assert served.features is not None
    assert len(served.candidates) == 12
    lost = [name for name in DECLARED.names if set(NEEDS[name]) & names]
    assert sorted(each.component for each in served.failures) == sorted(f"features.{name}" for name in lost)
    for failure in served.failures:
        name = failure.component.removeprefix("features.")
        if name in names:
            assert failure.reason == f"ArithmeticError: the reader of {name}"
        else:
            assert failure.reason in {f"as features.{each}" for each in NEEDS[name]}
    for place, column in enumerate(served.features.names):
        feature = next(name for name in sorted(NEEDS, key=len, reverse=True) if column.startswith(name))
        values = served.features.values[:, place]
        if feature in lost:
            assert np.isnan(values).all()
        else:
            assert values.tobytes() == whole.features.values[:, place].tobytes()
            assert not np.isnan(values).any()
    require_rerun(served, block, names)


def require_rerun(served, block, names):
    """Answered again, with readers that still raise and with healed ones, everything is the same."""
    record = decode_served(encode_served(served, slate(SHOP, served)))
    for again_block in (block, broken(block, names)):
        again = asyncio.run(rerun(plan_with(again_block), SHOP.moment, record))
        assert again.failures == served.failures
        assert again.tier == served.tier == ("reduced" if names else "full")
        assert again.features is not None
        assert again.features.values.tobytes() == served.features.values.tobytes()
        assert slate(SHOP, again) == slate(SHOP, served)
    require_only_read(record)


def require_only_read(record: ServedRecord):
    """What a comparison with the log sees of a record are the columns that were read."""
    read = read_then(record, DECLARED)
    assert read is not None
    failed = {each.component for each in record.failures}
    assert not np.isnan(read.values).any()
    assert {name for name in NEEDS if name in read.names} == {
        name for name in NEEDS if name != "kind" and f"features.{name}" not in failed
    }


def test_a_block_that_fails_beside_its_readers_is_lost(monkeypatch):
    """No reader raises when it is asked alone: then nobody knows what is right, and the block is named."""
    block = DECLARED.block(DECLARED.names)

    def fails(self, *_asked):
        raise ArithmeticError(len(self.names))

    monkeypatch.setattr(DeclaredFeatures, "read", fails)
    for names in ((), ("price",)):
        served = answer(SHOP, plan_with(broken(block, names)), QUERY)
        assert [(each.component, each.reason) for each in served.failures] == [("features", "ArithmeticError: 10")]
        assert served.features is not None
        assert np.isnan(served.features.values).all()
        assert read_then(decode_served(encode_served(served, slate(SHOP, served))), DECLARED) is None


def test_more_features_than_a_record_names_are_the_block():
    """A served record has room for so many names: where more fail, the block did, also when it is run again."""
    count = FAILED_FEATURES_MAX + 1
    features: tuple[AnyFeature, ...] = (
        Number(name="price"),
        *(Computed(name=f"f{n}", text=f"price * {n + 2}.0") for n in range(count)),
    )
    for kept in (count - 1, count):
        declared = Declarations(features[:kept], tuple(SMALL.attributes.items()))
        block = replace(declared.block(declared.names), readers=(Raises(1, "price"),))
        plan = replace(plan_of(), features=(block,), log_features=1.0, declared=declared)
        served = answer(SHOP, plan)
        names = [f"features.{name}" for name in declared.names]
        assert [each.component for each in served.failures] == (names if kept < count else ["features"])
        record = decode_served(encode_served(served, slate(SHOP, served)))
        again = asyncio.run(rerun(plan, SHOP.moment, record))
        assert again.failures == served.failures
        assert again.features is not None
        assert np.isnan(again.features.values).all()


def test_where_nobody_waits_nothing_is_made_up():
    """The past and examples of it end with the name of each feature and the place in the log."""
    block = DECLARED.block(DECLARED.names)
    moment = SHOP.moment(QUERY)
    candidates = Candidates(
        np.arange(12, dtype=np.int32), (), np.empty((12, 0), np.float32), np.empty((12, 0), np.int32)
    )
    assert read_or_stop(block, moment, candidates, DECLARED).tobytes() == block.read(moment, candidates).tobytes()
    with pytest.raises(FeatureFailed) as caught:
        read_or_stop(broken(block, ("hour",)), moment, candidates, DECLARED)
    assert str(caught.value) == (
        f"at log position {SHOP.fold.log_position} features could not be read. "
        "features.hour: ArithmeticError: the reader of hour; features.dear: as features.hour"
    )
    assert caught.value.parts == ("features.hour", "features.dear")
    assert isinstance(caught.value.__cause__, ArithmeticError)
    assert raised_in(caught.value.__cause__) == "fill"
    with pytest.raises(FeatureFailed) as caught:
        read_or_stop(broken(block, ("hour", "price")), moment, candidates, DECLARED)
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert [str(each) for each in caught.value.__cause__.exceptions] == ["the reader of price", "the reader of hour"]


def raised_in(error: BaseException) -> str:
    """Return the name of the function in which something was raised."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_name


@dataclass
class Counted:
    """A reader that counts how often it is asked, and may raise."""

    reader: Reader
    raises: bool
    asked: int = 0

    @property
    def rows(self) -> int:
        return self.reader.rows

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        self.asked += 1
        if self.raises:
            found[:] = 17.0
            raise ArithmeticError
        self.reader.fill(moment, candidates, found)


@given(st.sets(st.sampled_from(sorted(OWN))))
def test_each_reader_is_asked_once(names):
    """Whichever raise: a block that is broken costs no more than one that is not."""
    block = DECLARED.block(DECLARED.names)
    readers = tuple(
        Counted(reader, raises=number in {OWN[name] for name in names}) for number, reader in enumerate(block.readers)
    )
    served = answer(SHOP, plan_with(replace(block, readers=readers)), QUERY)
    assert [each.asked for each in readers] == [1] * len(OWN)
    assert bool(served.failures) == bool(names)


@pytest.mark.parametrize("others", [(), ("hour",)])
@pytest.mark.parametrize("names", [(), ("margin",), ("margin", "stock")])
def test_fields_that_are_read_together_are_told_apart(monkeypatch, names, others):
    """Where the call for all of them raises each is asked alone; when none raises then, nobody knows which it was."""
    block = DECLARED.block(DECLARED.names)
    whole = answer(SHOP, plan_with(block), QUERY)
    assert whole.features is not None
    fill = ItemFieldReader.fill

    def alone(self, *asked):
        if self.field in names:
            raise ArithmeticError(self.field)
        fill(self, *asked)

    def together(*_asked):
        raise ArithmeticError

    monkeypatch.setattr(ItemFieldReader, "fill", alone)
    monkeypatch.setattr("midstream.features.block_inputs.fill_fields", together)
    served = answer(SHOP, plan_with(broken(block, others)), QUERY)
    lost = [name for name in DECLARED.names if set(NEEDS[name]) & {*names, *others}]
    expected = {f"features.{name}" for name in lost} if names else {"features"}
    assert {each.component for each in served.failures} == expected
    assert served.features is not None
    for place, column in enumerate(served.features.names):
        is_lost = not names or any(column.startswith(name) for name in lost)
        values = served.features.values[:, place]
        assert np.isnan(values).all() if is_lost else values.tobytes() == whole.features.values[:, place].tobytes()
