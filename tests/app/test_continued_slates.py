"""Slates that continue another, and copies of served records, in every reader of what was served."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import midstream
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import config_of
from midstream.app.point_in_time.api import LookupRequest, write_answers
from midstream.app.point_in_time.lookup import AsOfOptions, LookupRows, Past
from midstream.app.point_in_time.parity import CheckOptions, check_features
from midstream.app.point_in_time.served_examples import Unjoined, _joined, write_served_examples
from midstream.app.training.fit import Fitting, fit_and_publish, model_named, question_of
from midstream.app.training.ranker_data import RankerRows, ranker_rows
from midstream.core.kinds import Kind
from midstream.events.schema import build, event_at
from midstream.models.model import QUIET
from tests.app.timed import HOUR_MS, TimedShop, timed_shop
from tests.support.patience import wait_until

TOML = """
[feedback]
window = "1h"
reward = { click = 1.0 }

[[features]]
name = "views"
kind = "count"
scope = "item"
actions = ["view"]

[[features]]
name = "place"
kind = "position"

[[placements]]
name = "home"
features = ["views", "place"]
log_features = 1.0

[[placements]]
name = "other"

[[models]]
name = "clicks"
kind = "ftrl"
placement = "home"
validation = 0.3
"""
PAGES, EACH = 4, 4


@pytest.fixture(scope="module")
def scrolled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A shop in which somebody reads on through four pages and clicks on each, and what was clicked by request."""
    folder = tmp_path_factory.mktemp("scrolled")
    (folder / "midstream.toml").write_text(TOML)
    clicked: dict[str, str] = {}
    with timed_shop(folder) as timed:
        shop = timed.shop
        shop.record([{"type": "view", "user_id": f"u{each % 7}", "item_id": f"i{each}"} for each in range(24)])
        shop.recommend(placement="other", user_id="ann", n=3)
        answer = shop.recommend(placement="home", user_id="ann", n=EACH, cursor=True)
        for page in range(PAGES):
            clicked[answer.request_id] = answer.items[page % EACH].id
            timed.wait(HOUR_MS // 60)
            if page < PAGES - 1:
                answer = shop.recommend(cursor=answer.cursor, n=EACH)
        for request_id, item in clicked.items():
            shop.record([{"type": "click", "user_id": "ann", "item_id": item, "request_id": request_id}])
        settled(timed, PAGES + 1)
        timed.wait(2 * HOUR_MS)
        shop.record([{"type": "view", "user_id": "bob", "item_id": "i0"}])
    return folder, clicked


@pytest.fixture
def folder(scrolled: tuple[Path, dict[str, str]], tmp_path: Path) -> Path:
    """A copy of that shop."""
    return Path(shutil.copytree(scrolled[0], tmp_path / "shop"))


def settled(timed: TimedShop, slates: int) -> None:
    """Wait until so many served records are in the log: they are written after their answers."""
    engine = timed.shop.running.engine
    wait_until(lambda: len(engine.fold.outcomes) >= slates)


def rows_of(folder: Path) -> RankerRows:
    """Return what the model of the folder learns from."""
    config = config_of(folder)
    asked = question_of(Fitting(folder, config, "clicks", made_ms=1), model_named(config, "clicks"), LogView(folder))
    return ranker_rows(Past(folder, config), asked)


def test_every_page_gives_examples(folder: Path, scrolled: tuple[Path, dict[str, str]]) -> None:
    """Positions go on through the pages, in the column and in the feature, and each click is its own item's."""
    summary = write_served_examples(folder, "..", folder / "examples.parquet")
    rows = [row for row in pq.read_table(folder / "examples.parquet").to_pylist() if row["placement"] == "home"]
    assert [row["position"] for row in rows] == list(range(PAGES * EACH)) == [row["place"] for row in rows]
    assert {row["request_id"]: row["item_id"] for row in rows if row["outcome_click"]} == scrolled[1]
    assert summary.left_out == {}
    served = midstream.features_of_served(folder).to_pylist()
    assert [row["position"] for row in served if row["placement"] == "home"] == list(range(PAGES * EACH))


def test_a_ranker_learns_from_every_page(folder: Path) -> None:
    """Four requests with a click each; only slates of its placement are asked about."""
    found = rows_of(folder)
    assert found.examples.request_sizes.tolist() == [EACH] * PAGES
    assert found.examples.position.tolist() == list(range(PAGES * EACH))
    assert found.examples.label.reshape(PAGES, EACH).sum(axis=1).tolist() == [1.0] * PAGES
    assert found.left_out == {}


def copy_slates(folder: Path, numbers: tuple[int, ...]) -> list[int]:
    """Append copies of some of the served records, by their place among these; return where the originals stand."""
    log = LogView(folder)
    events = [event_at(batch, row) for batch in log.batches() for row in range(len(batch))]
    places = [position for position, event in enumerate(events) if event.kind == Kind.SERVED]
    copies = build(tuple(events[places[number]] for number in numbers))
    with timed_shop(folder, events[-1].log_time_ms) as timed:
        engine = timed.shop.running.engine

        async def copy() -> None:
            engine.record_served(copies)
            engine.flush_served()

        timed.shop._wait(copy)
        wait_until(lambda: engine.fold.log_position >= log.end + len(numbers))
    return places


def test_a_copy_of_a_served_record_ends_no_reader(folder: Path) -> None:
    """It is counted and passed by in examples, in features as of then in both orders, and in a training."""
    before = write_served_examples(folder, "..", folder / "before.parquet")
    known = midstream.features_of_served(folder).to_pylist()
    report, rows = check_features(folder, CheckOptions()), rows_of(folder).examples
    copy_slates(folder, (2, 1, 2))
    after = write_served_examples(folder, "..", folder / "after.parquet")
    assert pq.read_table(folder / "after.parquet").equals(pq.read_table(folder / "before.parquet"))
    assert (after.rows, after.left_out) == (before.rows, {"copies_of_slates": 3})
    assert repr(midstream.features_of_served(folder).to_pylist()) == repr(known)
    for is_input in (True, False):
        options = AsOfOptions(in_input_order=is_input)
        found = write_answers(folder, LookupRequest(None, "..", folder / "as_of.parquet", None, None, options))
        assert (found.rows, found.served and found.served.again) == (len(known), 3)
    assert check_features(folder, CheckOptions()).slates == report.slates
    learned = rows_of(folder)
    assert learned.left_out == {"copies_of_slates": 3}
    assert learned.examples.values.tobytes() == rows.values.tobytes()
    assert fit_and_publish(Fitting(folder, config_of(folder), "clicks", made_ms=1), QUIET).left_out == learned.left_out


def test_copies_that_came_in_another_order_come_out_in_that_of_the_log(folder: Path) -> None:
    """Of a range that begins behind the originals one copy of each is asked about; nobody knows what came of it."""
    places = copy_slates(folder, (2, 1, 2))
    bounds = f"{places[2] + 1}.."
    table = midstream.features_of_served(folder, bounds)
    asked = table.column("served_position").to_numpy()[::EACH].tolist()
    assert asked[2:] == sorted(asked[2:])
    assert len(asked) == 4
    assert (np.diff(table.column("row").to_numpy()) >= 0).all()
    summary = write_served_examples(folder, bounds, folder / "some.parquet")
    assert summary.left_out == {"copies_of_slates": 1, "positions_without_outcomes": 2 * EACH}
    assert summary.rows == 2 * EACH


def table_of(**columns: list[Any]) -> pa.RecordBatch:
    """Return a batch of columns."""
    return pa.RecordBatch.from_pydict(columns)


def test_what_finds_no_partner_is_counted_by_why() -> None:
    """A position without features, others without outcomes; a slate that was not asked about is counted elsewhere."""
    outcomes = [
        table_of(log_position=[3, 3, 5], position=[0, 1, 0], reward=[1.0, 2.0, 3.0]),
        table_of(log_position=[9, 9], position=[4, 5], reward=[4.0, 5.0]),
    ]
    features = [
        table_of(served_position=[3, 3, 9], position=[0, 2, 4], x=[0.1, 0.2, 0.3]),
        table_of(served_position=[11, 11], position=[0, 1], x=[0.4, 0.5]),
    ]
    answers, unjoined = LookupRows(features[0].schema, iter(features)), Unjoined()
    schema = pa.schema([*outcomes[0].schema, features[0].schema.field("x")])
    rows = [row for batch in _joined(answers, iter(outcomes), schema, unjoined) for row in batch.to_pylist()]
    assert [(row["log_position"], row["position"], row["x"]) for row in rows] == [(3, 0, 0.1), (9, 4, 0.3)]
    assert (unjoined.features, unjoined.outcomes) == (2, 3)
