"""What a block is bound to: the state and the block that asked, and no more of them than there is room for."""

from dataclasses import dataclass, fields, replace
from functools import cache

import msgspec
import numpy as np
import pytest

from midstream.core.types import Candidates, LogPosition, Models, Query, TimestampMs
from midstream.features.column_memory import address_of
from midstream.features.declared import block_of
from midstream.features.readers.coding import Coding
from midstream.features.readers.history_inputs import Shared
from midstream.features.readers.inputs import columns_from
from midstream.features.readers.item_inputs import ItemArrival, ItemCategory, ItemNumber
from midstream.features.readers.request_inputs import ContextValue, ItemFieldReader, LocalTimeReader, RandomReader
from midstream.ranking.boundary import Account
from midstream.ranking.frame import FeatureReader
from midstream.state.expressions.program import Cell, column
from midstream.state.expressions.program_kernel import steps_of
from midstream.state.fold import Fold
from midstream.state.ids.vocabulary import Vocabulary
from tests.support.events import random_events, tiny_settings

CELLS = (Cell("item", ("view",)),)


@cache
def world():
    """A state in which every maximum was met."""
    fold = Fold(msgspec.structs.replace(tiny_settings(), cells=CELLS))
    fold.apply(LogPosition(0), random_events(1_500, 11))
    return fold


def candidates_of(items):
    """Candidates of these indices."""
    index = np.array(items, dtype=np.int32)
    return Candidates(index, (), np.empty((len(index), 0), np.float32), np.empty((len(index), 0), np.int32))


@pytest.mark.parametrize("way", ["read", "read_by_readers", "numbers"])
@pytest.mark.parametrize("of", [ItemNumber("price"), RandomReader("dice"), CELLS[0]], ids=lambda of: type(of).__name__)
def test_an_index_that_is_no_items_is_read_by_no_kernel(way, of):
    """It raises, whichever way, before memory is read that is no row: the last item is read, the next one is not."""
    fold = world()
    moment = fold.moment(Query("r", "home", None, None, 5, TimestampMs(fold.log_time_ms), 1), Models({}))
    block = block_of({"c": column(of) if isinstance(of, Cell) else columns_from(of)[0]})
    steps = (steps_of(block.program),) if way == "numbers" else ()
    count = fold.vocabulary.item_count
    assert getattr(block, way)(*steps, moment, candidates_of([count - 1, -1])).shape == (2, 1)
    for beyond in (count, count + 1_000, 1 << 24, (1 << 31) - 1):
        with pytest.raises(IndexError, match=f"index {beyond} "):
            getattr(block, way)(*steps, moment, candidates_of([0, beyond]))


def test_the_failure_of_a_block_names_the_index():
    """As the boundary around it says it, and all its columns are NaN."""
    fold = world()
    moment = fold.moment(Query("r", "home", None, None, 5, TimestampMs(fold.log_time_ms), 1), Models({}))
    account = Account()
    block = block_of({"price": columns_from(ItemNumber("price"))[0], "views": column(CELLS[0])})
    found = FeatureReader(moment, account).block(block, candidates_of([0, 1 << 24]))
    assert np.isnan(found).all()
    assert [(each.component, "item index 16777216 came" in each.reason) for each in account.failures] == [
        ("features", True)
    ]


@dataclass(frozen=True, slots=True)
class Cents(ItemNumber):
    """A number of an item in another unit."""

    def fill(self, moment, candidates, found):
        ItemNumber.fill(self, moment, candidates, found)
        found *= 100


@dataclass(frozen=True, slots=True)
class Half(ItemFieldReader):
    """A field of the request's items, halved."""

    def fill(self, moment, candidates, found):
        ItemFieldReader.fill(self, moment, candidates, found)
        found /= 2


class Other:
    """Writes another number than the reader that it is put before."""

    __slots__ = ()

    def fill(self, moment, candidates, found):
        found[:] = 7.0


@dataclass(frozen=True, slots=True)
class Sevens(Coding):
    """Another coding than the one of the package."""

    def of_items(self, items, attribute, item_index):
        return np.full((1, len(item_index)), 7.0)


