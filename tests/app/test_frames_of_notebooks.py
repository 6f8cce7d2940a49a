"""Tables of what a notebook asks: one way for all, the dtypes that are stated, and the values of the other ways."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import midstream
from midstream.app.config.reader import parse_config
from midstream.app.evaluation.frames import in_sessions
from midstream.app.opening import open_shop
from midstream.app.point_in_time.served_examples import write_served_examples
from midstream.core.errors import Invalid, Overloaded, RequestInvalid
from midstream.engine import answer_tables
from midstream.evaluation.data.interactions import InteractionTable
from midstream.evaluation.data.tables import FileColumns, interactions_of_table

TOML = """
[[features]]
name = "views"
kind = "count"
actions = ["view"]

[items.attributes]
price = "number"
brand = "category"
fresh = "boolean"
colours = "tags"
look = "vector:2"

[limits]
users_max = 500
items_max = 500
click_items_max = 500
event_ids_max = 10000
sessions_max = 500
index_sessions_max = 500
hot_items_max = 50
new_items_max = 50
requests_max = 1000
"""
ATTRIBUTES = {"price": 9.5, "brand": "lux", "fresh": True, "colours": ["red"], "look": [1.0, 2.0], "size": {"cm": 3}}
FIELDS = tuple(ATTRIBUTES)
TEXT = pa.string()
SLATE_COLUMNS = {
    "user_id": TEXT,
    "position": pa.int32(),
    "item_id": TEXT,
    "score": pa.float32(),
    **dict.fromkeys(("request_id", "placement", "tier", "log_position", "error"), TEXT),
    "field.price": pa.float64(),
    "field.brand": TEXT,
    "field.fresh": pa.bool_(),
    "field.colours": pa.list_(TEXT),
    "field.look": pa.list_(pa.float32()),
    "field.size": TEXT,
}
SERVED_COLUMNS = {
    **dict.fromkeys(("request_id", "placement", "user_id", "session_id", "tier", "scorer"), TEXT),
    "time": pa.timestamp("ms", "UTC"),
    **dict.fromkeys(("served_position", "log_position", "took_us"), pa.int64()),
    "config_hash": TEXT,
    "position": pa.int32(),
    "item_id": TEXT,
    "score": pa.float32(),
    "propensity": pa.float32(),
    "sources": pa.list_(TEXT),
}


def types_of(table):
    """Return the type of each column, in their order."""
    return {each.name: each.type for each in table.schema}


@pytest.fixture
def folder(tmp_path):
    """A shop with three items, one of which has attributes, and nothing served."""
    (tmp_path / "midstream.toml").write_text(TOML)
    with open_shop(tmp_path) as shop:
        shop.record({"type": "item", "item_id": "lamp", "attributes": ATTRIBUTES})
        shop.record(
            [
                {"type": "view", "user_id": user, "item_id": item, "event_id": f"{user}{item}"}
                for user in ("ann", "bob", "eve")
                for item in ("lamp", "rug", "mug")
            ]
        )
    return tmp_path


def test_slates_of_any_number_of_users(folder, monkeypatch):
    """In turns, the same rows as the answers one by one, users in their order, with typed fields."""
    users = [f"u{number}" for number in range(250)]
    turns = []
    with open_shop(folder) as shop:
        many = shop.recommend_many

        def counted(part, *rest, **more):
            turns.append(len(part))
            return many(part, *rest, **more)

        monkeypatch.setattr(shop, "recommend_many", counted)
        table = shop.recommend_table(users, n=3, fields=FIELDS)
        assert turns == [100, 100, 50]
        assert types_of(table) == SLATE_COLUMNS
        assert table.column("user_id").to_pylist() == [user for user in users for _ in range(3)]
        assert table.column("position").to_pylist() == [0, 1, 2] * 250
        assert table.column("error").null_count == len(table)
        one = shop.recommend(user_id="u7", n=3, fields=FIELDS)
        rows = [row for row in table.to_pylist() if row["user_id"] == "u7"]
        assert [row["item_id"] for row in rows] == [item.id for item in one.items]
        assert [row["score"] for row in rows] == [np.float32(item.score) for item in one.items]
        (lamp, *_) = [row for row in table.to_pylist() if row["item_id"] == "lamp"]
        assert {name: lamp[f"field.{name}"] for name in FIELDS} == {**ATTRIBUTES, "size": '{"cm":3}'}
        assert len(set(table.column("request_id").to_pylist())) == 250
        assert shop.recommend_table([], fields=FIELDS).schema == table.schema


def test_a_user_without_an_item_is_a_row(folder, monkeypatch):
    """With −1, NaN and null, which change no dtype, and the error of a slate that could not be made."""
    with open_shop(folder) as shop:
        many = shop.recommend_many
        refusal = Overloaded("too many")
        monkeypatch.setattr(
            shop, "recommend_many", lambda part, *rest, **more: (*many(part[:1], *rest, **more), refusal)
        )
        table = shop.recommend_table(["ann", "bob"], n=3, filter='item.brand == "none"')
        none, refused = table.to_pylist()
        assert (none["user_id"], none["position"], none["item_id"], none["error"]) == ("ann", -1, None, None)
        assert math.isnan(none["score"])
        assert none["request_id"]
        assert (refused["position"], refused["item_id"], refused["request_id"]) == (-1, None, None)
        assert (refused["user_id"], refused["error"]) == ("bob", "too many")
        assert types_of(table) == {name: each for name, each in SLATE_COLUMNS.items() if "." not in name}


def test_columns_are_taken_as_lists_of_ids(folder, monkeypatch):
    """Of Arrow, or what has ``to_list``; anything else, and too many, are refused."""

    class Series:
        def to_list(self):
            return ["ann"]

    monkeypatch.setattr(answer_tables, "ROWS_MAX", 2)
    with open_shop(folder) as shop:
        users: Any
        for users in (["ann"], pa.array(["ann"]), pa.chunked_array([["ann"]]), Series(), iter(["ann"])):
            assert set(shop.recommend_table(users).column("user_id").to_pylist()) == {"ann"}

        class Frame(dict[str, Any]):  # as pandas: a walk over it gives the names of columns
            columns = ("user_id",)

        frame = pa.table({"user_id": ["ann"]})
        none = (frame, Frame(user_id=["ann"]), {"user_id": ["ann"]}, {"ann"}, frozenset(("ann",)), np.array("ann"))
        for users in ("ann", 7, ["a", "b", "c"], np.array([["ann"]]), *none):
            with pytest.raises(RequestInvalid) as caught:
                shop.recommend_table(users)
            assert [each.where for each in caught.value.faults] == ["users"]
        for users in (["a", ""], ["a", None], ["a", float("nan")], ["a", "b" * 129]):
            with pytest.raises(RequestInvalid) as caught:
                shop.recommend_table(users)
            assert [each.where for each in caught.value.faults] == ["users[1]"]


def test_one_text_is_no_list_of_fields(folder):
    """It would be a column for each letter, also where nobody is asked for."""
    with open_shop(folder) as shop:
        users: Any
        for users in (["ann"], []):
            with pytest.raises(RequestInvalid) as caught:
                shop.recommend_table(users, fields="price")
            (fault,) = caught.value.faults
            assert (fault.where, fault.right) == ("/fields", 'A list of names of attributes: ["price"].')


def test_features_of_any_number_of_items(folder):
    """float32, in the order of the items, NaN where nothing is known, the same as without a table."""
    items = ["lamp", *(f"i{number}" for number in range(1_500)), "rug"]
    with open_shop(folder) as shop:
        table = shop.features_table(items, features=("views",))
        assert types_of(table) == {"item_id": TEXT, "views": pa.float32()}
        assert table.column("item_id").to_pylist() == items
        known = shop.features(["lamp", "i7"], features=("views",)).values[:, 0]
        views = table.column("views").to_numpy()
        np.testing.assert_array_equal(views[[0, 8]], known)
        assert np.isfinite(views[[0, -1]]).all()
        assert np.isnan(views[1:-1]).all()
        assert types_of(shop.features_table([], features=("views",))) == types_of(table)


def test_served_slates_and_their_examples(folder, tmp_path_factory):
    """Slates have each served item once with what was recorded; examples are those of the command."""
    with open_shop(folder) as shop:
        answers = [shop.recommend(user_id=user, session_id="s", n=2) for user in ("ann", "new")]
        first = answers[0]
        shop.record({"type": "click", "user_id": "ann", "item_id": first.items[0].id, "request_id": first.request_id})
        table = midstream.slates(folder)
        assert types_of(table) == SERVED_COLUMNS
    table = midstream.slates(folder)
    assert types_of(table) == SERVED_COLUMNS
    told = [(answer.request_id, item.position, item.id) for answer in answers for item in answer.items]
    rows = table.to_pylist()
    assert [(row["request_id"], row["position"], row["item_id"]) for row in rows] == told
    assert [row["score"] for row in rows[:2]] == [np.float32(item.score) for item in first.items]
    assert {(row["user_id"], row["session_id"], row["tier"]) for row in rows} == {
        ("ann", "s", "full"),
        ("new", "s", "full"),
    }
    assert all(row["propensity"] == 1 and row["sources"] and row["took_us"] > 0 for row in rows)
    position = rows[-1]["served_position"]
    assert len(midstream.slates(folder, f"{position}..")) == 2
    assert midstream.slates(folder, f"{position + 1}..").schema == table.schema
    with pytest.raises(Invalid):
        midstream.slates(folder, "yesterday")
    examples = midstream.examples(folder)
    out = tmp_path_factory.mktemp("out") / "e.arrow"
    write_served_examples(folder, "..", out)
    with pa.memory_map(str(out)) as file:
        assert examples.equals(pa.ipc.open_file(file).read_all())
    assert examples.column("outcome_click").to_pylist() == [True, False, False, False]
    kinds = types_of(examples)
    assert (kinds["views"], kinds["reward"], kinds["impression"]) == (pa.float32(), pa.float32(), pa.bool_())
    assert len(midstream.examples(folder, f"{position}..", features=["views"])) == 2


def test_an_evaluation_is_a_table(folder):
    """Of the log's interactions or of a table's, with other names of columns; each method beside the baseline."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {"product": item, "who": f"u{user}", "when": began + timedelta(days=user, minutes=minute)}
        for user in range(30)
        for minute, item in enumerate(("lamp", "rug", "mug"))
    ]
    columns = {"item_id": "product", "user_id": "who", "time": "when"}
    table = midstream.evaluate(folder, pa.Table.from_pylist(rows), columns=columns)
    figures = {(row["method"], row["figure"]): row for row in table.to_pylist()}
    assert set(figures) == {
        (method, figure)
        for method in ("popular", "session_knn", "covisitation", "placement default")
        for figure in ("HR@20", "MRR@20")
    }
    best = figures["session_knn", "MRR@20"]
    assert best["questions"] == 60
    assert best["low"] <= best["mean"] <= best["high"]
    assert best["mean"] > figures["popular", "MRR@20"]["mean"]
    assert best["difference"] is None
    assert figures["session_knn", "HR@20"]["p_value"] is not None
    numbers = dict.fromkeys(("mean", "low", "high", "difference", "difference_low", "difference_high", "p_value"))
    assert types_of(table) == {
        "method": TEXT,
        "figure": TEXT,
        **dict.fromkeys(numbers, pa.float64()),
        "questions": pa.int64(),
    }
    own = midstream.evaluate(folder)
    assert own.schema == table.schema
    assert set(own.column("questions").to_pylist()) == {6}
    for wrong, where in ((pa.table({"item": ["a"]}), "interactions"), (7, "interactions")):
        with pytest.raises(Invalid) as caught:
            midstream.evaluate(folder, wrong)
        assert {each.where for each in caught.value.faults} == {where}


