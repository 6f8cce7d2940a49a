"""Features of the past from a folder: whatever the table, the order and where the fold began, the same values."""

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import midstream
from midstream.app.config.reader import parse_config
from midstream.app.config_history import settings_of
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME, open_shop
from midstream.app.point_in_time.api import LookupRequest, write_answers
from midstream.app.point_in_time.lookup import AsOfOptions
from midstream.app.point_in_time.parity import CheckOptions, check_features
from midstream.app.wiring import declarations
from midstream.core.errors import Invalid
from midstream.core.types import LogPosition, Query, TimestampMs
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import open_log
from midstream.engine.snapshots import snapshots
from midstream.evaluation.metrics.feature_statistics import read_statistics, statistics_of
from midstream.events.schema import cut
from midstream.features.as_of import NO_TIME, FoldCursor, PointInTimeQuestion, as_of
from midstream.state.fold import Fold
from tests.support.events import Stream, random_events

TOML = """
[items.attributes]
category = "category"

[[features]]
name = "views"
kind = "count"
actions = ["view"]
windows = ["1h"]
half_life = ["6h"]

[[features]]
name = "mine"
kind = "count"
scope = "user_item"
actions = ["view", "click"]

[[features]]
name = "here"
kind = "count"
scope = "session"
actions = ["view", "click"]

[[features]]
name = "beside"
kind = "pair_score"

[[placements]]
name = "home"
features = ["mine", "views"]
log_features = 1.0

[limits]
users_max = 500
items_max = 500
click_items_max = 500
event_ids_max = 10000
sessions_max = 500
index_sessions_max = 500
hot_items_max = 50
new_items_max = 50
feature_user_items_max = 300
requests_max = 100
"""
CONFIG = parse_config(TOML)
EVENTS = 2_000
LOG = random_events(EVENTS, seed=5, stream=Stream(users=30, items=20))
TIMES = LOG.rows["log_time_ms"].astype(np.int64)
COLUMNS = ("views_1h", "views_fading_6h", "mine", "here", "beside")


@pytest.fixture
def folder(tmp_path):
    """A folder whose log holds the events, in commits of 50."""
    (tmp_path / "midstream.toml").write_text(TOML)
    log = open_log(DataFolder(tmp_path / DATA_NAME), bytes(16), 1 << 20)
    for first in range(0, EVENTS, 50):
        log.append(cut(LOG, first, first + 50))
    log.close()
    return tmp_path


def asked(count, seed):
    """Return rows of questions at log positions, in no order."""
    rng = np.random.default_rng(seed)
    return [
        {
            "log_position": int(rng.integers(EVENTS + 1)),
            "user_id": f"user-{rng.integers(30)}" if rng.random() < 0.9 else None,
            "session_id": f"session-{rng.integers(50)}" if rng.random() < 0.5 else None,
            "items": [f"item-{each}" for each in rng.permutation(25)[: rng.integers(1, 6)]],
            "label": float(rng.integers(2)),
        }
        for _ in range(count)
    ]


def expected(rows):
    """Return the values of each row, by a pass over the events as they are."""
    block = declarations(CONFIG, CONFIG.fold_settings()).block(("views", "mine", "here", "beside"))
    questions = [
        PointInTimeQuestion(
            Query("", "", each["user_id"], each["session_id"], 1, TimestampMs(each.get("time", NO_TIME)), row),
            tuple(each["items"]),
            LogPosition(each["log_position"]) if "log_position" in each else None,
            row,
        )
        for row, each in enumerate(rows)
    ]
    questions.sort(key=lambda each: each.query.now_ms if each.log_position is None else each.log_position)
    cursor = FoldCursor(Fold(CONFIG.fold_settings()), [(LogPosition(0), LOG)])
    found = {each.question.row: each.values for each in as_of(cursor, questions, block.read)}
    values = np.concatenate([found[row] for row in range(len(rows))])
    assert (np.nan_to_num(values) != 0).any(axis=0).all()  # no column says nothing
    return values


