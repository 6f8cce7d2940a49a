"""What is said of memory before anything is reserved is what the tables then hold."""

import msgspec
import pytest

from midstream.core.durations import Duration
from midstream.state.expressions.program import Cell
from midstream.state.fold import Fold
from midstream.state.settings import EventType, FoldSettings, StateLimits
from midstream.state.tables import sizes_max
from tests.support.events import tiny_settings

ODD = FoldSettings(
    types={"view": EventType()},
    attributes={"a": "category", "b": "category", "c": "tags", "d": "boolean", "e": "vector:1024", "f": "vector:1"},
    half_lives=(Duration("1h"),),
    segment="context.device",
    cells=(
        Cell("item", ("view",), window_ms=3_600_000),
        Cell("user", ("view",), fold="distinct", of="item"),
        Cell("user_attribute", ("view",), half_life_ms=1_000, attribute="a"),
        Cell("user_item", ("impression",)),
    ),
    limits=StateLimits(users_max=999, items_max=1_001, click_items_max=7, user_ring_max=13, index_items_max=255),
)


@pytest.mark.parametrize("settings", [FoldSettings(), tiny_settings(), ODD])
def test_sizes_are_those_of_the_tables(settings: FoldSettings) -> None:
    """To the byte, of every table."""
    assert sizes_max(settings) == {name: each.bytes_max for name, each in Fold(settings).sizes().items()}


@pytest.mark.parametrize("name", StateLimits.__struct_fields__)
def test_the_largest_maxima_have_a_size_too(name: str) -> None:
    """Nothing overflows, and nothing is reserved."""
    limits = msgspec.structs.replace(StateLimits(), **{name: 2**31 - 1})
    assert sum(sizes_max(FoldSettings(limits=limits)).values()) >= sum(sizes_max(FoldSettings()).values())