def test_cells_are_the_same_with_pandas_and_without():
    """Times of nanoseconds, which Python has no type for, and NaN for a user who is none."""
    times = pa.array([1_700_000_000_123_456_789, 1_700_000_000_124_000_001, None], pa.timestamp("ns", "UTC"))
    rows = {"user_id": [1.0, math.nan, 2.0], "item_id": list("xyz"), "time": times}
    found = interactions_of_table(pa.table(rows), FileColumns(session=None, user="user_id"), "acts")
    assert found.time_ms.tolist() == [1_700_000_000_123]
    assert found.user_id.tolist() == ["1.0"]
    numbers = {"user_id": ["a", "b"], "item_id": ["x", "y"], "time": [1_000.0, math.nan]}
    found = interactions_of_table(pa.table(numbers), FileColumns(session=None, user="user_id"), "acts")
    assert found.time_ms.tolist() == [1_000]


def test_faults_of_an_evaluation_name_the_arguments_of_python(folder):
    """Not the options of the command."""
    table = pa.table({"item": ["x"], "time": [1]})
    with pytest.raises(Invalid) as caught:
        midstream.evaluate(folder, table, columns={"item": "item"}, time_unit="weeks")
    assert [each.where for each in caught.value.faults] == ["columns.item", "time_unit"]


def test_rows_without_a_session_are_cut_by_user_and_silence():
    """The others keep theirs, and all are by time."""
    texts = {
        "user_id": ["a", "b", "a", "a"],
        "session_id": ["", "s", "", ""],
        "item_id": list("wxyz"),
        "action": ["view"] * 4,
    }
    arrays: Any = {name: np.array(cells) for name, cells in texts.items()}
    rows = InteractionTable(**arrays, time_ms=np.array([0, 1, 2, 10_000_000]))
    assert in_sessions(rows).session_id.tolist() == ["a#0", "s", "a#0", "a#1"]
    assert in_sessions(rows).item_id.tolist() == list("wxyz")
    assert in_sessions(rows.take(np.array([1]))).session_id.tolist() == ["s"]


def test_a_table_of_a_configuration_that_is_brought(folder):
    """Placements of a configuration in place of the file's."""
    text = '[[placements]]\nname = "shelf"\nsources = [{ kind = "popular" }]\n'
    methods = midstream.evaluate(folder, config=parse_config(text)).column("method").to_pylist()
    assert "placement shelf" in methods
