"""Lag on the first page: a row for each input, output, sink, follower and shared log of the shop, and no other."""

import math
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from midstream.engine.inputs.input_group import InputGroup
from midstream.engine.listeners import LAGGING, Listener, Listeners
from midstream.engine.outbox.output_group import OutputGroup
from midstream.monitoring.input_gauges import InputState
from midstream.monitoring.metrics import Metrics
from midstream.serving.console.engine_samples import SHOWN
from midstream.serving.console.lag_rows import LagRow, lag_rows
from midstream.serving.console.live_metrics import LiveMetrics, read_samples
from midstream.serving.console.page_templates import Templates

HEALTH = {"ready": True, "accepts_events": True, "reason": ""}


@pytest.fixture
def metrics():
    return Metrics(CollectorRegistry())


def rows(metrics):
    return lag_rows(read_samples(metrics.text().decode()))


def page(metrics):
    metrics.set_positions(8, 7)
    figures = LiveMetrics(lambda: 1).add(read_samples(metrics.text().decode()))
    return Templates().render("now_figures.html", "", {"figures": figures, "health": HEALTH})


def test_a_shop_without_any_of_them_has_no_row(metrics):
    """Neither the table nor a figure of the probe is on its page or in its metrics; rejected events are."""
    assert rows(metrics) == []
    assert "\nmidstream_freshness_last_seconds" not in metrics.text().decode()
    text = page(metrics)
    assert "<h2>Lag" not in text
    assert "Freshness" not in text
    assert "Events rejected" in text


def test_an_input_is_behind_by_the_sum_of_its_partitions(metrics):
    """With its rejected messages; one that an operator is waited for is not good."""
    metrics.inputs.set("clicks", InputState({"0": 5, "1": 7}, reads=True, is_stopped=False))
    metrics.inputs.set("orders", InputState({}, reads=False, is_stopped=True))
    metrics.input_rejected.labels("clicks").inc(3)
    clicks, orders = rows(metrics)
    assert (clicks.kind, clicks.name, clicks.behind, clicks.unit, clicks.rejected) == (
        "Input",
        "clicks",
        12,
        "messages",
        3,
    )
    assert (clicks.state, clicks.is_good) == ("reads", True)
    assert math.isnan(orders.behind)
    assert not orders.is_good
    assert "operator" in orders.state


@pytest.mark.parametrize("kind", ["output", "sink"])
def test_what_delivers_is_behind_in_events_and_in_time(metrics, kind):
    """Of one whose broker or store has not answered the lag is not known, and no 0."""

    def set_lag(name, events, lag_ms, *, is_stopped):
        if kind == "output":
            metrics.set_output(name, events, lag_ms, 0, is_stopped=is_stopped)
        else:
            metrics.set_sink(name, (events, lag_ms), 0, (0, 0), is_stopped=is_stopped)

    set_lag("known", 40, 2_500, is_stopped=False)
    set_lag("unknown", -1, -1, is_stopped=True)
    known, unknown = rows(metrics)
    assert (known.kind, known.behind, known.seconds, known.is_good) == (kind.title(), 40, 2.5, True)
    assert math.isnan(unknown.behind)
    assert math.isnan(unknown.seconds)
    assert not unknown.is_good
    assert "– events" in page(metrics)


def test_followers_have_events_to_fold(metrics):
    """One that is starting takes no requests."""
    metrics.set_follower(1, 0, serves=True)
    metrics.set_follower(2, 900, serves=False)
    first, second = rows(metrics)
    assert (first.kind, first.name, first.behind, first.is_good) == ("Follower", "1", 0, True)
    assert (second.behind, second.state, second.is_good) == (900, "takes no requests", False)


def test_a_shared_log_has_its_lag_in_time(metrics):
    """Not known is NaN; one whose broker is away is not good."""
    metrics.set_shared_log("shop", 1_500, {}, is_connected=True, has_ended=False)
    (row,) = rows(metrics)
    assert (row.kind, row.name, row.seconds, row.state) == ("Shared log", "shop", 1.5, "connected")
    metrics.set_shared_log("shop", None, {}, is_connected=False, has_ended=False)
    (row,) = rows(metrics)
    assert math.isnan(row.seconds)
    assert (row.state, row.is_good) == ("no broker answers", False)


