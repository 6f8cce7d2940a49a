"""Feast repositories: definitions that name what is served, and a history that equals ``features as-of``."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml  # type: ignore[import-untyped]  # the package brings no types

import midstream
from midstream.app.feature_stores.feast_repository import RepositoryOptions, store_text, write_repository
from midstream.app.feature_stores.value_history import HistoryRange
from midstream.cli.app import main
from midstream.core.errors import Invalid
from tests.support.feast_shop import LEFT_OUT, VIEWS, write_shop

EVENTS = 400


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a log."""
    folder = tmp_path_factory.mktemp("feast") / "my shop"
    write_shop(folder, EVENTS)
    return folder


def history(target, view):
    return pq.read_table(target / "data" / f"{view}.parquet")


def listed(expression):
    """The parts of a list that is written out."""
    assert isinstance(expression, ast.List)
    return expression.elts


def test_definitions_name_every_view_with_its_types(shop, tmp_path):
    """They are Python that can be read; a second export replaces them, and rows of a view are counted."""
    told = write_repository(shop, tmp_path, RepositoryOptions(url="http://shop:8000"))
    assert (told.project, told.url, told.left_out) == ("my_shop", "http://shop:8000", LEFT_OUT)
    text = (tmp_path / "features.py").read_text("utf-8")
    calls = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Call)]
    views = [each for each in calls if ast.unparse(each.func) == "FeatureView"]
    found = {}
    for each in views:
        keys = {word.arg: word.value for word in each.keywords}
        fields = [ast.unparse(field) for field in listed(keys["schema"])]
        assert all("dtype=Float32" in field for field in fields)
        entities = tuple(ast.unparse(one).removesuffix("_entity") + "_id" for one in listed(keys["entities"]))
        name = keys["name"]
        assert isinstance(name, ast.Constant)
        found[name.value] = (entities, tuple(field.split("'")[1] for field in fields))
    assert found == VIEWS
    assert sum(ast.unparse(each.func) == "PushSource" for each in calls) == len(VIEWS)
    assert {name: history(tmp_path, name).num_rows for name in VIEWS} == told.rows
    assert 'url: "http://shop:8000"\n' in (tmp_path / "feature_store.yaml").read_text("utf-8")
    again = write_repository(shop, tmp_path, RepositoryOptions(url="http://shop:8000"))
    assert again == replace(told, is_store_kept=True)
    manifest = json.loads((tmp_path / "data" / "views.json").read_text("utf-8"))
    assert {each["name"]: (tuple(each["keys"]), tuple(each["columns"])) for each in manifest} == VIEWS


def test_files_of_others_are_not_replaced(shop, tmp_path):
    """A repository that somebody wrote by hand stays as it is."""
    (tmp_path / "features.py").write_text("mine = 1\n")
    with pytest.raises(Invalid, match=r"features\.py of another repository"):
        write_repository(shop, tmp_path, RepositoryOptions())
    assert [each.name for each in tmp_path.iterdir()] == ["features.py"]


@pytest.mark.parametrize("inside", [".", "data"])
def test_a_shop_is_no_place_for_a_repository(tmp_path, inside):
    """Neither its folder nor its data is written to, also where another folder's log is in the way."""
    write_shop(tmp_path / "own", 20)
    write_shop(tmp_path / "other", 20)
    for place in (tmp_path / "own", tmp_path / "other"):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(Invalid, match="the folder of a shop"):
            write_repository(tmp_path / "own", place / inside, RepositoryOptions())
        assert sorted(tmp_path.rglob("*")) == before


def test_data_of_others_is_not_replaced(shop, tmp_path):
    """A folder with files in its data and no definitions of ours stays as it is."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "item.parquet").write_text("mine")
    with pytest.raises(Invalid, match="has data of another repository"):
        write_repository(shop, tmp_path, RepositoryOptions())
    assert (tmp_path / "data" / "item.parquet").read_text() == "mine"


def test_what_was_changed_in_the_store_configuration_stays(shop, tmp_path, capfd):
    """A second export replaces definitions and history alone, and says so."""
    assert not write_repository(shop, tmp_path, RepositoryOptions()).is_store_kept
    store = tmp_path / "feature_store.yaml"
    changed = store.read_text("utf-8").replace("    url:", "    token_env: SHOP_TOKEN\n    url:")
    store.write_text(changed, "utf-8")
    (tmp_path / "data" / "registry.db").write_text("of Feast")
    main_exits(["feast", "export", str(tmp_path), "-f", str(shop)])
    assert "feature_store.yaml was there and stays as it is" in capfd.readouterr().err
    assert store.read_text("utf-8") == changed


@pytest.mark.parametrize("name", ["2026", "no", "null", "0x1F", "on", "1e3", "shop"])
def test_a_project_is_a_text_whatever_its_name(name):
    """Also where YAML would read a number, a truth or nothing."""
    assert yaml.safe_load(store_text(name, "http://shop:8000", Path()))["project"] == name


@pytest.mark.parametrize("name", ["_x", "a-b", "", "x" * 64])
def test_a_project_has_a_name_that_feast_takes(shop, tmp_path, name):
    """An empty one is made of the folder's."""
    if name:
        with pytest.raises(Invalid, match="--project"):
            write_repository(shop, tmp_path, RepositoryOptions(project=name))
    else:
        assert write_repository(shop, tmp_path, RepositoryOptions(project=name)).project == "my_shop"


