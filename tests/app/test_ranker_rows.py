"""Which positions of slates a ranker learns from: those that were seen, once it is known what came of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import config_of
from midstream.app.point_in_time.lookup import Past
from midstream.app.point_in_time.served_requests import ServedRange
from midstream.app.training.fit import Fitting, Trained, fit_and_publish, model_named, question_of
from midstream.app.training.ranker_data import Newest, RankerQuestion, RankerRows, ranker_rows, rows_of_batch
from midstream.core.errors import Invalid
from midstream.models.model import QUIET
from midstream.models.rows.examples import Examples
from tests.app.timed import BEGIN_MS, HOUR_MS, timed_shop

TOML = """
[feedback]
window = "2h"
reward = { click = 1.0 }

[[features]]
name = "views"
kind = "count"
scope = "item"
actions = ["view"]

[[placements]]
name = "home"
features = ["views"]

[[models]]
name = "clicks"
kind = "ftrl"
placement = "home"
validation = 0.5
"""
SEEN, UNSEEN = "slates_without_an_impression", "positions_without_an_impression"
YOUNG = "slates_younger_than_the_outcome_window"


def fill(folder: Path, slates: int, *, seen: bool = False, dark: int = 0, end_ms: int = 2 * HOUR_MS) -> list[list[str]]:
    """Serve a slate of four an hour, of which the last is clicked; return the items of each.

    With ``seen`` the first two are told to be seen, but of the last ``dark`` slates none.
    """
    (folder / "midstream.toml").write_text(TOML)
    served: list[list[str]] = []
    with timed_shop(folder) as timed:
        shop = timed.shop
        shop.record([{"type": "view", "user_id": f"u{each % 3}", "item_id": f"i{each}"} for each in range(12)])
        for number in range(slates):
            answer = shop.recommend(placement="home", user_id="ann", n=4)
            served.append([each.id for each in answer.items])
            told = {"user_id": "ann", "request_id": answer.request_id}
            if seen and number < slates - dark:
                items = [{"item_id": each, "position": at} for at, each in enumerate(served[-1][:2])]
                shop.record([{"type": "impression", **told, "items": items}])
            shop.record([{"type": "click", **told, "item_id": served[-1][3]}])
            timed.wait(HOUR_MS)
        timed.wait(end_ms - HOUR_MS)
        shop.record([{"type": "view", "user_id": "bob", "item_id": "i0"}])
    return served


def rows_of(folder: Path) -> RankerRows:
    """Return what the model of the folder learns from."""
    config = config_of(folder)
    asked = question_of(Fitting(folder, config, "clicks", made_ms=1), model_named(config, "clicks"), LogView(folder))
    return ranker_rows(Past(folder, config), asked)


def fitted(folder: Path) -> Trained:
    """Fit the model of the folder here."""
    return fit_and_publish(Fitting(folder, config_of(folder), "clicks", made_ms=1), QUIET)


def test_without_impressions_every_position_is_a_row(tmp_path: Path) -> None:
    """Nobody says what was seen, so what was not clicked was passed over."""
    fill(tmp_path, 3)
    found = rows_of(tmp_path)
    assert found.examples.request_sizes.tolist() == [4, 4, 4]
    assert found.examples.label.tolist() == [0.0, 0.0, 0.0, 1.0] * 3
    assert found.examples.weight.tolist() == [1.0] * 12
    assert found.examples.owner is not None
    assert len(set(found.examples.owner.tolist())) == 1, "all are of one user"
    assert found.left_out == {}


def test_requests_of_nobody_are_of_as_many(tmp_path: Path) -> None:
    """Wherever the parts end in which they are read; those of a user are one's in all parts."""
    bounds = ServedRange()
    asked = RankerQuestion(tmp_path, "home", (), bounds, rows_max=10, place=tmp_path)
    newest = Newest((), 10)
    for part, users in enumerate(((None, "ann"), (None, "ann"))):
        columns: dict[str, Any] = {
            "time": [1, 2],
            "placement": ["home"] * 2,
            "log_position": [2 * part, 2 * part + 1],
            "user_id": users,
            "impression": [True] * 2,
            "acted_after_ms": pa.array([None, 1], pa.int64()),
            "reward": [0.0, 1.0],
            "position": [0, 0],
            "propensity": [1.0, 1.0],
        }
        newest.add(rows_of_batch(pa.RecordBatch.from_pydict(columns), asked).examples)
    owner = newest.examples().owner
    assert owner is not None
    first, ann, second, again = owner.tolist()
    assert ann == again
    assert len({first, ann, second}) == 3


