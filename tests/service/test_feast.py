"""Values as of past moments beside those of Feast: equal where nothing is late, and the difference where something is.

Needs a Python that has ``feast[duckdb]``, in an environment of its own so that neither decides versions of the other.
``MIDSTREAM_FEAST_PYTHON`` names it. Where it names none these tests skip, in CI too: only where it is set is Feast
meant to be there, and what is wrong with it fails here then. Figures are printed, see them with ``-s``.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midstream.core.durations import Duration
from midstream.core.types import LogPosition, Query, TimestampMs
from midstream.events.schema import Event, build
from midstream.features.as_of import FoldCursor, PointInTimeQuestion, as_of
from midstream.features.declared import declared
from midstream.features.kinds.kinds import AnyFeature, Count, Since, Statistic, cells_of
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]
PYTHON_VARIABLE = "MIDSTREAM_FEAST_PYTHON"
PEER = Path(__file__).parents[2] / "benchmarks" / "feast_peer"
START_MS, HOUR_MS = 1_750_000_000_000, 3_600_000
EVENTS, QUESTIONS = 20_000, 1_000
VIEWS, BOUGHT = ("view",), ("purchase",)
FEATURES: dict[str, AnyFeature] = {
    "item_views": Count(name="item_views", actions=VIEWS),
    "item_fading_now": Count(name="item_fading_now", actions=VIEWS, half_life=(Duration("6h"),)),
    "item_idle": Since(name="item_idle", actions=VIEWS),
    "item_mean": Statistic(name="item_mean", actions=BOUGHT, statistic="mean"),
    "item_min": Statistic(name="item_min", actions=BOUGHT, statistic="min"),
    "item_max": Statistic(name="item_max", actions=BOUGHT, statistic="max"),
    "item_last": Statistic(name="item_last", actions=BOUGHT, statistic="last"),
    "user_views": Count(name="user_views", scope="user", actions=VIEWS),
    "user_last": Statistic(name="user_last", scope="user", actions=BOUGHT, statistic="last"),
    "user_item_views": Count(name="user_item_views", scope="user_item", actions=VIEWS),
    "user_category_views": Count(
        name="user_category_views", scope="user_attribute", attribute="category", actions=VIEWS
    ),
}
"""Named as Feast's columns are."""
COUNTS = [name for name in FEATURES if name.endswith("views") or "fading" in name]
FADING_TOLERANCE = 2 * np.log(2) / 4_096
"""Relative: the times of an act and of a question are each rounded down by up to 1/4096 of a half-life."""


@pytest.fixture(scope="module")
def python():
    """The interpreter of Feast's environment."""
    found = os.environ.get(PYTHON_VARIABLE)
    if not found:
        pytest.skip(f"{PYTHON_VARIABLE} names no Python that has feast")
    return found


def shop(late_share):
    """Events in log order, a few seconds apart and no two at the same moment; some have happened up to 6 hours before.

    Returns them as dictionaries, with the category of each item.
    """
    rng = np.random.default_rng(20)
    log_time_ms = START_MS + 1 + np.cumsum(rng.integers(1_000, 30_000, EVENTS))
    behind_ms = np.where(rng.random(EVENTS) < late_share, rng.integers(60_000, 6 * HOUR_MS, EVENTS), 0)
    item, user = (rng.zipf(1.3, EVENTS) - 1) % 200, rng.integers(0, 300, EVENTS)
    is_bought = rng.random(EVENTS) < 0.2
    return [
        {
            "user_id": f"u{user[at]}",
            "item_id": f"i{item[at]}",
            "category": f"c{item[at] % 12}",
            "action": "purchase" if is_bought[at] else "view",
            "value": float(rng.integers(100, 10_000)) / 100 if is_bought[at] else None,
            "event_time_ms": int(log_time_ms[at] - behind_ms[at]),
            "log_time_ms": int(log_time_ms[at]),
        }
        for at in range(EVENTS)
    ]


def asked(events):
    """Questions in the order of time, each halfway between two events; every second of a pair that has met."""
    rng = np.random.default_rng(21)
    found = []
    positions = np.sort(rng.choice(np.arange(100, EVENTS - 1), QUESTIONS, replace=False)).tolist()
    for number, position in enumerate(positions):
        before, other = events[int(rng.integers(0, position))], events[int(rng.integers(0, EVENTS))]
        of_item = before if number % 2 else other
        times = [event["log_time_ms"] for event in events[position - 1 : position + 1]]
        found.append(
            {
                "number": number,
                "position": position,
                "now_ms": sum(times) // 2,
                "user_id": before["user_id"],
                "item_id": of_item["item_id"],
                "category": of_item["category"],
            }
        )
    return found


