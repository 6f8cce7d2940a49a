"""The check of served values against the log: what is the same passes, whatever is not is found and named."""

from dataclasses import replace

import msgspec
import numpy as np
import pyarrow as pa
import pytest

import midstream
from midstream.app.config.reader import parse_config
from midstream.app.config_history import Span, remember, settings_of
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME, open_shop
from midstream.app.point_in_time.lookup import Past
from midstream.app.point_in_time.parity import CheckOptions, check_features, rewritten_before
from midstream.cli.features.check import status_of
from midstream.engine.erasure.log_rewrite import Receipt
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.snapshots import compactions
from midstream.features.declared import DeclaredFeatures
from midstream.features.parity import Parity, unequal
from midstream.features.readers.item_inputs import ItemDifference
from midstream.state import settings
from midstream.state.ids.compacted_items import NOTHING
from midstream.state.structures.hashing import id_hash

TOML = """
[items.attributes]
category = "category"

[[features]]
name = "mine"
kind = "count"
scope = "user"
actions = ["view"]
half_life = ["1h"]

[[features]]
name = "views"
kind = "count"
actions = ["view"]

[[features]]
name = "apart"
kind = "diversity"
attribute = "category"

[[placements]]
name = "home"
features = ["mine", "views", "apart"]
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
requests_max = 100
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a configuration that keeps the values of every slate."""
    (tmp_path / "midstream.toml").write_text(TOML)
    return tmp_path


def serve(folder, rounds=10):
    """Let users act and ask, in turns."""
    rng = np.random.default_rng(4)
    with open_shop(folder) as shop:
        for _ in range(rounds):
            acts = [
                {"type": "view", "user_id": f"u{rng.integers(4)}", "item_id": f"i{rng.integers(20)}"} for _ in range(9)
            ]
            shop.record(acts)
            shop.recommend(placement="home", user_id=f"u{rng.integers(4)}", n=5)


def test_values_that_were_served_are_those_of_the_log(folder):
    """Every value of every slate is compared, but of what depends on items that were not chosen."""
    serve(folder)
    report = check_features(folder, CheckOptions())
    assert (report.slates, report.compared, report.mismatched) == (10, 10 * 5 * 2, 0)
    assert [each.name for each in report.columns] == ["mine", "views"]
    assert report.left_out == ("apart",)
    assert status_of(report) == 0


def test_a_request_that_saw_another_state_is_found(folder, monkeypatch):
    """A read of a user who is not the asking one differs in that user's column, with the request and item named."""
    read = DeclaredFeatures.read
    monkeypatch.setattr(
        DeclaredFeatures, "read", lambda self, moment, *rest: read(self, replace(moment, user_index=0), *rest)
    )
    serve(folder)
    monkeypatch.undo()
    report = check_features(folder, CheckOptions())
    mine, views = report.columns
    assert 0 < mine.mismatched < mine.compared
    assert views.mismatched == 0
    assert mine.worst > 0
    assert mine.examples[0].request_id
    assert mine.examples[0].logged != mine.examples[0].as_of
    assert status_of(report) == 1
    roomy = check_features(folder, CheckOptions(tolerance=1e9)).columns[0]
    assert 0 < roomy.mismatched < mine.mismatched  # what only one of the two knows differs by any measure
    assert all(np.isnan(each.logged) != np.isnan(each.as_of) for each in roomy.examples)


def test_a_sample_is_the_same_each_time(folder):
    """At most so many slates, the same ones again."""
    serve(folder)
    assert check_features(folder, CheckOptions(sample=3)).slates == 3
    assert check_features(folder, CheckOptions(served="0..1")).slates == 0


def test_without_values_there_is_nothing_to_compare(folder):
    """Which is not the same as finding no difference."""
    (folder / "midstream.toml").write_text(TOML.replace("log_features = 1.0", "log_features = 0.0"))
    serve(folder, rounds=2)
    report = check_features(folder, CheckOptions())
    assert (report.logged, report.compared) == (0, 0)
    assert status_of(report) == 2


def test_slates_of_another_configuration_are_not_compared(folder):
    """They are counted; its names may have meant other things."""
    serve(folder, rounds=3)
    (folder / "midstream.toml").write_text(TOML.replace('half_life = ["1h"]', 'half_life = ["2h"]'))
    report = check_features(folder, CheckOptions())
    assert (report.logged, report.other_config, report.compared) == (3, 3, 0)
    (folder / "before.toml").write_text(TOML)
    assert check_features(folder, CheckOptions(config=folder / "before.toml")).slates == 3


