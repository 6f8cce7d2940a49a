"""The page of scaling holds what the sizing script computes, from figures that stand in the pages that are named."""

import re
from pathlib import Path

import pytest

from benchmarks.sizing import MEASURED, SHOPS, Shop, fitting, limits_of, sizing_of, state_bytes, written
from midstream.cli.operate.size import sizes_of
from midstream.state.settings import StateLimits

DOCS = Path(__file__).parents[1] / "docs"


def test_the_tables_of_the_page_are_computed():
    """Behind a change of a table of the state, of a limit or of a figure: python -m benchmarks.sizing --write."""
    text = (DOCS / "scaling.md").read_text("utf-8")
    assert text == written(text)
    assert len(re.findall(r"^\| .* 10,000 × \|$", text, re.MULTILINE)) == 2


@pytest.mark.parametrize("figure", MEASURED, ids=lambda each: each.text)
def test_a_measured_figure_stands_in_its_page(figure):
    """In the words by which it is known, and as the same number, or as the sum of the numbers of its cell."""
    text = (DOCS / figure.page).read_text("utf-8")
    assert figure.text in text
    numbers = [float(each.replace(",", "")) for each in re.findall(r"\d[\d,]*(?:\.\d+)?", figure.text)]
    assert figure.value in numbers or figure.value == sum(numbers)


def test_memory_is_that_of_the_command(tmp_path):
    """``midstream size`` prints the same bytes at the maximum, for the limits of midstream.toml."""
    (tmp_path / "midstream.toml").write_text(
        "[limits]\nusers_max = 12345\nitems_max = 2345\nclick_items_max = 234\n", "utf-8"
    )
    limits = StateLimits(users_max=12_345, items_max=2_345, click_items_max=234)
    printed = sizes_of(tmp_path)["all tables"]["bytes_max"]
    assert printed == state_bytes(limits)


def test_a_larger_shop_needs_no_less():
    """Of memory, machines, disk and money, on replicas and by shard."""
    found = [fitting(each) for each in SHOPS]
    for name in ("processes", "machines", "disk_gb", "kafka_gb", "topic_mb_s", "read_mb_s", "usd_month"):
        values = [getattr(each, name) for each in found]
        assert values == sorted(values), name
    assert [each.shards for each in found][:3] == [1, 1, 1]
    assert all(each.is_possible for each in found)


def test_shards_divide_users_and_nothing_that_is_shop_wide():
    """Memory of a shard ends at what every node holds whole."""
    shop = Shop("large", 1e8, 1e6, 10_000, 1_000)
    whole, half = limits_of(shop, 1), limits_of(shop, 2)
    assert half.users_max * 2 == whole.users_max
    assert (half.items_max, half.index_sessions_max) == (whole.items_max, whole.index_sessions_max)
    assert sizing_of(shop, 2).state_gb > sizing_of(shop, 1).state_gb / 2
    assert not sizing_of(shop, 1).is_possible
