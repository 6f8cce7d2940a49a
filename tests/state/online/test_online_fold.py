"""What the kernels of online models learn: rows as a fit has them, late clicks as if they had been known."""

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from midstream.core.durations import Duration
from midstream.core.kinds import Kind
from midstream.events.schema import Event
from midstream.models.rows.examples import Examples
from midstream.state.structures.logistic import logistic
from tests.support.events import START_MS
from tests.support.online import (
    MODEL,
    NAMES,
    NUMBER,
    OPTIONS,
    VALUES,
    clicked,
    folded,
    of,
    promoted,
    seen,
    served,
    serving,
    stamped,
    sums_of,
)


def test_learning_is_that_of_a_fit_in_the_same_order() -> None:
    """Known rows, none of them late: the sums are those of ``Ftrl.learn``, but for the last bits of exp."""
    events = [promoted()]
    for request in ("r1", "r2", "r3"):
        events += [served(request, "abcdef", place=4), *[seen(request, item) for item in "abcdef"]]
        events += [clicked(request, "d"), clicked(request, "a")]
    fold = folded(stamped([*events, Event(Kind.TICK, log_time_ms=0)], 1), told=of(Duration("1m")))
    fold.apply(fold.log_position, stamped([Event(Kind.TICK)], start_ms=START_MS + 70_000))
    order = [NUMBER[each] for each in "dadada" + "bcef" * 3]
    label = np.array([1] * 6 + [0] * 12, dtype=np.float32)
    positions = np.array(order, dtype=np.int32) + 4
    twin = MODEL.learn(replace(Examples.of_rows(NAMES, VALUES[order], label), position=positions))
    z, n = sums_of(fold)
    assert z == pytest.approx(twin.z.tolist(), rel=1e-9, abs=1e-12)
    assert n == pytest.approx(twin.n.tolist(), rel=1e-9, abs=1e-12)
    found = serving(fold)
    assert found.is_online
    assert found.score(VALUES) == pytest.approx(twin.score(VALUES), rel=1e-6)


@pytest.mark.parametrize("wait", ["0s", "2s", "10s"])
def test_late_clicks_do_not_lower_what_is_expected(wait: str) -> None:
    """Half is clicked four seconds after it was seen; learned as none before, and not corrected, a third would be."""
    dice = np.random.default_rng(3)
    options = msgspec.structs.replace(OPTIONS, alpha=0.02, l1=0.0, l2=0.0)
    nothing = replace(MODEL, z=np.zeros_like(MODEL.z), n=np.zeros_like(MODEL.n), options=options)
    events, acts = [promoted(nothing)], []
    for number in range(4_000):
        request = f"r{number}"
        acts.append(clicked(request, "a") if dice.random() < 0.5 else Event(Kind.TICK))
        events += [served(request, "a"), seen(request, "a"), acts[number - 20] if number >= 20 else Event(Kind.TICK)]
    told = of(Duration(wait), slates_max=5_000, items_max=5_000)
    fold = folded(stamped(events, 67), told=told)
    clicks = sum(each.kind == Kind.INTERACTION for each in acts[:-20])
    corrected = fold.online.totals["online_corrected"]
    assert corrected == (0 if wait == "10s" else clicks)
    model_now = replace(serving(fold), options=options)
    assert float(model_now.score(VALUES[:1])[0]) == pytest.approx(clicks / 3_980, rel=0.1)


def test_a_slate_without_impressions_gives_no_rows() -> None:
    """Its clicks alone would be rows without one item that was passed over; the first impression makes them rows."""
    events = [promoted(), served("r1", "abc"), clicked("r1", "a"), Event(Kind.TICK)]
    fold = folded(stamped(events, 100_000), told=of(Duration("1m")))
    assert fold.online.totals["online_learned"] == 0
    fold.apply(fold.log_position, stamped([seen("r1", "b")], start_ms=START_MS + 500_000))
    assert fold.online.totals["online_learned"] == 2


def test_the_logistic_function_is_that_of_the_library() -> None:
    """Within 1e-12, and the same compiled and not."""
    values = [*np.linspace(-39, 39, 2_001).tolist(), 0.0, -0.0, 1e300, -1e300]
    for value in values:
        near = 1.0 / (1.0 + math.exp(-min(max(value, -40.0), 40.0)))
        plain = logistic.py_func(value)  # type: ignore[attr-defined]
        assert logistic(value) == plain == pytest.approx(near, rel=1e-12)