def test_what_was_not_seen_is_no_negative(tmp_path: Path) -> None:
    """Two were seen and one, further down, was clicked, so it was seen too; the third place was not."""
    fill(tmp_path, 3, seen=True)
    found = rows_of(tmp_path)
    assert found.examples.request_sizes.tolist() == [3, 3, 3]
    assert found.examples.position.tolist() == [0, 1, 3] * 3
    assert found.examples.label.tolist() == [0.0, 0.0, 1.0] * 3
    assert found.examples.weight.tolist() == [1.0] * 9
    assert found.left_out == {UNSEEN: 3}


def test_a_slate_of_which_no_impression_came_gives_no_rows(tmp_path: Path) -> None:
    """Its click alone would be a slate on which everything was clicked."""
    fill(tmp_path, 3, seen=True, dark=1)
    found = rows_of(tmp_path)
    assert found.examples.request_sizes.tolist() == [3, 3]
    assert found.left_out == {SEEN: 1, UNSEEN: 2}
    assert fitted(tmp_path).left_out == found.left_out


def test_a_slate_is_learned_from_when_its_window_is_over(tmp_path: Path) -> None:
    """The log ends two hours after the third of five; in the others a click may still come."""
    fill(tmp_path, 5, end_ms=0)
    assert rows_of(tmp_path).left_out == {YOUNG: 2}
    found = rows_of(tmp_path).examples
    assert found.time_ms.tolist() == [BEGIN_MS + hour * HOUR_MS for hour in range(3)]
    assert found.label.tolist() == [0.0, 0.0, 0.0, 1.0] * 3


def test_a_log_of_young_slates_is_said_to_be_one(tmp_path: Path) -> None:
    """Rows without an outcome are not taken for rows of which none came."""
    fill(tmp_path, 2, end_ms=HOUR_MS // 2)
    with pytest.raises(Invalid, match=f"(?s){YOUNG}.: 2.*older than feedback.window"):
        fitted(tmp_path)


def test_what_is_judged_was_not_known_when_the_last_was_learned(tmp_path: Path) -> None:
    """Of ten slates an hour apart the last five judge; of the two hours before them nothing is learned but at their
    begin.
    """
    fill(tmp_path, 10)
    metrics = fitted(tmp_path).metrics
    assert (metrics["requests"], metrics["gap_requests"]) == (5.0, 1.0)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=20), st.floats(0, 1), st.integers(0, 12), st.integers(0, 2**20)
)
def test_between_the_parts_is_the_gap(times: list[int], share: float, gap: int, seed: int) -> None:
    """Nothing earlier is nearer to the first of the later ones than the gap, and only what is nearer is left out."""
    sizes = np.random.default_rng(seed).integers(1, 4, len(times))
    count = int(sizes.sum())
    rows = Examples(
        ("x",),
        np.arange(count, dtype=np.float32)[:, None],
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.zeros(count, dtype=np.float32),
        time_ms=np.array(times, dtype=np.int64),
        weight=np.ones(count, dtype=np.float32),
        position=np.full(count, -1, dtype=np.int32),
        propensity=np.full(count, np.nan, dtype=np.float32),
    )
    earlier, later = rows.split(share, gap)
    plain = rows.split(share)
    assert later.values.tolist() == plain[1].values.tolist()
    if not len(later):
        assert earlier.time_ms.tolist() == sorted(times)
        return
    first = int(later.time_ms.min())
    kept = plain[0].time_ms <= first - gap
    assert earlier.time_ms.tolist() == plain[0].time_ms[kept].tolist()
    assert (earlier.time_ms < first).all()


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=4), max_size=6))
def test_rows_are_kept_in_their_requests(kept: list[list[bool]]) -> None:
    """In order; a request of which nothing is kept is gone."""
    flat = np.array([each for one in kept for each in one], dtype=np.bool_)
    count = len(flat)
    rows = Examples(
        ("x",),
        np.arange(count, dtype=np.float32)[:, None],
        np.concatenate([[0], np.cumsum([len(one) for one in kept])]).astype(np.int64),
        np.arange(count, dtype=np.float32),
        time_ms=np.arange(len(kept), dtype=np.int64),
        weight=np.ones(count, dtype=np.float32),
        position=np.arange(count, dtype=np.int32),
        propensity=np.full(count, np.nan, dtype=np.float32),
    )
    found = rows.where(flat)
    assert found.label.tolist() == np.flatnonzero(flat).tolist()
    assert found.position.tolist() == found.values[:, 0].tolist() == found.label.tolist()
    assert found.request_sizes.tolist() == [sum(one) for one in kept if any(one)]
    assert found.time_ms.tolist() == [number for number, one in enumerate(kept) if any(one)]