def values_of(table):
    """Return the columns of features of a table, (rows, columns)."""
    return np.stack([table.column(name).to_numpy() for name in COLUMNS], axis=1)


def test_answers_are_in_the_order_of_the_questions_with_what_came_with_them(folder):
    """Each item of each question has a row, in its place, with the question's other columns and the right values."""
    rows = asked(300, seed=1)
    table = midstream.features_as_of(folder, pa.Table.from_pylist(rows))
    every = [(row, place, item, each) for row, each in enumerate(rows) for place, item in enumerate(each["items"])]
    assert table.column("row").to_pylist() == [row for row, _, _, _ in every]
    assert table.column("position").to_pylist() == [place for _, place, _, _ in every]
    assert table.column("item_id").to_pylist() == [item for _, _, item, _ in every]
    assert table.column("label").to_pylist() == [each["label"] for *_, each in every]
    assert table.column("log_position").to_pylist() == [each["log_position"] for *_, each in every]
    assert values_of(table).tobytes() == expected(rows).tobytes()


def test_a_snapshot_before_the_first_question_changes_nothing(folder, monkeypatch):
    """The fold goes on from it, and one that lies after the first question is not used."""
    rows = [{**each, "log_position": 1_000 + each["log_position"] // 2} for each in asked(100, seed=2)]
    right = expected(rows)
    identity = LogView(folder).identity
    for place in (900, 1_900):
        fold = Fold(settings_of(DataFolder(folder / DATA_NAME), CONFIG))
        fold.apply(LogPosition(0), cut(LOG, 0, place))
        snapshots.write(folder / DATA_NAME / "snapshots", fold, identity)
    began = []

    def begun(fold, events, *rest):
        began.append(fold.log_position)
        return FoldCursor(fold, events, *rest)

    monkeypatch.setattr("midstream.app.point_in_time.lookup.FoldCursor", begun)
    table = midstream.features_as_of(folder, pa.Table.from_pylist(rows))
    assert began == [900]
    assert values_of(table).tobytes() == right.tobytes()


@pytest.mark.parametrize("kind", ["csv", "quoted.csv", "ndjson", "parquet", "arrow"])
def test_any_file_gives_the_same(folder, kind):
    """What a question says is read from each format alike."""
    rows = asked(60, seed=3)
    path = folder / f"asked.{kind}"
    table = pa.Table.from_pylist(rows)
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=7)
    elif kind == "arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    elif kind == "ndjson":
        path.write_bytes(
            b"\n".join(msgspec.json.encode({k: v for k, v in row.items() if k != "label"}) for row in rows)
        )
    else:
        mark = '"' if kind == "quoted.csv" else ""
        lines = [
            f"{row['log_position']},{row['user_id'] or ''},{row['session_id'] or ''},{mark}{'|'.join(row['items'])}{mark}"  # noqa: E501
            for row in rows
        ]
        path.write_text("log_position,user_id,session_id,items\n" + "\n".join(lines) + "\n")
    out = folder / "found.parquet"
    summary = write_answers(folder, LookupRequest(path, None, out, None, None, AsOfOptions(in_input_order=True)))
    found = pq.read_table(out)
    assert (summary.questions, summary.rows) == (60, len(found))
    assert values_of(found).tobytes() == expected(rows).tobytes()
    beside = read_statistics(folder / "found.parquet.statistics.json")
    names = [each.name for each in beside.columns]
    assert beside == statistics_of(names, np.stack([found[name].to_numpy() for name in names], axis=1))
    assert names


@pytest.mark.parametrize("name", ["found.parquet", "found.arrow", "found.csv"])
def test_every_format_holds_the_same_rows(folder, name):
    """In the order of the log unless the input's is asked for."""
    rows = asked(50, seed=4)
    path = folder / "asked.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    write_answers(folder, LookupRequest(path, None, folder / name, None, None, AsOfOptions(("views",))))
    found = {
        "found.parquet": lambda: pq.read_table(folder / name),
        "found.arrow": lambda: pa.ipc.open_file(folder / name).read_all(),
        "found.csv": lambda: pyarrow.csv.read_csv(folder / name),
    }[name]()
    order = sorted(range(50), key=lambda row: (rows[row]["log_position"], row))
    assert found.column("row").to_pylist() == [row for row in order for _ in rows[row]["items"]]
    assert [each for each in found.column_names if each in COLUMNS] == ["views_1h", "views_fading_6h"]


def test_a_time_means_the_events_before_it(folder):
    """Times of every form ask for the same; an event of that very millisecond is not seen."""
    times = [int(TIMES[200]), int(TIMES[700]) + 1, int(TIMES[40])]
    rows = [{"time": each, "user_id": "user-1", "session_id": None, "items": ["item-1", "item-2"]} for each in times]
    right = expected(rows)
    forms = [
        pa.array(times),
        pa.array(times, pa.timestamp("ms")),
        pa.array(times, pa.timestamp("ms")).cast(pa.timestamp("us", "Europe/Berlin")),
        pa.array([f"{each}" for each in times]),
        pa.array([np.datetime64(each, "ms").astype(str) + "Z" for each in times]),
    ]
    for form in forms:
        table = pa.Table.from_pylist(rows).set_column(0, "time", form)
        found = midstream.features_as_of(folder, table)
        assert values_of(found).tobytes() == right.tobytes()
        assert found.column("log_position").to_pylist()[::2] == [int(np.count_nonzero(each > TIMES)) for each in times]


def test_what_was_served_reads_as_it_was_logged(tmp_path):
    """Of each slate, bit for bit, though records are appended after their answer and acts come between."""
    rng = np.random.default_rng(8)
    with open_shop(tmp_path, CONFIG) as shop:
        for _ in range(12):
            acts = [
                {
                    "type": "view",
                    "user_id": f"u{rng.integers(5)}",
                    "item_id": f"i{rng.integers(30)}",
                    "time": 1_700_000_000_000 + int(rng.integers(9)),
                }
                for _ in range(rng.integers(1, 20))
            ]
            shop.record(acts)
            for _ in range(3):
                shop.recommend(placement="home", user_id=f"u{rng.integers(6)}", n=7)
    with open_shop(tmp_path, CONFIG) as shop:
        requests: dict[str, list[list[float]]] = {}
        table = midstream.features_of_served(tmp_path, features=["mine", "views"], config=CONFIG)
        for row in table.to_pylist():
            requests.setdefault(row["request_id"], []).append([row["mine"], row["views_1h"], row["views_fading_6h"]])
        assert len(requests) == 36
        for request_id, values in requests.items():
            record = shop.running.engine.served(request_id)
            assert record is not None
            assert record.features is not None
            assert record.features.names == ("mine", "views_1h", "views_fading_6h")
            assert np.array(values, dtype=np.float32).tobytes() == record.features.values.tobytes()


def test_a_range_of_what_was_served(tmp_path):
    """By log position of the record, half open; nothing outside of it."""
    with open_shop(tmp_path, CONFIG) as shop:
        shop.record([{"type": "view", "user_id": "u", "item_id": f"i{each}"} for each in range(5)])
        for _ in range(4):
            shop.recommend(placement="home", user_id="u", n=2)
    every = midstream.features_of_served(tmp_path, config=CONFIG)
    places = np.unique(every.column("served_position").to_numpy()).tolist()
    assert len(places) == 4
    some = midstream.features_of_served(tmp_path, f"{places[1]}..{places[3]}", config=CONFIG)
    assert np.unique(some.column("served_position").to_numpy()).tolist() == places[1:3]


@pytest.mark.parametrize(
    "rows, where",
    [
        ([{"user_id": "u", "items": ["a"]}], "There is no column log_position or time"),
        ([{"log_position": 1, "user_id": "u"}], "Columns items and item_id: There is neither"),
        ([{"log_position": 1, "items": []}], "1 to 10,000 items"),
        ([{"log_position": 1, "items": ["a"]}, {"log_position": None, "items": ["a"]}], "row 2, log_position"),
        ([{"time": 1_700_000_000, "items": ["a"]}], "looks like seconds"),
        ([{"time": 1_700_000_000_000_000, "items": ["a"]}], "looks like microseconds"),
        ([{"time": 1_700_000_000_000, "items": ["a"], "context.n": float("inf")}], "row 1, context.n"),
        ([{"log_position": EVENTS + 1, "items": ["a"]}], f"At most {EVENTS}, where the log ends"),
        ([{"log_position": 1, "items": ["a"], "mine": 2}], "Two columns would be called mine"),
        ([{"log_position": 1, "items": ["a"], "item_fields.x": [1.0, 2.0]}], "2 came"),
        ([], "It holds no row"),
        ([{"time": "9" * 20, "items": ["a"]}], "row 1, time\\s+It is later than any time"),
        ([{"time": 1 << 62, "items": ["a"]}], "row 1, time\\s+It is later than any time"),
        ([{"log_position": 1, "items": ["a"]}, {"log_position": 1, "items": ["a", None]}], "row 2, items\\s+An item"),
        ([{"log_position": 1, "items": [float("nan")]}], "row 1, items\\s+An item"),
        ([{"log_position": 1, "items": [1.5]}], "(?s)items.*Texts or whole numbers"),
        ([{"log_position": 1, "items": ["a"], "basket": ["b", ""]}], "row 1, basket\\s+An item"),
        ([{"log_position": 1, "item_id": 1.5}], "(?s)item_id.*Texts or whole numbers"),
        ([{"log_position": 1, "item_id": float("nan")}], "row 1, item_id"),
        ([{"log_position": 1, "items": ["a"], "user_id": {"a": 1}}], "(?s)user_id.*Texts or whole numbers"),
    ],
)
def test_what_cannot_be_asked_is_said(folder, rows, where):
    """Each fault names the row or column, what came and what would be right."""
    table = pa.Table.from_pylist(rows)
    with pytest.raises(Invalid, match=where):
        midstream.features_as_of(folder, table)


def test_a_feature_that_is_not_declared_is_named(folder):
    """With the nearest that is."""
    with pytest.raises(Invalid, match="Nearest"):
        midstream.features_as_of(folder, pa.Table.from_pylist(asked(1, seed=1)), features=["vews"])


def test_a_feature_that_is_named_again_is_read_once(folder):
    """One column, where it was named first; what is wrong with it is told once."""
    found = midstream.features_as_of(folder, pa.Table.from_pylist(asked(3, seed=1)), features=["mine", "here", "mine"])
    assert found.column_names[-2:] == ["mine", "here"]
    assert found.column_names.count("mine") == 1
    with pytest.raises(Invalid) as caught:
        midstream.features_as_of(folder, pa.Table.from_pylist(asked(1, seed=1)), features=["mien", "mien"])
    assert len(caught.value.faults) == 1


def test_what_is_wrong_with_another_configuration_begins_with_its_name(folder):
    """A table that is not there, and no feature at all: the file that was given is named, and not the folder's own."""
    other = folder / "other.toml"
    table = '[[tables]]\nname = "t"\npath = "none.csv"\n[[features]]\nname = "x"\nkind = "external"\ntable = "t"\n'
    for text, where in ((f'{table}columns = ["a"]\n', r"^other\.toml: \$\.tables\[0\]\.path"), ("", "other.toml")):
        other.write_text(text)
        with pytest.raises(Invalid, match=where):
            midstream.features_as_of(folder, pa.Table.from_pylist(asked(1, seed=1)), config=other)
        with pytest.raises(Invalid, match=where):
            check_features(folder, CheckOptions(config=other))
