"""Examples: each served position with its features as of then and what came of it."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import midstream
from midstream.app.inspect.feature_views import show_feature
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import config_of, open_shop
from midstream.app.point_in_time.parity import CheckOptions, check_features
from midstream.app.point_in_time.replay_examples import ReplayWanted, write_replay_examples
from midstream.app.point_in_time.served_examples import write_served_examples
from midstream.core.errors import FeatureFailed, Invalid
from midstream.evaluation.metrics.feature_statistics import read_statistics, statistics_of
from midstream.events.schema import event_at
from midstream.features.readers.item_inputs import ItemDifference

TOML = """
[feedback]
reward = { click = 1.0, purchase = 5.0 }

[[features]]
name = "mine"
kind = "count"
scope = "user"
actions = ["view", "click"]

[[features]]
name = "place"
kind = "position"

[[features]]
name = "apart"
kind = "diversity"
attribute = "price"

[[placements]]
name = "home"
features = ["mine", "place", "apart"]
log_features = 1.0

[items.attributes]
price = "number"

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
    """A folder in which users act, ask, and click on what they got, some of it late."""
    (tmp_path / "midstream.toml").write_text(TOML)
    rng = np.random.default_rng(6)
    clicked = {}
    with open_shop(tmp_path) as shop:
        for each in range(20):
            price = {"price": float(each * each)}
            shop.record([{"type": "item", "item_id": f"i{each}", "operation": "put", "attributes": price}])
        for turn in range(12):
            acts = [
                {"type": "view", "user_id": f"u{rng.integers(4)}", "item_id": f"i{rng.integers(20)}"} for _ in range(5)
            ]
            shop.record(acts)
            answer = shop.recommend(placement="home", user_id=f"u{rng.integers(4)}", n=4)
            if turn % 2:
                clicked[answer.request_id] = answer.items[turn % 4].id
        for request_id, item in clicked.items():
            shop.record([{"type": "click", "user_id": "u1", "item_id": item, "request_id": request_id}])
    return tmp_path, clicked


def test_examples_have_features_and_outcomes(folder):
    """A row for each position, with the features that a request saw, its place, and the reward of what came later."""
    place, clicked = folder
    out = place / "examples.parquet"
    summary = write_served_examples(place, "..", out)
    rows = pq.read_table(out).to_pylist()
    assert summary.rows == len(rows) == 48
    for row in rows:
        is_clicked = clicked.get(row["request_id"]) == row["item_id"]
        assert (row["outcome_click"], row["reward"]) == (is_clicked, 1.0 if is_clicked else 0.0)
        assert row["place"] == row["position"]
    seen = midstream.features_of_served(place).to_pylist()
    right = {(each["request_id"], each["item_id"]): each["mine"] for each in seen}
    np.testing.assert_array_equal(
        [row["mine"] for row in rows], [right[row["request_id"], row["item_id"]] for row in rows]
    )
    assert sum(row["outcome_click"] for row in rows) == 6


def test_examples_of_a_range(folder):
    """Half open, by the log position of the served record."""
    place, _ = folder
    out = place / "examples.arrow"
    places = np.unique(midstream.features_of_served(place).column("served_position").to_numpy()).tolist()
    assert write_served_examples(place, f"{places[2]}..{places[5]}", out).rows == 12


def test_a_replay_has_a_group_for_each_act_that_was_among_the_candidates(folder):
    """One label a group, the item that was acted on; features are those before the act; the rest is counted."""
    place, _ = folder
    out = place / "replay.parquet"
    counts = write_replay_examples(place, ReplayWanted("home", candidates_max=5), out)
    table = pq.read_table(out)
    rows = table.to_pylist()
    groups: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    assert (len(rows), len(groups)) == (counts.rows, counts.groups)
    assert counts.acts == 12 * 5 + 6 > counts.groups > 20
    log = LogView(place)
    for group in groups.values():
        assert len(group) <= 5
        ((first, batch), *_) = log.read(group[0]["log_position"], 1)
        event = event_at(batch, group[0]["log_position"] - first)
        assert [row["item_id"] for row in group if row["label"]] == [event.item_id]
        assert len({row["item_id"] for row in group}) == len(group)
    asked = table.select(["log_position", "time", "user_id", "session_id", "item_id"])
    again = midstream.features_as_of(place, asked, features=["mine"])
    np.testing.assert_array_equal(again.column("mine").to_numpy(), table.column("mine").to_numpy())


def test_a_replay_is_bounded_and_draws_by_its_seed(folder):
    """The same seed gives the same rows, another one others; it ends after so many groups."""
    place, _ = folder

    def drawn(seed):
        wanted = ReplayWanted("home", candidates_max=3, groups_max=8, seed=seed)
        assert write_replay_examples(place, wanted, place / "some.parquet").groups == 8
        return pq.read_table(place / "some.parquet").column("item_id").to_pylist()

    assert drawn(1) == drawn(1) != drawn(2)
    with pytest.raises(Invalid, match="Nearest"):
        write_replay_examples(place, ReplayWanted("home", labels=("clik",)), place / "some.parquet")


