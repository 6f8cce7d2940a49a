import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from midstream.monitoring.metrics import EVENT_OUTCOMES, Metrics


def read(metrics):
    """Return {(sample name, sorted labels): value} of the text a scraper would get."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


@given(st.lists(st.tuples(st.sampled_from(EVENT_OUTCOMES), st.integers(0, 500)), max_size=20))
def test_events_are_conserved(counted):
    """The sum over outcomes is the number of events counted, and each outcome is there from the start."""
    metrics = Metrics(CollectorRegistry())
    for outcome, count in counted:
        metrics.count_events(outcome, count)
    values = {k[1][0][1]: v for k, v in read(metrics).items() if k[0] == "midstream_events_total"}
    assert set(values) == set(EVENT_OUTCOMES)
    assert values == {name: sum(n for o, n in counted if o == name) for name in EVENT_OUTCOMES}


def test_two_engines_do_not_share_a_number():
    """Each registry has its own sums."""
    first, second = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    first.count_events("recorded", 5)
    assert read(first)["midstream_events_total", (("outcome", "recorded"),)] == 5
    assert read(second)["midstream_events_total", (("outcome", "recorded"),)] == 0


def test_fold_counts_are_sums_kept_elsewhere():
    """A sum that is set twice is the last one, not both together: a restart goes on where it was."""
    metrics = Metrics(CollectorRegistry())
    metrics.fold_counts.set({"late": 4, "future": 1})
    metrics.fold_counts.set({"late": 7})
    values = read(metrics)
    assert values["midstream_fold_counts_total", (("reason", "late"),)] == 7
    assert values["midstream_fold_counts_total", (("reason", "future"),)] == 1


@given(st.lists(st.floats(0, 20), min_size=1, max_size=30))
def test_every_request_falls_into_a_bucket(seconds):
    """Buckets are cumulative, the last holds every request, and status is counted beside them."""
    metrics = Metrics(CollectorRegistry())
    for each in seconds:
        metrics.observe_request("/v1/events", 200, each)
    values = read(metrics)
    buckets = [v for k, v in values.items() if k[0] == "midstream_request_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == len(seconds)
    assert values["midstream_requests_total", (("route", "/v1/events"), ("status", "200"))] == len(seconds)


def test_every_method_reaches_the_text():
    """What is handed in is in the scraped text, under the documented name."""
    metrics = Metrics(CollectorRegistry())
    before = read(metrics)
    metrics.count_dead_letters(3, lost=2)
    metrics.append_failures.labels("disk_full").inc()
    metrics.count_overload("events")
    metrics.set_queues(events=11, waiters=12)
    metrics.observe_commit(events=13, sync_seconds=0.002)
    metrics.turn_seconds.observe(0.0005)
    metrics.set_positions(log_position=20, applied_log_position=19)
    metrics.state_age.set(1.5)
    metrics.log_time_ahead.set(7.0)
    metrics.dedupe_span.set(3600.0)
    metrics.fetch_cache_rows.set(21)
    metrics.fetch_cache_age.set(2.5)
    metrics.set_table_bytes("items", 100, 200)
    metrics.observe_answer("home", "full", 5)
    metrics.failures.of("session_knn").inc()
    metrics.observe_snapshot(good=True, seconds=4.0)
    metrics.observe_snapshot(good=False, seconds=6.0)
    metrics.snapshot_mismatches.inc()
    metrics.count_parity(9, 2)
    metrics.set_snapshot(age_seconds=60.0, log_position=18)
    metrics.set_health(ready=True, accepts_events=False)
    metrics.set_versions("0.1.0", "abc", "def")
    changed = {k: v for k, v in read(metrics).items() if before.get(k) != v and "_created" not in k[0]}
    flat = {name + "".join(f" {v}" for _, v in labels): value for (name, labels), value in changed.items()}
    expected = {
        "midstream_dead_letters_total": 3,
        "midstream_dead_letters_lost_total": 2,
        "midstream_append_failures_total disk_full": 1,
        "midstream_overloads_total events": 1,
        "midstream_queued_events": 11,
        "midstream_log_position_waiters": 12,
        "midstream_commit_events_sum": 13,
        "midstream_sync_seconds_sum": 0.002,
        "midstream_fold_turn_seconds_sum": 0.0005,
        "midstream_log_position": 20,
        "midstream_applied_log_position": 19,
        "midstream_state_age_seconds": 1.5,
        "midstream_log_time_ahead_seconds": 7.0,
        "midstream_dedupe_span_seconds": 3600,
        "midstream_fetch_cache_rows": 21,
        "midstream_fetch_cache_age_seconds": 2.5,
        "midstream_table_bytes items": 100,
        "midstream_table_bytes_max items": 200,
        "midstream_answers_total home full": 1,
        "midstream_slate_items_sum home": 5,
        "midstream_part_failures_total session_knn": 1,
        "midstream_snapshots_total written": 1,
        "midstream_snapshots_total failed": 1,
        "midstream_snapshot_seconds": 6,
        "midstream_snapshot_mismatches_total": 1,
        "midstream_feature_parity_compared_total": 9,
        "midstream_feature_parity_mismatched_total": 2,
        "midstream_snapshot_age_seconds": 60,
        "midstream_snapshot_log_position": 18,
        "midstream_ready": 1,
    }
    assert expected.items() <= flat.items()


def test_names_are_those_of_the_text():
    """``names`` lists what a scraper sees, which the test of the documentation relies on."""
    metrics = Metrics(CollectorRegistry())
    text = metrics.text().decode()
    for name in metrics.names():
        assert f"# HELP {name}" in text or f"# HELP {name}_info" in text


@pytest.mark.parametrize(
    "name", ["answers_total", "slate_items_count", "rule_actions_total", "feature_read_seconds_count"]
)
def test_series_of_placements_are_bounded(monkeypatch, name):
    """Placements and rules that are set while it runs replace those that were not counted in for longest."""
    monkeypatch.setattr("midstream.monitoring.metrics._PLACEMENTS_MAX", 4)
    monkeypatch.setattr("midstream.monitoring.metrics._TIERS", 1)
    monkeypatch.setattr("midstream.monitoring.metrics._RULES_MAX", 4)
    metrics = Metrics(CollectorRegistry())
    for each in ("p0", *(f"p{number}" for number in range(4)), "p0", *(f"p{number}" for number in range(4, 7))):
        metrics.observe_answer(each, "full", 5)
        metrics.rules.of(each, "cap").count += 1
        metrics.feature_reads.of(each).observe(0.001)
    found = {dict(labels)["placement"]: n for (each, labels), n in read(metrics).items() if each == f"midstream_{name}"}
    assert found == {"p0": 3, "p4": 1, "p5": 1, "p6": 1}


@pytest.mark.parametrize(
    "name, last", [("part_failures_total", 3), ("part_overruns_total", 3), ("part_benched", 1)], ids=str
)
def test_series_of_parts_are_bounded(monkeypatch, name, last):
    """Parts of placements that are set while it runs replace those of which nothing was said for longest."""
    monkeypatch.setattr("midstream.monitoring.metrics._PARTS_MAX", 4)
    metrics = Metrics(CollectorRegistry())
    for each in ("p0", *(f"p{number}" for number in range(4)), "p0", *(f"p{number}" for number in range(4, 7))):
        metrics.failures.of(each).inc()
        metrics.overruns.of(each).inc()
        metrics.benched.of("home", each).set(True)
    found = {dict(labels)["part"]: n for (each, labels), n in read(metrics).items() if each == f"midstream_{name}"}
    assert found == {"p0": last, "p4": 1, "p5": 1, "p6": 1}