def derived(reader):
    """The same reader, of a class derived from its own that writes 7."""
    kind = type("Derived", (Other, type(reader)), {"__slots__": ()})
    return kind(*(getattr(reader, each.name) for each in fields(reader)))


@pytest.mark.parametrize(
    "reader",
    [
        derived(each)
        for each in (
            ItemNumber("price"), ItemNumber("fresh"), ItemArrival(), Shared("user", "tags", (), 4),
            ItemCategory("category", Coding("hashed", buckets=97)), LocalTimeReader("hour", 0, ""),
            RandomReader("dice"), ContextValue("request", "x", "number"),
        )
    ] + [ItemCategory("category", Sevens("hashed", buckets=97))],
    ids=lambda reader: type(reader).__mro__[-2].__name__,
)  # fmt: skip
def test_a_reader_derived_from_one_of_the_package_fills_its_own_row(reader):
    """It may write something else than what the kernel takes from the state for the one it is derived from."""
    fold = world()
    query = Query("r", "home", "user-1", None, 5, TimestampMs(fold.log_time_ms), 1, context={"x": 3.5})
    moment, block = fold.moment(query, Models({})), block_of({"c": columns_from(reader)[0]})
    for read in (block.read, block.read_by_readers):
        assert (read(moment, candidates_of(range(8))) == 7.0).all()


@pytest.mark.parametrize(
    "reader", [ItemNumber("price"), ItemFieldReader("margin")], ids=lambda each: type(each).__name__
)
def test_a_derived_reader_that_asks_its_parent_is_asked(reader):
    """By both ways, beside its parent."""
    fold = world()
    names = [fold.vocabulary.item_id(each) for each in range(8)]
    sent = {name: {"margin": place + 1.0} for place, name in enumerate(names)}
    query = Query("r", "home", None, None, 5, TimestampMs(fold.log_time_ms), 1, items=tuple(names), item_fields=sent)
    own, factor = (Cents("price"), 100) if isinstance(reader, ItemNumber) else (Half("margin"), 0.5)
    block = block_of({"parent": columns_from(reader)[0], "own": columns_from(own)[0]})
    for read in (block.read, block.read_by_readers):
        found = read(fold.moment(query, Models({})), candidates_of(range(8)))
        assert np.isfinite(found[:, 0]).any()
        np.testing.assert_array_equal(found[:, 1], found[:, 0] * np.float32(factor))


def test_what_is_bound_is_bound_to_the_state_and_the_block_that_asked():
    """Two states and two blocks that are equal: each gets its own."""
    first, second = world(), Fold(msgspec.structs.replace(tiny_settings(), cells=CELLS))
    second.apply(LogPosition(0), random_events(900, 12))
    blocks = [block_of({"price": columns_from(ItemNumber("price"))[0]}) for _ in range(2)]
    for fold in (first, second, first):
        query = Query("r", "home", None, None, 5, TimestampMs(fold.log_time_ms), 1)
        moment, all_items = fold.moment(query, Models({})), candidates_of(range(fold.vocabulary.item_count))
        for block in blocks:
            price = fold.items.number("price")[: fold.vocabulary.item_count]
            np.testing.assert_array_equal(block.read(moment, all_items)[:, 0], price.astype(np.float32))


def test_what_is_kept_for_blocks_is_bounded():
    """Blocks that come and go, as those of texts in requests do."""
    fold = world()
    cells = fold.cells
    for number in range(600):
        cells.kept(object(), lambda number=number: number)
    assert len(cells._kept) <= 256


def test_a_moment_without_tables_is_read_by_readers():
    """As a condition of the question alone is, where there is no state yet."""
    fold = world()
    moment = fold.moment(Query("r", "home", None, None, 5, TimestampMs(fold.log_time_ms), 1), Models({}))
    tables = {kind: table for kind, table in moment.tables.items() if kind is not Vocabulary}
    block = block_of({"one": column(1.0)})
    found = block.read(replace(moment, tables=tables), candidates_of([0]))
    assert found.tolist() == [[1.0]]


def test_a_column_with_gaps_is_refused():
    """Its address alone says nothing of them."""
    with pytest.raises(ValueError, match="end to end"):
        address_of(np.zeros((4, 4))[:, 0])
