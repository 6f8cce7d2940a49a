"""Acts that were taken back are in no export, no history, no training set and no value as of a past moment.

Each is compared with a folder into which the acts never came, while they still wait for a rebuild, and after it.
"""

from pathlib import Path

import numpy as np
import pytest

import midstream
from midstream.app.export.events import export_events
from midstream.app.ingest.import_file import import_file
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import config_of
from midstream.app.operate import rebuild
from midstream.app.point_in_time.lookup import Past
from midstream.app.training.fit import Fitting, acts_of
from midstream.core.errors import ActUnknown
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition, Query, TimestampMs
from midstream.engine.instance import Instance
from midstream.events.schema import event_at
from midstream.features.as_of import PointInTimeQuestion, as_of
from midstream.models.model import QUIET
from tests.support.fakes.rebuilds import SMALL_LIMITS, run_folder

TOML = """
[items.attributes]
category = "category"

[[features]]
name = "views"
kind = "count"
actions = ["view"]
windows = ["1h"]

[[features]]
name = "mine"
kind = "count"
scope = "user_item"
actions = ["view", "cart"]

[[models]]
name = "liked"
kind = "als"
"""
GONE = (4, 11, 12, 29)


def acts() -> list[dict[str, object]]:
    """Return acts of some users on some items."""
    return [
        {
            "type": "view" if number % 3 else "cart",
            "user_id": f"u{number % 5}",
            "item_id": f"i{number * 7 % 6}",
            "event_id": f"e{number}",
        }
        for number in range(30)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with acts of which four were taken back, and a slate between them."""
    place: Path = tmp_path_factory.mktemp("shop")
    (place / "midstream.toml").write_text(TOML + SMALL_LIMITS)
    with midstream.open(place) as shop:
        for number, each in enumerate(acts()):
            shop.record(each)
            if number in {8, 20}:
                shop.recommend(user_id="u1")
        assert shop.retract(f"e{GONE[0]}", "u4").retracted == 1
        with pytest.raises(ActUnknown):
            shop.retract(f"e{GONE[1]}", "u4")

    async def work(running: Instance) -> None:
        for number in GONE[1:]:
            assert (await running.engine.retractor.by_id(f"e{number}")).retracted == 1

    run_folder(place, work)
    return place


def acts_in(log: LogView) -> dict[str, int]:
    """Return the log positions of acts by their event ids."""
    found: dict[str, int] = {}
    position = 0
    for batch in log.batches():
        for row in range(len(batch)):
            event = event_at(batch, row)
            if event.kind == Kind.INTERACTION:
                found[event.event_id] = position + row
        position += len(batch)
    return found


def values(folder: Path, position: int, *, as_served: bool = False) -> np.ndarray:
    """Return the features of each item for a user as of a log position."""
    past = Past(folder, config_of(folder))
    cursor = past.cursor(LogPosition(position), as_served=as_served)
    cursor.to_position(LogPosition(position))
    fold = cursor.fold
    items = tuple(f"i{number}" for number in range(6))
    query = Query("q", "default", "u1", None, 6, TimestampMs(fold.log_time_ms), 1)
    (answer,) = as_of(cursor, [PointInTimeQuestion(query, items, LogPosition(position))], past.reader(past.block()))
    return np.nan_to_num(answer.values)


def test_what_reads_the_past_does_without_them(folder: Path, tmp_path: Path) -> None:
    """While they wait for a rebuild, and after it; what was served is compared with what was known then."""
    log = LogView(folder)
    positions = acts_in(log)
    gone = sorted(positions[f"e{number}"] for number in GONE)
    assert log.acts_taken_back.tolist() == gone

    file = tmp_path / "all.ndjson"
    summary = export_events(folder, config_of(folder), file)
    assert summary.taken_back == 4
    other = tmp_path / "other"
    other.mkdir()
    (other / "midstream.toml").write_text(TOML + SMALL_LIMITS)
    assert import_file(other, config_of(other), file).rejected == 0
    kept = acts_in(LogView(other))
    assert set(kept) == set(positions) - {f"e{number}" for number in GONE}
    assert "retraction" not in file.read_text()

    config = config_of(folder)
    model = next(each for each in config.models if each.name == "liked")

    def histories(place: Path) -> tuple[list[list[tuple[int, int]]], dict[str, int]]:
        found = acts_of(Fitting(place, config, "liked", 1), model, LogView(place), QUIET)
        return [sorted(zip(found.owner.tolist(), found.item.tolist(), strict=True))], dict(found.left_out)

    before = histories(folder)
    assert before[1].get("taken_back") == 4

    end = int(log.end)
    waiting = values(folder, end)
    served = values(folder, end, as_served=True)
    assert (served.sum(axis=0) >= waiting.sum(axis=0)).all()
    assert served.sum() > waiting.sum()
    rebuild.rebuild(folder, config)
    assert (values(folder, end) == waiting).all()
    assert (values(folder, end, as_served=True) == waiting).all()
    assert histories(folder)[0] == before[0]
    views = state_of(folder, config, LogView(folder)).fold
    assert not len(views.vocabulary.retractions)
