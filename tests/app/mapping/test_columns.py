"""A cell's text becomes what its field needs, or is refused with the field's name; nothing is guessed in silence."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.mapping.columns import CellRefused, ColumnOptions, converter, parse_pairs, unused_columns
from midstream.core.errors import Invalid

TIMES_MS = st.integers(946_684_800_000, 4_000_000_000_000)


def convert(record, kinds=None, *, has_types=False, **options):
    """Convert one record of a file whose columns are the record's."""
    return converter(ColumnOptions(**options), tuple(record), kinds or {}, has_types=has_types)(record)


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
        converter(ColumnOptions(columns={"user_id": "visitr", "usr": "a"}), ("visitor", "a"), {}, has_types=False)
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


def test_members_go_into_an_object_of_their_own():
    """An object that all rows get, or that a row brings, takes the members that are mapped, and keeps none of them."""
    options = ColumnOptions(
        columns={"attributes.price": "cost", "context.page": "url"},
        constants={"attributes": '{"cat": "shoes", "price": 1}', "context": '{"shop": "west"}', "type": "item"},
    )
    make = converter(options, ("cost", "url"), {}, has_types=False)
    found = [make({"cost": cost, "url": url}) for cost, url in (("10", "a"), ("20", ""), ("", "c"))]
    assert [each["attributes"] for each in found] == [
        {"cat": "shoes", "price": 10.0},
        {"cat": "shoes", "price": 20.0},
        {"cat": "shoes", "price": 1},
    ]
    assert [each["context"] for each in found] == [
        {"shop": "west", "page": "a"},
        {"shop": "west"},
        {"shop": "west", "page": "c"},
    ]
    record = {"type": "item", "cost": 5, "attributes": {"brand": "b", "price": 4}}
    mapped = ColumnOptions(columns={"attributes.price": "cost"}, constants={"attributes.shop": "west"})
    expected = {"brand": "b", "price": 5, "shop": "west"}
    for header in (None, tuple(record)):
        assert converter(mapped, header, {}, has_types=True)(record)["attributes"] == expected
    assert record["attributes"] == {"brand": "b", "price": 4}
    cells = {"type": "view", "context": "{}", "url": "x"}
    assert convert(cells, columns={"context.page": "url"})["context"] == {"page": "x"}


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "12_345", "１２", "0x1", "1,5"])
@pytest.mark.parametrize("name", ["value", "quantity", "attributes.price", "attributes.look"])
def test_what_is_no_finite_number_is_refused_where_one_is_needed(name, text):
    """As JSON it would be null, which takes an attribute away; other ways of Python to write a number are none here."""
    with pytest.raises(CellRefused) as refused:
        convert({"type": "item", "cell": text}, {"price": "number", "look": "vector:1"}, columns={name: "cell"})
    assert refused.value.name == name


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), {"a": float("inf")}, {"a": [1.0, float("nan")]}])
@pytest.mark.parametrize("name", ["attributes", "context", "attributes.x", "user_id", "value", "time"])
def test_typed_values_that_are_not_finite_are_refused(name, value):
    """Of a column or deep within an object."""
    with pytest.raises(CellRefused):
        convert({"type": "item", "cell": value}, columns={name: "cell"}, has_types=True)


GUESSED = [
    ("12", 12.0),
    ("2.5", 2.5),
    ("-3", -3.0),
    ("7.0", 7.0),
    ("True", True),
    ("false", False),
    *((text, text) for text in ("01067", "12_345", "1e3", "2.50", "+1", ".5", "nan", "inf", "１２", " 1", "-0", "1.")),
    ("12345678901234567890", "12345678901234567890"),
]


@pytest.mark.parametrize("text,expected", GUESSED)
def test_only_cells_of_a_csv_are_guessed_and_only_numbers_as_they_are_written(text, expected):
    """01067 stays one; where the file says text, a text it stays."""
    columns = {"attributes.code": "cell", "context.zip": "cell"}
    event = convert({"type": "view", "cell": text}, columns=columns)
    assert [event["attributes"], event["context"]] == [{"code": expected}, {"zip": expected}]
    assert type(event["context"]["zip"]) is type(expected)
    typed = convert({"type": "view", "cell": text}, columns=columns, has_types=True)
    assert [typed["attributes"], typed["context"]] == [{"code": text}, {"zip": text}]


