"""Live figures: differences of two readings, never of one, and never over a time at which nobody looked."""

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from midstream.monitoring.by_process import merged
from midstream.monitoring.input_gauges import InputState
from midstream.monitoring.metrics import Metrics
from midstream.serving.console.api_reader import ApiAnswer
from midstream.serving.console.engine_samples import SHOWN, TABLES_MS_MIN, EngineSamples, shown_samples
from midstream.serving.console.live_metrics import ONE_STATE, STALE_MS, LiveMetrics, quantile, read_samples
from midstream.serving.console.page_templates import Templates
from midstream.serving.console.routes import LiveView


class Readings:
    """A registry, a clock that is set by hand, and the figures of both."""

    def __init__(self):
        self.now_ms = 1_000
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "midstream_request_seconds", "x", ["route"], buckets=(0.001, 0.002, 0.004), registry=self.registry
        )
        self.requests = Counter("midstream_requests_total", "x", ["route", "status"], registry=self.registry)
        self.events = Counter("midstream_events_total", "x", ["outcome"], registry=self.registry)
        self.answers = Counter("midstream_answers_total", "x", ["placement", "tier"], registry=self.registry)
        self.bytes = Gauge("midstream_table_bytes", "x", ["table"], registry=self.registry)
        self.bytes_max = Gauge("midstream_table_bytes_max", "x", ["table"], registry=self.registry)
        self.live = LiveMetrics(lambda: self.now_ms)

    def read(self, after_ms=2_000):
        self.now_ms += after_ms
        return self.live.add(read_samples(generate_latest(self.registry).decode()))


@pytest.fixture
def readings():
    return Readings()


def test_the_first_reading_has_no_rates(readings):
    """What was counted before it may be of last week."""
    readings.events.labels("recorded").inc(1_000)
    readings.seconds.labels("/v1/events").observe(0.0005)
    first = readings.read()
    assert math.isnan(first.events_per_second)
    assert math.isnan(first.requests_per_second)
    assert not first.routes
    assert not first.history["requests"]


def test_rates_are_those_between_two_readings(readings):
    """Events, requests by route, failures and tiers, each by the time that passed."""
    readings.read()
    readings.events.labels("recorded").inc(10)
    readings.events.labels("rejected").inc(99)
    for _ in range(4):
        readings.seconds.labels("/v1/recommendations").observe(0.0015)
    readings.requests.labels("/v1/recommendations", "200").inc(3)
    readings.requests.labels("/v1/recommendations", "503").inc()
    readings.answers.labels("home", "reduced").inc(2)
    found = readings.read(4_000)
    assert found.events_per_second == 2.5
    assert found.requests_per_second == 1
    (route,) = found.routes
    assert (route.route, route.per_second, route.failed_per_second) == ("/v1/recommendations", 1, 0.25)
    assert 1 < route.p50_ms < 2
    assert found.tiers == [("home", "reduced", 0.5)]
    assert found.history["events"] == (2.5,)


def test_the_console_does_not_count_itself(readings):
    """A page that is looked at would else be the busiest route."""
    readings.read()
    readings.seconds.labels("/console/live").observe(0.5)
    assert not readings.read().routes


def test_nothing_is_compared_over_a_pause(readings):
    """A rate over it would be of a time at which nobody looked, and a chart would have a gap that it does not show."""
    readings.read()
    readings.read()
    readings.events.labels("recorded").inc(1_000_000)
    later = readings.read(STALE_MS + 1)
    assert math.isnan(later.events_per_second)
    assert not later.history["events"]


def test_a_reading_is_shared_for_a_while(readings):
    """Two seconds, whoever asks."""
    assert readings.live.is_due
    readings.read()
    assert not readings.live.is_due
    readings.now_ms += 2_000
    assert readings.live.is_due


def test_memory_is_the_largest_first(readings):
    """Each table beside its maximum."""
    readings.bytes.labels("items").set(5)
    readings.bytes.labels("users").set(7)
    readings.bytes_max.labels("users").set(10)
    users, items = readings.read().memory
    assert (users.table, users.bytes, users.bytes_max) == ("users", 7, 10)
    assert items.table == "items"
    assert math.isnan(items.bytes_max)


def test_processes_add_up():
    """Samples of a leader and its followers differ by one label alone."""
    text = 'x_total{process="leader",a="1"} 2\nx_total{process="follower-1",a="1"} 3\n'
    assert read_samples("# TYPE x counter\n" + text)["x_total"] == {(("a", "1"),): 5}


def test_a_server_of_several_processes_has_one_state():
    """Positions and items are those of one copy, and the age is that of the oldest; work and memory add up."""

    async def told(processes):
        return read_samples((await merged({name: moved().text() for name in processes})).decode())

    one, two = (asyncio.run(told(names)) for names in (("leader",), ("leader", "follower-1")))
    assert one.keys() >= ONE_STATE
    assert {name: two[name] for name in ONE_STATE} == {name: one[name] for name in ONE_STATE}
    name = "midstream_table_bytes"
    assert {each: value / 2 for each, value in two[name].items()} == one[name]


