"""Metrics of one writing thread read as the library's own do."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from midstream.monitoring.loop_metrics import LoopCounters, LoopHistograms

BOUNDS = (0.001, 0.25, 1.0, 10.0)
VALUES = st.one_of(st.sampled_from((0.0, *BOUNDS, 11.0)), st.floats(0, 20))


def without_begins(text: bytes) -> list[bytes]:
    """Return the lines of a text, but for the times at which the library's metrics were made."""
    return sorted(line for line in text.splitlines() if b"_created" not in line)


@given(st.lists(st.tuples(st.sampled_from(("a", "b")), VALUES), max_size=40))
def test_a_histogram_is_that_of_the_library(observed):
    """Every bucket, number and sum of every series, an observation at a bound among them."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = LoopHistograms("taken", "Time.", BOUNDS, ("route",))
    ours.register(mine)
    library = Histogram("taken", "Time.", ("route",), buckets=BOUNDS, registry=theirs)
    for route, seconds in observed:
        mine.of(route).observe(seconds)
        library.labels(route).observe(seconds)
    assert without_begins(generate_latest(ours)) == without_begins(generate_latest(theirs))


def test_a_histogram_without_labels_is_there_before_its_first_observation():
    """So that a rate exists from the start."""
    registry = CollectorRegistry()
    registry.register(LoopHistograms("taken", "Time.", BOUNDS))
    assert b'taken_bucket{le="+Inf"} 0.0' in generate_latest(registry)


@given(st.lists(st.tuples(st.sampled_from(("a", "b")), st.integers(0, 9)), max_size=40))
def test_a_counter_is_that_of_the_library(counted):
    """Every series that was asked for, at 0 too."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = LoopCounters("came", "Number.", ("route",))
    ours.register(mine)
    library = Counter("came", "Number.", ("route",), registry=theirs)
    for route, count in counted:
        mine.of(route).count += count
        library.labels(route).inc(count)
    assert without_begins(generate_latest(ours)) == without_begins(generate_latest(theirs))