def test_typed_values_are_taken_as_what_is_declared():
    """Decimals, categories that are whole numbers, 0 and 1 as truth values, also in an object; ids without decimals."""
    kinds = {"price": "number", "category": "category", "fresh": "boolean"}
    cells = {"price": Decimal("1.10"), "category": 7, "fresh": 1, "available": 0, "other": Decimal("2.5")}
    expected = {"price": 1.1, "category": "7", "fresh": True, "available": False, "other": 2.5}
    columns = {f"attributes.{name}": name for name in cells}
    for record in ({"type": "item", **cells}, {"type": "item", "attributes": cells}):
        mapped = columns if "price" in record else {}
        attributes = convert(record, kinds, columns=mapped, has_types=True)["attributes"]
        assert attributes == expected
        assert [type(attributes[name]) for name in expected] == [type(each) for each in expected.values()]
    assert convert({"type": "item", "available": "1"}, columns={"attributes.available": "available"})["attributes"] == {
        "available": True
    }
    floats = {"type": "view", "category": 7.0, "fresh": 0.0}
    mapped = {"attributes.category": "category", "attributes.fresh": "fresh"}
    assert convert(floats, kinds, columns=mapped, has_types=True)["attributes"] == {"category": "7", "fresh": False}
    ids = {"type": "view", "user_id": Decimal("7.00"), "item_id": Decimal("7.5"), "value": Decimal("2.50")}
    event = convert({**ids, "position": Decimal(3)}, has_types=True)
    assert (event["user_id"], event["item_id"], event["value"], event["position"]) == ("7", "7.5", 2.5, 3)


@pytest.mark.parametrize("time_format,time_ms", [("s", 1_700_000_000_000), ("ms", 1_700_000_000), ("us", 1_700_000)])
def test_a_time_with_a_point_and_nothing_behind_it_is_whole(time_format, time_ms):
    """As a column of whole numbers of which one is missing is written."""
    assert convert({"type": "view", "time": "1700000000.0"}, time_format=time_format)["time"] == time_ms


@pytest.mark.parametrize(
    "name,text",
    [("value", "abc"), ("position", "x"), ("context", "{"), ("time", "soon"), ("attributes.price", "much")],
)
def test_constants_that_are_none_are_told_before_anything_is_read(name, text):
    """In four parts, with the option as it was given."""
    options = ColumnOptions(constants={"type": "item", name: text}, time_format="iso")
    with pytest.raises(Invalid) as caught:
        converter(options, ("user_id",), {"price": "number"}, has_types=False)
    (fault,) = caught.value.faults
    assert fault.where == f"--set {name}={text}"
    assert all((fault.came, fault.right, fault.page))


def test_a_zone_by_its_name_is_refused():
    """Python takes the name and leaves the time as it stands."""
    for right in ("%H:%M %z", "%%Z %H:%M"):
        converter(ColumnOptions(constants={"type": "view"}, time_format=right), ("time",), {}, has_types=False)
    for wrong in ("%H:%M %Z", "%%%Z"):
        with pytest.raises(Invalid, match="--time-format"):
            converter(ColumnOptions(constants={"type": "view"}, time_format=wrong), ("time",), {}, has_types=False)


def test_a_row_that_is_whole_takes_away_what_has_no_value() -> None:
    """Only as a patch: a put replaces all anyway, and a delete says nothing but whose it is. A file says less."""
    columns = {"item_id": "id", "operation": "how", "attributes.price": "price", "attributes.brand": "details.brand"}
    options = ColumnOptions(columns, {"type": "item"}, named_only=True, rows_are_whole=True)
    convert = converter(options, None, {}, has_types=True)
    row = {"id": 1, "price": None, "details": {"size": 2}}
    taken = {"type": "item", "item_id": "1", "attributes": {"price": None, "brand": None}}
    assert convert(row) == taken
    assert convert({"id": 1}) == taken
    assert convert({**row, "how": "put"}) == {"type": "item", "item_id": "1", "operation": "put"}
    deleted = convert({"id": 1, "price": 2, "how": "delete"})
    assert deleted == {"type": "item", "item_id": "1", "operation": "delete"}
    plain = converter(ColumnOptions(columns, {"type": "item"}), None, {}, has_types=True)
    assert plain(row) == {"type": "item", "item_id": "1"}