def test_rows_are_on_the_page(metrics):
    """By kind and name, with what is behind."""
    metrics.inputs.set("clicks", InputState({"0": 5}, reads=True, is_stopped=False))
    metrics.set_output("mirror", 40, 2_500, 0, is_stopped=True)
    text = page(metrics)
    table = text[text.index("<h2>Lag") :].split("</table>")[0]
    assert "<td>Input<td>clicks<td" in table
    assert "5 messages" in table
    assert "40 events" in table
    assert 'class="bad">stopped' in table


def test_the_probe_has_its_last_time_and_its_outcomes(metrics):
    """What no answer had is not known, and neither 0 nor the time before."""
    freshness = metrics.freshness
    freshness.begin(("fresh", "late", "unseen", "refused"))
    freshness.observe("fresh", 0.0125)
    assert "<b>12.5 <small>ms" in page(metrics)
    freshness.observe("unseen", None)
    text = page(metrics)
    card = text[text.index("Freshness, by the probe") :].split("</div>")[0]
    assert "<b>– <small>ms" in card
    assert '1 fresh, 0 late, 0 refused, 1 <span class="bad">unseen</span>' in card


def test_of_several_processes_the_slowest_is_shown():
    """And one that does not know makes the figure unknown, whichever comes first."""
    name = "midstream_freshness_last_seconds"

    def read(*values):
        text = "".join(f'{name}{{process="{number}"}} {value}\n' for number, value in enumerate(values))
        return read_samples(text)[name][()]

    assert read(0.5, 0.25) == read(0.25, 0.5) == 0.5
    assert math.isnan(read("NaN", 0.5))
    assert math.isnan(read(0.5, "NaN"))


def test_rejected_events_have_a_rate_and_their_letters(metrics):
    """Of events, since the start, with what the files keep and what they had no room for."""
    clock_ms = [1_000]
    live = LiveMetrics(lambda: clock_ms[0])
    live.add(read_samples(metrics.text().decode()))
    metrics.count_events("rejected", 8)
    metrics.count_dead_letters(7, 1)
    metrics.set_dead_letters(7, 900)
    clock_ms[0] += 4_000
    found = live.add(read_samples(metrics.text().decode())).rejected
    assert (found.per_second, found.count, found.kept, found.lost) == (2, 8, 7, 1)


def test_gauges_of_lags_are_set_for_the_page_and_no_others(metrics):
    """It is read each two seconds: what else listeners count is for a scrape."""
    done: list[str] = []
    names = (*sorted(LAGGING), "machine", "snapshots")
    listeners = Listeners(*(Listener(name=name, gauges=partial(done.append, name)) for name in names))
    listeners.set_gauges(LAGGING)
    assert done == sorted(LAGGING)
    listeners.set_gauges()
    assert done[len(LAGGING) :] == list(names)
    groups = (InputGroup((), metrics), OutputGroup({}, metrics))
    assert {each.listener.name for each in groups} <= LAGGING


def test_each_row_comes_from_samples_that_are_read():
    """A server of one process reads samples by name: all that a row without followers is made of is among them."""
    metrics = Metrics(CollectorRegistry())
    metrics.inputs.set("clicks", InputState({"0": 5}, reads=True, is_stopped=True))
    metrics.input_rejected.labels("clicks").inc()
    metrics.set_output("mirror", 1, 2, 0, is_stopped=True)
    metrics.set_sink("table", (1, 2), 0, (0, 0), is_stopped=True)
    metrics.set_shared_log("shop", 1_500, {}, is_connected=True, has_ended=True)
    told = read_samples(metrics.text().decode())
    found: list[LagRow] = lag_rows({name: told[name] for name in SHOWN if name in told})
    assert found == lag_rows(told)
    assert len(found) == 4
