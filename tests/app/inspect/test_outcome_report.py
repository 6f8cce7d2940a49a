"""The report says what came of real answers, from the folder alone, and the metrics of the engine say the same."""

import os
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import msgspec
import pytest

from midstream.app.config.schema import Config, Placement
from midstream.app.inspect.outcome_report import OutcomeReport, feature_table, live_columns, report_of, report_table
from midstream.app.opening import open_shop
from midstream.app.server_address import Address, publish
from midstream.engine.types import LiveColumn
from midstream.features.kinds.kinds import Count

ITEMS = [f"lamp-{number}" for number in range(12)]


@pytest.fixture
def used(tmp_path):
    """Serve two slates, see three items of the first, click one of them twice and another not; return folder, text."""
    with open_shop(tmp_path, Config()) as shop:
        shop.record([{"type": "view", "user_id": "eve", "item_id": item} for item in ITEMS])
        first = shop.recommend(user_id="ann", n=5, deadline_ms=5_000)
        shop.recommend(user_id="bob", n=4, deadline_ms=5_000)
        named = {"user_id": "ann", "request_id": first.request_id}
        seen = [each.id for each in first.items[:3]]
        shop.record([{"type": "impression", "item_id": item, **named} for item in seen])
        shop.record([{"type": "click", "event_id": f"c-{turn}", "item_id": seen[0], **named} for turn in (1, 2)])
        shop.record([{"type": "click", "item_id": "not-there", **named}, {"type": "view", "item_id": seen[1], **named}])
        engine = shop.running.engine
        engine.refresh_metrics()
        text = engine.metrics.text().decode()
    return tmp_path, text


def test_a_report_counts_slates_what_was_seen_and_each_action_once(used):
    """Of the folder as it was left, no server running."""
    report = report_of(used[0], Config())
    (row,) = report.rows
    assert (row.placement, row.tier, row.plan) == ("default", "full", Config().config_hash)
    assert (row.slates, row.positions, row.impressions) == (2, 9, 3)
    assert Counter(row.acted) == Counter(click=1, view=1)
    assert row.rates == {"cart": 0, "click": 1 / 3, "dismiss": 0, "purchase": 0, "view": 1 / 3}
    assert report.outcomes["outcome_joined"] == 6
    assert report.outcomes["outcome_elsewhere"] == 1
    assert (report.held, report.waiting) == (2, 0)


def test_people_get_percent_of_the_actions_that_came(used):
    """Columns of nothing but 0 are left out; the plan is told by its first digits."""
    columns, rows = report_table(report_of(used[0], Config()))
    assert columns == ("placement", "tier", "plan", "slates", "positions", "impressions", "click", "view")
    assert rows == [("default", "full", Config().config_hash[:8], 2, 9, 3, "33.33%", "33.33%")]


def test_metrics_say_the_same(used):
    """As counters, whose sums are those of the state."""
    labels = f'placement="default",plan="{Config().config_hash[:8]}",tier="full"'
    for line in (
        f"midstream_outcome_slates_total{{{labels}}} 2.0",
        f"midstream_outcome_positions_total{{{labels}}} 9.0",
        f"midstream_outcome_impressions_total{{{labels}}} 3.0",
        f'midstream_outcome_acted_total{{action="click",{labels}}} 1.0',
        f'midstream_outcome_acted_total{{action="purchase",{labels}}} 0.0',
        'midstream_fold_counts_total{reason="outcome_joined"} 6.0',
    ):
        assert line in used[1].splitlines()


def test_an_empty_folder_has_an_empty_report(tmp_path):
    """No log, no rows; without impressions there is no rate rather than 0."""
    report = report_of(tmp_path, Config())
    assert report.rows == ()
    assert list(report_table(report)[1]) == []
    with open_shop(tmp_path, Config()) as shop:
        shop.record([{"type": "view", "user_id": "eve", "item_id": item} for item in ITEMS])
        shop.recommend()
    (row,) = report_of(tmp_path, Config()).rows
    assert row.rates["click"] is None


def _live(psi, null_ratio=0.25):
    figures = {
        "null_ratio": null_ratio,
        "baseline_null_ratio": 0.25,
        "mean": 2.5,
        "deviation": 1.0,
        "quantiles": [1, 4],
        "distinct": 4,
    }
    return {"known": 3, **figures, "psi": psi, "ks": None, "ks_p_value": None}


class FakeServer(BaseHTTPRequestHandler):
    """Says of one feature what its two columns are like, and knows no other."""

    def do_GET(self):
        """Answer one request."""
        views = {"name": "views", "live": {"views_1h": _live(0.1), "views_1d": _live(0.5)}}
        said = {"/v1/features/views": views, "/health/live": {"status": "live", "log": "shop", "pid": os.getpid()}}
        found = self.path in said
        body = msgspec.json.encode(said.get(self.path))
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(body if found else b"{}")

    def log_message(self, *_):
        """Print nothing."""


def test_what_became_unknown_is_listed_among_what_drifted():
    """The change of the share without a value counts as the index does: a column that is all null now comes first."""
    live = {"a": _live(0.3), "same": _live(0.0), "gone": _live(None, 1.0), "new": _live(None), "fewer": _live(0.1, 0.6)}
    live["new"]["baseline_null_ratio"] = None
    report = OutcomeReport((), {}, 0, 0, msgspec.convert(live, dict[str, LiveColumn]))
    assert [row[0] for row in feature_table(report)[1]] == ["gone", "fewer", "a", "new", "same"]


def test_without_a_baseline_what_is_unknown_most_comes_first():
    """There is nothing else to order by."""
    live = {"a": _live(None, 0.1), "b": _live(None, 0.9), "c": _live(None, 0.5)}
    for each in live.values():
        each["baseline_null_ratio"] = None
    report = OutcomeReport((), {}, 0, 0, msgspec.convert(live, dict[str, LiveColumn]))
    assert [row[0] for row in feature_table(report)[1]] == ["b", "c", "a"]


def test_a_running_server_says_how_far_features_drifted(tmp_path):
    """Of the features that placements read, what drifted most first; without a server nothing is said."""
    (tmp_path / "data").mkdir()
    features = tuple(Count(name=name, actions=("view",)) for name in ("views", "gone", "unread"))
    config = Config(features=features, placements=(Placement(features=("views", "gone")),))
    assert live_columns(tmp_path, config) == {}
    server = HTTPServer(("127.0.0.1", 0), FakeServer)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        publish(tmp_path / "data", Address(f"http://127.0.0.1:{server.server_port}", "shop", os.getpid()))
        found = live_columns(tmp_path, config)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert list(found) == ["views_1h", "views_1d"]
    names, rows = feature_table(replace(report_of(tmp_path, config), features=found))
    assert names[0] == "feature"
    assert rows == [
        ("views_1d", 3, "0.25", "2.5", "1", "0.5", "–"),
        ("views_1h", 3, "0.25", "2.5", "1", "0.1", "–"),
    ]
    assert live_columns(tmp_path, config) == {}
