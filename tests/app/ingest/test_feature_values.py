"""Values of a feature from a file: events like any other, each row once, and refused where there is nothing to set."""

import pytest
from typer.testing import CliRunner

from midstream.app.ingest.feature_values import ValueColumns, load_columns
from midstream.app.ingest.import_file import import_file
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import config_of
from midstream.cli.app import app
from midstream.core.errors import Invalid

T = 1_767_225_600_000
CONFIG = """
[items.attributes]
price = "number"
brand = "category"

[[features]]
name = "cost"
kind = "number"
attribute = "price"

[[features]]
name = "brand"
kind = "category"
values = ["7", "ikea"]

[[features]]
name = "member"
kind = "boolean"
scope = "user"

[[features]]
name = "views"
kind = "count"
actions = ["view"]

[limits]
users_max = 100
items_max = 100
click_items_max = 100
sessions_max = 100
index_sessions_max = 100
hot_items_max = 100
new_items_max = 100
requests_max = 100
event_ids_max = 1000
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with features and no events."""
    (tmp_path / "midstream.toml").write_text(CONFIG)
    return tmp_path


def fold_of(folder):
    return state_of(folder, config_of(folder), LogView(folder)).fold


def test_each_row_sets_a_value_once_and_the_newest_time_wins(folder):
    """Rows in any order; a row that is no number is rejected with its line; a second run adds nothing."""
    file = folder / "prices.csv"
    file.write_text(f"id,time,value\na,{T},3.5\na,{T - 5},9\nb,{T},x\nc,{T},\n")
    columns = load_columns(folder, "cost", ValueColumns())
    first = import_file(folder, config_of(folder), file, columns)
    assert (first.rows, first.recorded, first.rejected) == (4, 3, 1)
    assert "line 4" in str(first.faults[0])
    fold = fold_of(folder)
    assert fold.items.document(fold.vocabulary.item_index("a")) == {"price": 3.5}
    again = import_file(folder, config_of(folder), file, columns)
    assert (again.recorded, again.known) == (0, 3)


def test_columns_may_have_other_names_and_times(folder):
    """Categories stay texts; fields of users are those of the profile; without a time column values are of now."""
    (folder / "brands.csv").write_text("sku,make\nlamp,7\n")
    brands = ValueColumns(id="sku", value="make", time="")
    import_file(folder, config_of(folder), folder / "brands.csv", load_columns(folder, "brand", brands))
    (folder / "members.csv").write_text("user,at,is\nann,2026-01-01 00:00:00,true\n")
    members = ValueColumns(id="user", value="is", time="at", time_format="iso")
    import_file(folder, config_of(folder), folder / "members.csv", load_columns(folder, "member", members))
    fold = fold_of(folder)
    assert fold.items.document(fold.vocabulary.item_index("lamp")) == {"brand": "7"}
    assert fold.users.document(fold.vocabulary.user_index("ann")) == {"member": True}


@pytest.mark.parametrize("name, says", [("views", "POST /v1/events"), ("cst", 'Nearest: "cost"')])
def test_what_cannot_be_set_is_refused_in_four_parts(folder, name, says):
    """A computed feature says what to do; one that is not declared has its nearest named."""
    with pytest.raises(Invalid, match=says):
        load_columns(folder, name, ValueColumns())


def test_the_command_says_what_became_of_the_rows(folder):
    """As an import does."""
    (folder / "p.csv").write_text(f"id,time,value\na,{T},3.5\n")
    result = CliRunner().invoke(app, ["features", "load", "cost", str(folder / "p.csv"), "--folder", str(folder)])
    assert result.exit_code == 0, result.output
    assert "1 recorded" in result.output


def test_a_column_that_is_not_there_is_named_by_the_option_of_this_command(folder):
    """Not by that of an import."""
    (folder / "p.csv").write_text(f"id,time,cost\na,{T},3.5\n")
    ask = ["features", "load", "cost", str(folder / "p.csv"), "--value", "coast", "--folder", str(folder)]
    told = str(CliRunner().invoke(app, ask).exception)
    assert ("--value coast" in told, "--map" in told) == (True, False)
