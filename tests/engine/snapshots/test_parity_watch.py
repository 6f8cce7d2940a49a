"""A snapshot's child compares served values on its way: all equal while nothing is wrong, found when something is."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from midstream.app.config.reader import parse_config
from midstream.app.config_history import settings_of
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME, open_shop
from midstream.core.durations import Duration
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.snapshots import parity_watch
from midstream.engine.snapshots.parity_watch import ParityWatch, watched
from midstream.engine.snapshots.worker import SnapshotOrder, run
from midstream.features.declared import DeclaredFeatures
from midstream.features.parity import Parity
from midstream.features.readers.request_inputs import ContextValue
from midstream.state.settings import encode_settings
from tests.support.ids import KEY

CONFIG = parse_config(
    """
[[features]]
name = "mine"
kind = "count"
scope = "user"
actions = ["view"]
half_life = ["1h"]

[[features]]
name = "elsewhere"
kind = "number"
scope = "request"

[[placements]]
name = "home"
features = ["mine"]
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
)


def ordered(folder, config=CONFIG):
    """Let users act and ask, and return the order of a snapshot of what came of it."""
    rng = np.random.default_rng(4)
    with open_shop(folder, config) as shop:
        for _ in range(10):
            acts = [
                {"type": "view", "user_id": f"u{rng.integers(3)}", "item_id": f"i{rng.integers(9)}"} for _ in range(7)
            ]
            shop.record(acts)
            shop.recommend(placement="home", user_id=f"u{rng.integers(3)}", n=2, context={"elsewhere": 2.0})
        told = watched(shop.running.engine.plans)
    position, data = LogView(folder).end, DataFolder(folder / DATA_NAME)
    return SnapshotOrder(str(data.root), position, encode_settings(settings_of(data, config)), 2, watched=told)


def test_what_was_served_is_what_the_child_folds(tmp_path):
    """Each slate that saw a state on the way is compared; the snapshot is the same with and without."""
    order = ordered(tmp_path)
    report = run(order)
    assert (report.values_compared, report.values_unequal, report.unequal) == (20, 0, "")
    assert DataFolder(tmp_path / DATA_NAME).snapshots.is_dir()


def test_a_request_that_saw_another_state_is_told(tmp_path, monkeypatch):
    """How many values differ, and one of them in words."""
    read = DeclaredFeatures.read
    monkeypatch.setattr(
        DeclaredFeatures, "read", lambda self, moment, *rest: read(self, replace(moment, user_index=0), *rest)
    )
    order = ordered(tmp_path)
    monkeypatch.undo()
    report = run(order)
    assert 0 < report.values_unequal < report.values_compared == 20
    assert "mine of item i" in report.unequal


def test_no_more_than_the_maximum_is_compared(tmp_path, monkeypatch):
    """Whatever the tail holds."""
    monkeypatch.setattr(parity_watch, "SLATES_MAX", 4)
    assert run(ordered(tmp_path)).values_compared == 8


def test_no_more_bytes_than_the_maximum_are_held(tmp_path, monkeypatch):
    """Records as they lie in the log, however large each is; nothing is decoded before its turn."""
    order = ordered(tmp_path)
    log = LogView(tmp_path)
    whole = ParityWatch(order.watched, batches(log.read, log.begin, log.end), LogPosition(0), KEY)
    sizes = [len(body) for bodies in whole._at.values() for body in bodies]
    monkeypatch.setattr(parity_watch, "BYTES_MAX", max(sizes) * 3)
    some = ParityWatch(order.watched, batches(log.read, log.begin, log.end), LogPosition(0), KEY)
    held = [len(body) for bodies in some._at.values() for body in bodies]
    assert len(sizes) == 10
    assert len(held) >= 3
    assert sum(held) <= max(sizes) * 3
    monkeypatch.setattr(parity_watch, "BYTES_MAX", 1)
    assert run(order).values_compared == 0