def test_quantiles_lie_within_their_bucket():
    """By linear interpolation; beyond the last bound none is known."""
    counts = [(1.0, 0.0), (2.0, 10.0), (4.0, 10.0), (math.inf, 20.0)]
    assert quantile(counts, 0.25) == 1.5
    assert math.isnan(quantile(counts, 0.99))


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8), st.floats()), max_size=6))
def test_samples_are_those_of_the_librarys_parser(rows):
    """Whatever is in labels: quotes, backslashes, braces, line breaks of every kind, equal labels of two processes."""
    registry = CollectorRegistry()
    gauge, plain = Gauge("a", "x", ["b", "process"], registry=registry), Gauge("c", "x", registry=registry)
    histogram = Histogram("d", "x", ["e"], buckets=(1, 2), registry=registry)
    for first, second, value in rows:
        gauge.labels(first, second).set(value)
        histogram.labels(second).observe(1.5)
        plain.set(value)
    text = generate_latest(registry).decode()
    wanted: dict[Any, Any] = {}
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            labels = tuple(sorted((name, value) for name, value in each.labels.items() if name != "process"))
            own = wanted.setdefault(each.name, {})
            own[labels] = own.get(labels, 0.0) + each.value
    found = read_samples(text)
    assert found.keys() == wanted.keys()
    for name, own in wanted.items():
        assert found[name].keys() == own.keys()
        assert [found[name][each] for each in own] == pytest.approx(list(own.values()), nan_ok=True)


GOOD = {"ready": True, "accepts_events": True, "reason": ""}


class Api:
    """Routes that count how often they are asked."""

    def __init__(self):
        self.asked = []

    async def text(self, path):
        self.asked.append(path)
        return (
            "midstream_applied_log_position 7.0\nmidstream_log_position 7.0\nmidstream_items 3.0\n"
            "midstream_state_age_seconds 0.0\n"
        )

    async def get(self, path):
        self.asked.append(path)
        return ApiAnswer(200, GOOD)


def test_viewers_share_readings_and_events():
    """Ten viewers cost what one does: a reading, a look at health and a page; one at another address has its own."""
    api: Any = Api()

    async def look():
        live = LiveView(api, Templates())
        shared = await asyncio.gather(*(live.message("") for _ in range(10)))
        return shared, await live.message("/shop"), await live.message("")

    shared, elsewhere, again = asyncio.run(look())
    assert len({id(each) for each in shared}) == 1
    assert shared[0].startswith(b"data: ")
    assert shared[0].endswith(b"\n\n")
    assert api.asked.count("/metrics") == 1
    assert api.asked.count("/health/ready") == 3
    assert again == shared[0]
    assert elsewhere == again.replace(b'href="/console', b'href="/shop/console')


def moved() -> Metrics:
    """Return metrics with what the page shows, and with others."""
    metrics = Metrics(CollectorRegistry())
    metrics.count_events("recorded", 3)
    metrics.observe_request("/v1/recommendations", 200, 0.002)
    metrics.observe_request("/v1/events", 503, 0.2)
    metrics.observe_answer("home", "full", 20)
    metrics.set_table_bytes("items", 5, 9)
    metrics.set_positions(8, 7)
    metrics.set_deleted_items(1, 4)
    metrics.state_age.set(0.5)
    metrics.count_events("rejected", 2)
    metrics.count_dead_letters(1, 1)
    metrics.set_dead_letters(1, 90)
    metrics.freshness.begin(("fresh", "late"))
    metrics.freshness.observe("fresh", 0.012)
    metrics.inputs.set("clicks", InputState({"0": 5}, reads=True, is_stopped=False))
    metrics.input_rejected.labels("clicks").inc()
    metrics.set_output("mirror", 3, 1_500, 4, is_stopped=False)
    metrics.set_sink("table", (3, 1_500), 0, (0, 0), is_stopped=True)
    metrics.set_shared_log("shop", 20, {}, is_connected=True, has_ended=False)
    return metrics


def test_samples_of_an_engine_are_those_of_its_text():
    """So a server of one process and one of several show the same figures, and the page lacks none."""
    metrics = moved()
    told = read_samples(metrics.text().decode())
    found = asyncio.run(shown_samples(metrics.registry))
    assert found == {name: told[name] for name in SHOWN if name in told}
    assert found.keys() == set(SHOWN)
    by_text, by_samples = LiveMetrics(lambda: 1), LiveMetrics(lambda: 1)
    pages = [
        Templates().render("now_figures.html", "", {"figures": each, "health": GOOD})
        for each in (by_text.add(told), by_samples.add(found))
    ]
    assert pages[0] == pages[1]


class Tables:
    """An engine of three tables that notes when one of them is counted, and when gauges are set."""

    def __init__(self):
        self.metrics = moved()
        self.done = []

    def refresh_event_gauges(self):
        self.done.append("gauges")

    def refreshing_table_bytes(self):
        for name in ("a", "b", "c"):
            self.done.append(name)
            yield


def test_memory_is_read_less_often_than_the_rest(monkeypatch):
    """Its tables one a turn of the loop, once in 30 s, as the page says."""
    clock_s = [1_000.0]
    monkeypatch.setattr("midstream.serving.console.engine_samples.monotonic_ns", lambda: int(clock_s[0] * 1e9))
    engine: Any = Tables()
    samples = EngineSamples(engine)

    async def read():
        reading = asyncio.ensure_future(samples.read())
        while not reading.done():
            engine.done.append("turn")
            await asyncio.sleep(0)
        return [each for each in engine.done if each != "turn"]

    assert asyncio.run(read()) == ["gauges", "a", "b", "c"]
    assert [engine.done[at - 1] for at, each in enumerate(engine.done) if each in "bc"] == ["turn", "turn"]
    clock_s[0] += TABLES_MS_MIN / 1_000 - 1
    assert asyncio.run(read())[4:] == ["gauges"]
    clock_s[0] += 1
    assert asyncio.run(read())[5:] == ["gauges", "a", "b", "c"]
    assert f"read each {TABLES_MS_MIN // 1_000} s" in Templates().render(
        "now_figures.html",
        "",
        {
            "figures": LiveMetrics(lambda: 1).add(asyncio.run(shown_samples(moved().registry))),
            "health": GOOD,
        },
    )