def test_history_behind_each_event_is_what_a_question_then_reads(shop, tmp_path):
    """All columns of each row to the bit, one row for each key and time, in the order of time."""
    write_repository(shop, tmp_path, RepositoryOptions())
    for view, (keys, columns) in VIEWS.items():
        table = history(tmp_path, view)
        assert table.schema.names == [*keys, "event_timestamp", *columns]
        assert all(table.schema.field(each).type == pa.float32() for each in columns)
        rows = list(zip(*(table[each].to_pylist() for each in ("event_timestamp", *keys)), strict=True))
        assert len(rows) == len(set(rows)) > 0
        assert [each[0] for each in rows] == sorted(each[0] for each in rows)
        ask = {each: table[each] for each in keys}
        ask["time"] = table["event_timestamp"].cast(pa.timestamp("ms", "UTC"))
        ask.setdefault("item_id", pa.array(["nothing"] * len(table)))
        found = midstream.features_as_of(shop, pa.table(ask))
        for each in columns:
            assert not pc.any(pc.is_nan(table[each].drop_null())).as_py()
            np.testing.assert_array_equal(table[each].to_numpy(), found[each].to_numpy(), err_msg=each)
    known = history(tmp_path, "item")["views"]
    assert known.null_count < len(known)


def test_an_event_is_in_the_row_behind_it(shop, tmp_path):
    """A view counts in the row a millisecond later."""
    write_repository(shop, tmp_path, RepositoryOptions())
    events = midstream.read_events(shop, kinds=["interaction"]).to_pylist()
    first = next(each for each in events if each["type"] == "view")
    table = history(tmp_path, "user_item").to_pylist()
    row = next(each for each in table if (each["user_id"], each["item_id"]) == (first["user_id"], first["item_id"]))
    assert row["event_timestamp"].timestamp() * 1_000 == pytest.approx(first["log_time"] + 1, abs=0.01)
    assert row["seen"] >= 1


def test_history_at_the_times_of_a_file(shop, tmp_path):
    """Each question is a row of each view whose ids it has; a log position is refused."""
    events = midstream.read_events(shop, kinds=["interaction"]).to_pylist()
    when = events[200]["log_time"] + 7
    questions = tmp_path / "questions.csv"
    questions.write_text(f"time,user_id,session_id,item_id\n{when},u1,,i1\n{when},u1,s1-0,i2\n{when + 5},,,i1\n")
    target = tmp_path / "repository"
    told = write_repository(shop, target, RepositoryOptions(HistoryRange(questions)))
    assert told.rows == {
        "item_attributes": 3, "user_profile": 1, "item": 3, "user": 1, "user_item": 2, "session": 1, "session_item": 1,
        "shop": 2,
    }  # fmt: skip
    questions.write_text("log_position,user_id,item_id\n5,u1,i1\n")
    with pytest.raises(Invalid, match="log_position"):
        write_repository(shop, target, RepositoryOptions(HistoryRange(questions)))


def test_the_command_says_what_it_wrote(shop, tmp_path, capfd):
    """Rows of each view on standard output's side, what is left out, and the range of events that is asked for."""
    target = tmp_path / "repository"
    words = [
        "feast",
        "export",
        str(target),
        "-f",
        str(shop),
        "--features",
        "views, hour",
        "--url",
        "http://x",
        "--json",
    ]
    main_exits(words)
    told = json.loads(capfd.readouterr().out)
    assert (set(told["rows"]), told["left_out"], told["url"]) == ({"item"}, ["hour"], "http://x")
    main_exits([*words, "--until", "2025-06-15T15:10:00Z"])
    assert 0 < json.loads(capfd.readouterr().out)["rows"]["item"] < told["rows"]["item"]
    words[2] = str(tmp_path / "other")
    main_exits(words[:-1])
    said = capfd.readouterr().err
    assert f"item: {told['rows']['item']} rows of history written" in said
    assert "left out, as they read the request: hour" in said


def main_exits(words):
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0