def test_what_was_served_before_a_rewrite_is_not_compared(folder):
    """The acts of erased users are gone from the log, and were not when those slates were served."""
    serve(folder, rounds=4)
    data = DataFolder(folder / DATA_NAME)
    data.receipts.mkdir()
    receipt = Receipt(0, 0, 20, (), (), "", {}, time_ms=1)
    (data.receipts / "1-0.json").write_bytes(msgspec.json.encode(receipt))
    assert rewritten_before(data, 0) == 20
    report = check_features(folder, CheckOptions())
    assert report.rewritten > 0
    assert report.slates == 4 - report.rewritten


def test_items_that_are_deleted_later_were_there_for_what_came_before(folder):
    """A compaction changes no answer about the past before it, and what is served after it is the same as of then."""
    serve(folder)
    with open_shop(folder) as shop:
        shop.record([{"type": "item", "item_id": f"i{each}", "operation": "delete"} for each in range(10)])
    before = midstream.features_of_served(folder).to_pylist()
    times = [{"time": row["time"], "item_id": "i1"} for row in before[::5]]
    by_time = midstream.features_as_of(folder, pa.Table.from_pylist(times), features=["views"]).to_pylist()
    assert sum(row["views"] for row in by_time if row["log_position"] > 50) > 0
    data, log, config = DataFolder(folder / DATA_NAME), LogView(folder), parse_config(TOML)
    compactions.write_candidates(
        data, np.array(sorted(id_hash(f"i{each}", log.id_key) for each in range(10)), np.uint64), NOTHING
    )
    found = compactions.choose(data, batches(log.read, log.begin, log.end), log.end, log.id_key)
    assert len(found.item_hash) == 10
    remember(
        data,
        config,
        msgspec.structs.replace(settings_of(data, config), compaction=found.name),
        Span(log.begin, log.end),
    )
    assert repr(midstream.features_of_served(folder).to_pylist()) == repr(before)
    assert repr(midstream.features_as_of(folder, pa.Table.from_pylist(times), features=["views"]).to_pylist()) == repr(
        by_time
    )
    report = check_features(folder, CheckOptions())
    assert (report.slates, report.mismatched, report.other_state) == (10, 0, 0)
    with open_shop(folder) as shop:
        for user in range(4):
            shop.record([{"type": "view", "user_id": f"u{user}", "item_id": "i15"}])
            shop.recommend(placement="home", user_id=f"u{user}", n=5)
    report = check_features(folder, CheckOptions())
    assert (report.slates, report.mismatched, report.other_state) == (14, 0, 0)
    assert repr(midstream.features_of_served(folder, f"..{log.end}").to_pylist()) == repr(before)
    assert Past(folder, config).eras.since == found.before


def test_a_state_of_another_version_is_not_compared(folder, monkeypatch):
    """They are counted: another release may count otherwise."""
    monkeypatch.setattr(settings, "KERNEL_VERSION", 0)
    serve(folder, rounds=3)
    monkeypatch.undo()
    report = check_features(folder, CheckOptions())
    assert (report.logged, report.other_state, report.compared) == (3, 3, 0)


def test_a_slate_whose_features_all_failed_is_not_compared(folder, monkeypatch):
    """It has no value to compare, so it is none of the slates of which all values were equal."""
    (folder / "midstream.toml").write_text(TOML.replace('["mine", "views", "apart"]', '["apart"]'))

    def fails(*_asked):
        raise ArithmeticError

    with monkeypatch.context() as patch:
        patch.setattr(ItemDifference, "fill", fails)
        serve(folder, rounds=3)
    report = check_features(folder, CheckOptions())
    assert (report.found, report.slates, report.compared) == (3, 0, 0)


def test_equal_means_the_same_bits():
    """A zero of another sign differs, NaN equals NaN of any bits and no number, and a tolerance is one."""
    nan = np.array([0x7FC00000, 0x7FC00001], dtype=np.uint32).view(np.float32)
    logged = np.array([[0.0, nan[0], nan[0], 1.0, 1000.0]], dtype=np.float32)
    as_of = np.array([[-0.0, nan[1], 1.0, 1.00001, 1000.5]], dtype=np.float32)
    assert unequal(logged, as_of, 0.0).tolist() == [[True, False, True, True, True]]
    assert unequal(logged, as_of, 0.001).tolist() == [[False, False, True, False, False]]
    parity = Parity()
    parity.add("r", ["a"], list("abcde"), logged, as_of)
    assert (parity.compared, parity.mismatched) == (5, 4)
    assert parity.columns["c"].worst == np.inf