def test_a_replay_leaves_out_what_would_tell_what_was_on_screen(folder):
    """Features over impressions, and sources whose models learned these acts: each is named, and none is a column."""
    place, _ = folder
    shown = '[[features]]\nname = "shown"\nkind = "count"\nscope = "user_item"\nactions = ["impression"]\n'
    model = '[[models]]\nname = "taste"\nkind = "popular"\n'
    sources = 'name = "home"\nsources = [{ kind = "als", model = "taste" }, { kind = "trending" }]'
    (place / "midstream.toml").write_text(shown + model + TOML.replace('name = "home"', sources))
    with open_shop(place) as shop:
        items = [{"item_id": f"i{each}"} for each in range(3)]
        shop.record([{"type": "impression", "user_id": "u1", "items": items}])
        shop.record([{"type": "click", "user_id": "u1", "item_id": "i1"}])
    counts = write_replay_examples(place, ReplayWanted("home"), place / "replay.parquet")
    assert (counts.features, counts.sources) == (("shown",), ("als",))
    names = pq.read_table(place / "replay.parquet").column_names
    own = ["mine", "place", "apart", "score.trending", "score.popular", "rank.trending", "rank.popular"]
    assert names[names.index("blend.place") + 1 :] == own
    assert counts.failures == 0
    write_served_examples(place, "..", place / "served.parquet")
    assert "shown" in pq.read_table(place / "served.parquet").column_names


def test_what_cannot_be_read_again_is_what_was_kept(folder):
    """A diversity depends on candidates that nobody keeps: as it was served, missing where nothing was kept."""
    place, _ = folder
    summary = write_served_examples(place, "..", place / "kept.parquet")
    assert summary.as_logged == ("apart",)
    rows = pq.read_table(place / "kept.parquet").to_pylist()
    served = midstream.features_of_served(place)
    right: dict[tuple[str, str], float] = {}
    with open_shop(place) as shop:
        for request_id in {row["request_id"] for row in rows}:
            record = shop.running.engine.served(request_id)
            assert record is not None
            assert record.features is not None
            kept = record.features.values[:, record.features.names.index("apart")]
            right |= {(request_id, item.id): value for item, value in zip(record.items, kept.tolist(), strict=True)}
    for table in (rows, served.to_pylist()):
        np.testing.assert_array_equal(
            [row["apart"] for row in table], [right[row["request_id"], row["item_id"]] for row in table]
        )
    assert np.nansum(served.column("apart").to_numpy()) > 0
    (place / "midstream.toml").write_text(TOML.replace("purchase = 5.0", "purchase = 6.0"))
    again = midstream.features_of_served(place)
    assert np.isnan(again.column("apart").to_numpy()).all()  # its name may mean another thing now
    np.testing.assert_array_equal(again.column("mine").to_numpy(), served.column("mine").to_numpy())


def test_erased_users_do_not_come_out(folder):
    """Before the log is rewritten as well: not with their slates, not with their acts; they are counted."""
    place, _ = folder
    before = midstream.features_of_served(place).to_pylist()
    theirs = {row["request_id"] for row in before if row["user_id"] == "u1"}
    assert theirs
    with open_shop(place) as shop:
        shop.erase("u1")
        shop.record([{"type": "view", "user_id": "u1", "item_id": "i3"}])
        answer = shop.recommend(placement="home", user_id="u1", n=2)
    after = {row["request_id"] for row in midstream.features_of_served(place).to_pylist()}
    assert after == {row["request_id"] for row in before} - theirs | {answer.request_id}  # which is a new start
    summary = write_served_examples(place, "..", place / "some.parquet")
    assert (summary.served.blanked, summary.served.asked) == (len(theirs), len(after))
    assert check_features(place, CheckOptions()).slates == len(after)
    counts = write_replay_examples(place, ReplayWanted("home"), place / "replay.parquet")
    rows = pq.read_table(place / "replay.parquet").to_pylist()
    end = max(row["log_position"] for row in rows)
    assert counts.erased > 0
    assert {row["log_position"] for row in rows if row["user_id"] == "u1"} <= {end}


def test_statistics_of_the_features_stand_beside(folder):
    """Of what was written, with and without replay."""
    place, _ = folder
    for name in ("served", "replayed"):
        out = place / f"{name}.parquet"
        if name == "served":
            write_served_examples(place, "..", out)
        else:
            write_replay_examples(place, ReplayWanted("home"), out)
        names = ("mine", "place", "apart")
        table = pq.read_table(out, columns=list(names))
        values = np.stack([each.to_numpy() for each in table.columns], axis=1)
        found = read_statistics(place / f"{name}.parquet.statistics.json")
        assert found == statistics_of(names, values)


def test_a_feature_that_raises_ends_what_nobody_waits_for(folder, monkeypatch):
    """No file is written and nothing is compared: the feature and the place in the log are told instead.

    The server goes on without it, names it, and what it served is compared but for that feature.
    """
    place, _ = folder

    def fails(_reader, moment, *_asked):
        message = f"seen at {moment.log_position}"
        raise ArithmeticError(message)

    with monkeypatch.context() as patch:
        patch.setattr(ItemDifference, "fill", fails)
        with open_shop(place) as shop:
            shop.recommend(placement="home", user_id="u1", n=4)
        out = place / "none.parquet"
        for call in (
            lambda: write_served_examples(place, "..", out),
            lambda: write_replay_examples(place, ReplayWanted("home"), out),
            lambda: midstream.features_of_served(place),
            lambda: show_feature(place, config_of(place), "apart"),
        ):
            with pytest.raises(FeatureFailed, match=r"log position \d+ .*features\.apart: ArithmeticError: seen at "):
                call()
            assert not list(place.glob("none*"))
        assert midstream.features_of_served(place, features=["mine"]).num_rows == 13 * 4
    report = check_features(place, CheckOptions())
    assert (report.slates, report.mismatched) == (13, 0)
    last = midstream.features_of_served(place).to_pylist()[-4:]
    assert all(np.isnan(each["apart"]) and not np.isnan(each["mine"]) for each in last)
