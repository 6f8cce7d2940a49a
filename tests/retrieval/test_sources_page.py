"""The page of sources names every kind, and every option of each."""

import re
from pathlib import Path

import msgspec
import pytest

from midstream.app.config.schema import AnySource

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE))
SOURCES: list[type[msgspec.Struct]] = list(AnySource.__args__)
EVERYWHERE = {"name", "half_life", "limit", "exclude_last_item", "allow_session_items"}
"""Explained in the text, or the same wherever they are."""


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.__struct_config__.tag))
def test_every_kind_is_in_the_table(source: type[msgspec.Struct]) -> None:
    """With its options, or those of another kind that has the same."""
    told = ROWS[str(source.__struct_config__.tag)]
    if "as `als`" in told:
        told = ROWS["als"]
    missing = {name for name in source.__struct_fields__ if f"`{name}`" not in told}
    assert missing <= EVERYWHERE


def test_no_kind_is_made_up() -> None:
    """What the table lists can be configured."""
    assert set(ROWS) == {str(source.__struct_config__.tag) for source in SOURCES}