def as_we_read(events, questions):
    """Our values of the same questions by their times alone, a column each."""
    features = tuple(FEATURES.values())
    block = declared(features, {"category": "category"})
    fold = Fold(FoldSettings(attributes={"category": "category"}, cells=cells_of(features)))
    items = {event["item_id"]: event["category"] for event in events}
    catalogue = [
        Event(3, 1, item_id=item, body=b'{"category":"%s"}' % category.encode(), log_time_ms=START_MS)
        for item, category in items.items()
    ]
    acts = [
        Event(
            1,
            action=event["action"],
            user_id=event["user_id"],
            item_id=event["item_id"],
            value=np.nan if event["value"] is None else event["value"],
            event_time_ms=event["event_time_ms"],
            log_time_ms=event["log_time_ms"],
        )
        for event in events
    ]
    asking = [
        PointInTimeQuestion(
            Query("r", "home", each["user_id"], None, 1, TimestampMs(each["now_ms"]), 1), (each["item_id"],)
        )
        for each in questions
    ]
    cursor = FoldCursor(fold, [(LogPosition(0), build([*catalogue, *acts]))])
    found = [answer.values[0] for answer in as_of(cursor, asking, block.read)]
    return dict(zip(block.names, np.array(found).T, strict=True))


def of_feast(python, folder, events, questions, *flags):
    """Feast's values of the same questions, in float32; NaN where its join found no row."""
    pq.write_table(pa.Table.from_pylist(events), folder / "events.parquet")
    pq.write_table(pa.Table.from_pylist(questions), folder / "questions.parquet")
    subprocess.run([python, str(PEER), "historical", str(folder), *flags], check=True, timeout=240)
    table = pq.read_table(folder / "answers.parquet")
    assert table["number"].to_pylist() == list(range(len(questions)))
    return {name: np.array(table[name].to_pylist(), dtype=np.float64).astype(np.float32) for name in FEATURES}


def differ(ours, theirs):
    """Which questions differ in each column. What Feast has no row of is 0 in a count of ours, and NaN elsewhere."""
    found = {}
    for name, values in ours.items():
        told = theirs[name]
        mine = np.where(np.isnan(told) & (values == 0.0), np.nan, values) if name in COUNTS else values
        tolerance = FADING_TOLERANCE if "fading" in name else 0.0
        found[name] = ~np.isclose(mine, told, rtol=tolerance, atol=0.0, equal_nan=True)
    return found


def test_values_equal_those_of_feast_where_nothing_is_late(python, tmp_path):
    """At 1,000 questions to 20,000 events in order: every column to the bit of float32, what fades within its step."""
    events = shop(0.0)
    questions = asked(events)
    ours, theirs = as_we_read(events, questions), of_feast(python, tmp_path, events, questions)
    wrong = {name: int(each.sum()) for name, each in differ(ours, theirs).items()}
    fading = np.nanmax(np.abs(ours["item_fading_now"] / theirs["item_fading_now"] - 1))
    print(f"\nof {QUESTIONS} questions differ: {wrong}; what fades by {fading:.1e} at most")
    assert not any(wrong.values())
    for name in FEATURES:  # there was something to be compared
        assert np.isfinite(theirs[name]).mean() > 0.3, name
        assert len(np.unique(theirs[name][np.isfinite(theirs[name])])) > 3, name


@pytest.mark.parametrize("flags", [(), ("--known-only",), ("--order=arrival", "--known-only")])
def test_feast_counts_late_events_before_they_had_come(python, tmp_path, flags):
    """With a tenth up to 6 hours late the join by event time answers otherwise than a server could have then."""
    events = shop(0.1)
    questions = asked(events)
    ours, theirs = as_we_read(events, questions), of_feast(python, tmp_path, events, questions, *flags)
    wrong = differ(ours, theirs)
    shares = {name: f"{each.mean():.1%}" for name, each in wrong.items()}
    at_all = np.any(list(wrong.values()), axis=0)
    print(f"\n{flags}: {at_all.mean():.1%} of the questions differ in a column; {shares}")
    at = int(np.flatnonzero(wrong["item_views"])[-1])
    print(f"{questions[at]}: item_views {ours['item_views'][at]:.0f}, Feast {theirs['item_views'][at]:.0f}")
    assert at_all.mean() > 0.1


def test_feast_agrees_where_its_rows_are_stamped_with_their_arrival(python, tmp_path):
    """The same late events: a table whose event timestamp is the time of arrival gives what the server saw."""
    events = shop(0.1)
    questions = asked(events)
    ours = as_we_read(events, questions)
    theirs = of_feast(python, tmp_path, events, questions, "--order=arrival", "--stamp=arrival")
    assert not any(each.any() for each in differ(ours, theirs).values())


def test_feast_counts_what_happened_at_the_moment_of_a_question(python, tmp_path):
    """Of an event and a question of one millisecond Feast's join says event first, and ours what the log says."""
    events = shop(0.0)
    names = ("user_id", "item_id", "category")
    questions = [
        {**each, "now_ms": event["log_time_ms"], **{name: event[name] for name in names}}
        for each in asked(events)
        if (event := events[each["position"]])["action"] == "view"
    ]
    questions = [{**each, "number": number} for number, each in enumerate(questions)]
    ours, theirs = as_we_read(events, questions), of_feast(python, tmp_path, events, questions)
    for name in ("item_views", "user_views", "user_item_views", "user_category_views"):
        np.testing.assert_array_equal(np.nan_to_num(ours[name]) + 1, theirs[name])