def test_a_record_of_another_fold_version_is_passed_by(tmp_path):
    """The state that it saw is not the one that is folded: nothing is compared, and nothing differs."""
    order = ordered(tmp_path)
    settings = settings_of(DataFolder(tmp_path / DATA_NAME), CONFIG)
    settings = msgspec.structs.replace(settings, outcome_window=Duration("3m"))
    report = run(msgspec.structs.replace(order, settings=encode_settings(settings)))
    assert (report.values_compared, report.values_unequal) == (0, 0)


@pytest.mark.parametrize("places", [(), (103, 107, 110)])
def test_a_batch_is_cut_where_something_is_compared(places):
    """All of it is folded, in steps, none of them across such a place."""
    watch = ParityWatch("", (), LogPosition(0), KEY)
    watch._at = {place: [] for place in places}
    found = list(watch.cuts(100, 10, 4))
    assert [start for start, _ in found[1:]] == [stop for _, stop in found[:-1]]
    assert (found[0][0], found[-1][1]) == (0, 10)
    assert {place - 100 for place in places} <= {stop for _, stop in found}
    assert all(stop - start <= 4 for start, stop in found)


def test_a_read_that_fails_costs_no_snapshot(tmp_path, monkeypatch):
    """The snapshot is written, nothing counts as compared, and why is told."""
    order = ordered(tmp_path)

    def fails(self, *_asked):
        raise ArithmeticError(self.names)

    monkeypatch.setattr(DeclaredFeatures, "read", fails)
    report = run(order)
    assert (report.values_compared, report.values_unequal) == (0, 0)
    assert "ArithmeticError" in report.unequal


def test_what_the_record_has_no_column_of_is_not_read(tmp_path, monkeypatch):
    """A feature of other placements can neither fail nor cost anything here."""
    order, asked = ordered(tmp_path), set[str]()
    read = DeclaredFeatures.read

    def noted(self, *given):
        asked.update(self.names)
        return read(self, *given)

    monkeypatch.setattr(DeclaredFeatures, "read", noted)
    assert run(order).values_compared == 20
    assert asked == {"mine"}


def test_a_slate_whose_features_all_failed_is_none_that_was_compared(tmp_path, monkeypatch):
    """Nothing was read then, so nothing is looked at now."""
    home = msgspec.structs.replace(CONFIG.placements[0], features=("elsewhere",))
    config = msgspec.structs.replace(CONFIG, placements=(home,))

    def fails(*_asked):
        message = "of ann@example.com"
        raise ArithmeticError(message)

    with monkeypatch.context() as patch:
        patch.setattr(ContextValue, "fill", fails)
        order = ordered(tmp_path, config)
    log, slates = LogView(tmp_path), list[int]()
    watch = ParityWatch(order.watched, batches(log.read, log.begin, log.end), LogPosition(0), KEY)
    assert len(watch._at) == 10
    monkeypatch.setattr(Parity, "add_logged", lambda *_asked: slates.append(1))
    assert run(order).unequal == ""
    assert slates == []


def test_a_feature_that_fails_is_not_compared(tmp_path, monkeypatch):
    """Neither where the child reads it, which is told by its name, nor where the request did, which said so then."""
    home = msgspec.structs.replace(CONFIG.placements[0], features=("mine", "elsewhere"))
    config = msgspec.structs.replace(CONFIG, placements=(home,))

    def fails(*_asked):
        message = "of ann@example.com"
        raise ArithmeticError(message)

    with monkeypatch.context() as patch:
        patch.setattr(ContextValue, "fill", fails)
        order = ordered(tmp_path / "then", config)
    report = run(order)
    assert (report.values_compared, report.values_unequal, report.unequal) == (20, 0, "")
    order = ordered(tmp_path / "now", config)
    assert run(order).values_compared == 40
    order = ordered(tmp_path / "later", config)
    monkeypatch.setattr(ContextValue, "fill", fails)
    report = run(order)
    assert (report.values_compared, report.values_unequal) == (0, 0)
    # What the error says may name a user, and health shows this to whoever asks.
    assert report.unequal == "features.elsewhere could not be read again: ArithmeticError"
