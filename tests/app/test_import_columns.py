"""A cell's text becomes what its field needs, or is refused with the field's name; nothing is guessed in silence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.import_columns import CellRefused, ColumnOptions, converter, parse_pairs, unused_columns
from midstream.core.errors import Invalid

TIMES_MS = st.integers(946_684_800_000, 4_000_000_000_000)


def convert(record, kinds=None, **options):
    """Convert one record of a file whose columns are the record's."""
    return converter(ColumnOptions(**options), tuple(record), kinds or {})(record)


def test_columns_constants_and_types_become_fields():
    """--map, --set and --types do what they say; a column of a field's name needs no word."""
    record = {"visitor": "7", "product": "lamp", "what": "click", "value": "2.5", "session_id": "s"}
    columns = {"user_id": "visitor", "item_id": "product", "type": "what", "context.page": "product"}
    event = convert(record, columns=columns, types={"click": "view"}, constants={"context.shop": "west"})
    assert event == {
        "user_id": "7",
        "item_id": "lamp",
        "type": "view",
        "value": 2.5,
        "session_id": "s",
        "context": {"page": "lamp", "shop": "west"},
    }


def test_empty_cells_are_missing():
    """An empty cell is no value, not an empty one."""
    assert convert({"type": "view", "user_id": "", "value": ""}) == {"type": "view"}


@given(TIMES_MS)
def test_every_time_format_reads_the_same_moment(time_ms):
    """Seconds, milliseconds, microseconds, ISO text and a pattern of one moment are one time."""
    from datetime import UTC, datetime

    whole = time_ms // 1_000 * 1_000
    moment = datetime.fromtimestamp(whole / 1_000, UTC)
    written = {
        "s": str(whole // 1_000),
        "ms": str(whole),
        "us": str(whole * 1_000),
        "ns": str(whole * 1_000_000),
        "iso": moment.isoformat(),
        "%Y-%m-%d %H:%M:%S": moment.strftime("%Y-%m-%d %H:%M:%S"),
    }
    for time_format, text in written.items():
        assert convert({"type": "view", "time": text}, time_format=time_format)["time"] == whole, time_format


def test_template_of_several_columns():
    """A column with braces is made of several; one that is empty makes all of it missing."""
    options = {"columns": {"time": "{year}-{month}-{day}"}, "constants": {"type": "view"}, "time_format": "%Y-%m-%d"}
    assert convert({"year": "2008", "month": "4", "day": "1"}, **options)["time"] == 1_207_008_000_000
    assert "time" not in convert({"year": "2008", "month": "", "day": "1"}, **options)


@pytest.mark.parametrize(
    "name,text",
    [("value", "two"), ("position", "1.5"), ("time", "yesterday"), ("context", "{"), ("attributes.fresh", "maybe")],
)
def test_a_wrong_cell_is_refused_by_name(name, text):
    """What cannot be read is named with its field."""
    columns = {name: "cell"} if "." in name else {}
    record = {"type": "view", "cell" if columns else name: text}
    with pytest.raises(CellRefused) as refused:
        convert(record, {"fresh": "boolean"}, columns=columns, time_format="iso")
    assert refused.value.name == name


def test_attributes_follow_their_declared_kind():
    """The text of a cell is a number, a truth value, tags or a text as its attribute is declared; else as it looks."""
    kinds = {
        "price": "number",
        "fresh": "boolean",
        "tags": "tags",
        "code": "category",
        "look": "vector:3",
        "way": "vector:2",
    }
    cells = {
        "price": "2",
        "fresh": "1",
        "tags": "red|wool",
        "code": "12",
        "other": "12",
        "word": "x",
        "look": "1|-2.5| 3",
        "way": " [1, 2.5]",
    }
    columns = {f"attributes.{name}": name for name in cells}
    event = convert({"type": "item", **cells}, kinds, columns=columns)
    assert event["attributes"] == {
        "price": 2.0,
        "fresh": True,
        "tags": ["red", "wool"],
        "code": "12",
        "other": 12.0,
        "word": "x",
        "look": [1.0, -2.5, 3.0],
        "way": [1, 2.5],
    }
    for wrong in ("1|x|3", "[1, 2", "1||3"):
        with pytest.raises(CellRefused) as refused:
            convert({"type": "item", "look": wrong}, kinds, columns={"attributes.look": "look"})
        assert refused.value.name == "attributes.look"


def test_options_that_do_not_fit_are_all_named():
    """A column that is not there, a field that no event has and a missing type are told before anything is read."""
    with pytest.raises(Invalid) as error:
        converter(ColumnOptions(columns={"user_id": "visitr", "usr": "a"}), ("visitor", "a"), {})
    assert [fault.where for fault in error.value.faults] == ["--map usr", "--map user_id=visitr", "--type"]
    assert '"visitor"' in error.value.faults[1].came


def test_pairs():
    """NAME=VALUE once or several in one text; a template's own commas and braces stay."""
    assert parse_pairs(["a=b,c=d", "time={x},{y}"], "--map") == {"a": "b", "c": "d", "time": "{x},{y}"}
    for bad in (["a"], ["a=1", "a=2"], ["=1"], ["a="]):
        with pytest.raises(Invalid):
            parse_pairs(bad, "--map")


def test_unused_columns_are_told():
    """What goes nowhere is named: neither a field, nor mapped, nor part of a template."""
    options = ColumnOptions(columns={"time": "{y}-{m}", "item_id": "sku"})
    assert unused_columns(("y", "m", "sku", "user_id", "page"), options) == ("page",)
