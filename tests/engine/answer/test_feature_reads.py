"""Features read for callers: what a placement reads, at one log position, and what is said of each."""

import math
from dataclasses import astuple
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from midstream.app.config.reader import parse_config
from midstream.app.wiring import plans
from midstream.core.errors import FeatureFailed, RequestInvalid
from midstream.core.types import Candidates, EventBatch, LogPosition, Models, Query
from midstream.engine.answer.feature_reads import LIVE_COLUMNS_MAX, complete_since, with_live
from midstream.engine.requests.schema import FeatureAsk
from midstream.engine.types import Ask, FeatureView, LiveColumn
from midstream.features.readers.request_inputs import ContextValue
from midstream.ranking.selectors.sampling import LOGGED, is_sampled
from midstream.state.fold import Fold
from tests.support.rig import START_MS, Rig, view

if TYPE_CHECKING:
    from midstream.monitoring.feature_values import FeatureValues

TEXT = """
[limits]
users_max = 100
items_max = 200
click_items_max = 100
sessions_max = 100
event_ids_max = 1_000
hot_items_max = 200
[[features]]
name = "views"
kind = "count"
actions = ["view"]
windows = ["1h", "6h"]
[[features]]
name = "carts"
kind = "count"
scope = "user"
actions = ["cart"]
[[features]]
name = "mine"
kind = "count"
scope = "user_item"
actions = ["view"]
[[placements]]
name = "home"
features = ["mine", "views"]
log_features = 0.5
"""
CONFIG = parse_config(TEXT)
EVENTS = (view("a", "ann"), view("a", "bob"), view("b", "ann"), {**view("b", "ann"), "type": "cart"})


def rig() -> Rig:
    """An engine that counts."""
    return Rig(config=CONFIG)


def test_what_is_read_is_what_a_placement_reads():
    """The same block on the same state; columns as asked; an item that nothing named is NaN, a user's number is not."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*EVENTS))
        read = await rig.engine.read_features(
            FeatureAsk(user_id="ann", items=("b", "nobody", "a"), features=("carts", "views"))
        )
        assert read.names == ("carts", "views_1h", "views_6h")
        assert read.items == ("b", "nobody", "a")
        assert read.values.dtype == np.float32
        expected = [[1, 1, 1], [1, np.nan, np.nan], [1, 2, 2]]
        np.testing.assert_array_equal(read.values, np.array(expected, np.float32))
        assert (read.log_position, read.read_your_writes) == (rig.engine.token(LogPosition(4)), None)
        everything = await rig.engine.read_features(FeatureAsk(user_id="ann", items=("a",)))
        assert everything.names == ("views_1h", "views_6h", "carts", "mine")
        plan = rig.engine.plans["home"]
        query = Query("", "home", "ann", None, 1, rig.engine.clock(), 0)
        item = rig.engine.fold.vocabulary.item_indices(("a",))
        rows = Candidates(item, (), np.empty((1, 0), np.float32), np.empty((1, 0), np.int32))
        block = plan.features[0].read(rig.engine.fold.moment(query, Models({})), rows)
        assert block[0].tolist() == everything.values[0, [3, 0, 1]].tolist()
        nothing = await rig.engine.read_features(FeatureAsk(items=()))
        assert nothing.values.shape == (0, 4)

    rig().run(work)


@pytest.mark.parametrize(
    "ask, where",
    [
        (FeatureAsk(items=("a",), features=("views", "vews")), "/features/1"),
        (FeatureAsk(items=("a",) * 1_001), "/items"),
        (FeatureAsk(items=("a",), min_log_position="nonsense"), "/min_log_position"),
    ],
)
def test_what_cannot_be_read_is_refused(ask, where):
    """By four parts, with the nearest name."""

    async def work(rig: Rig) -> None:
        with pytest.raises(RequestInvalid) as caught:
            await rig.engine.read_features(ask)
        assert [fault.where for fault in caught.value.faults] == [where]

    rig().run(work)


def test_a_feature_that_cannot_be_read_is_counted(monkeypatch):
    """By its name, as in answers; what was raised is the cause."""

    def fails(*_asked):
        raise ArithmeticError

    monkeypatch.setattr(ContextValue, "fill", fails)

    async def work(rig: Rig) -> None:
        with pytest.raises(FeatureFailed, match=r"features\.sent: ArithmeticError") as caught:
            await rig.engine.read_features(FeatureAsk(items=("a",)))
        assert isinstance(caught.value.__cause__, ArithmeticError)
        assert b'midstream_part_failures_total{part="features.sent"} 1.0' in rig.engine.metrics.text()

    Rig(config=parse_config(TEXT + '[[features]]\nname = "sent"\nkind = "number"\nscope = "request"\n')).run(work)


def test_the_names_that_there_are_are_told_once():
    """However many are wrong: the second fault points to the first."""

    async def work(rig: Rig) -> None:
        with pytest.raises(RequestInvalid) as caught:
            await rig.engine.read_features(FeatureAsk(items=(), features=("vews", "views", "viewz")))
        first, second = caught.value.faults
        assert "views" in first.right
        assert (second.where, second.right) == ("/features/2", "As for /features/0.")

    rig().run(work)


def test_a_read_waits_for_the_callers_own_writes():
    """And says so; what was read has seen them."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*EVENTS))
        ask = FeatureAsk(items=("a",), features=("views",), min_log_position=rig.engine.token(LogPosition(4)))
        read = await rig.engine.read_features(ask)
        assert read.read_your_writes is True
        assert read.values.tolist() == [[2.0, 2.0]]

    rig().run(work)


def test_what_is_said_of_each_feature():
    """Columns, readers, declaration; the last event that it counted and how long ago that was; memory."""

    async def work(rig: Rig) -> None:
        assert [each.last_counted for each in rig.engine.features()] == [None, None, None]
        await rig.engine.record(rig.batch(*EVENTS))
        rig.now_ms += 5_000
        views, carts, mine = rig.engine.features()
        assert (views.name, views.kind, views.scope) == ("views", "count", "item")
        assert views.columns == ("views_1h", "views_6h")
        assert (views.used_by, carts.used_by, mine.used_by) == (("home",), (), ("home",))
        assert views.declaration["windows"] == ["1h", "6h"]
        assert (views.last_counted, views.age_ms, views.complete_since) == (START_MS, 5_000, None)
        assert 0 < views.bytes_now < views.bytes_max
        shares = [each.bytes_max for each in (views, carts, mine)]
        assert sum(shares) == pytest.approx(rig.engine.fold.sizes()["cells"].bytes_max, rel=0.01)
        assert rig.engine.feature("carts") == carts
        assert rig.engine.feature("cart") is None

    rig().run(work)


def test_without_features_there_are_none_to_read():
    """An empty list, and columns of nothing."""

    async def work(rig: Rig) -> None:
        read = await rig.engine.read_features(FeatureAsk(items=("a",)))
        assert (read.names, read.values.shape) == ((), (1, 0))
        assert rig.engine.features() == []

    Rig().run(work)


def test_a_share_of_the_requests_keeps_what_was_read():
    """Those that the seed chooses; what is kept is what was read, and reading is timed."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*EVENTS))
        kept = 0
        for number in range(20):
            answer = await rig.engine.recommend(Ask("home", user_id="ann", item_fields={"a": {"score": 0.5}}))
            await rig.engine.record(rig.batch(view(f"x{number}", "eve")))  # the served record goes before it
            record = rig.engine.served(answer.request_id)
            assert record is not None
            assert record.query.item_fields == {"a": {"score": 0.5}}
            assert (record.features is not None) == is_sampled(record.query.seed, 0.5, LOGGED)
            if record.features is not None:
                kept += 1
                assert record.features.names == ("mine", "views_1h", "views_6h")
                row = [item.id for item in record.items].index("a")
                assert record.features.values[row].tolist() == [1.0, 2.0, 2.0]
        assert 3 <= kept <= 17
        assert b'midstream_feature_read_seconds_count{placement="home"} 20.0' in rig.engine.metrics.text()

    rig().run(work)


def test_what_is_missing_where_history_was_cut():
    """One rule: complete since the first event that was counted, or always where a window is shorter than that."""
    fold = Fold(CONFIG.fold_settings())
    declared = plans(CONFIG)["home"].declared
    cells = {name: declared.program(name).cells for name in declared.names}
    assert complete_since(fold, cells["carts"]) is None
    fold.begin_with(LogPosition(50), 0, ())
    acts = Rig(config=CONFIG).batch(view("a", "ann"), view("b", "bob"))
    for number, at_ms in enumerate(tuple(START_MS + hours for hours in (0, 10_800_000, 22_500_000, 25_200_000))):
        rows = acts.rows.copy()
        rows["log_time_ms"] = rows["event_time_ms"] = at_ms
        fold.apply(LogPosition(50 + 2 * number), EventBatch(rows, acts.text))
        assert complete_since(fold, cells["carts"]) == START_MS
        assert complete_since(fold, cells["views"]) == (
            START_MS if number < 3 else None
        )  # 6.25 h is within the last bucket
        assert complete_since(fold, cells["views"][:1]) == (START_MS if number < 1 else None)
    assert complete_since(fold, ()) is None


def test_what_a_column_is_like_is_what_was_measured_of_it() -> None:
    """Each figure under its own name, what there is no value for as None; the first columns only, and those served."""
    names = tuple(f"c{number}" for number in range(LIVE_COLUMNS_MAX + 2))
    found = FeatureView("views", "count", "item", names, (), {}, None, None, None, 0, 0)
    measured = SimpleNamespace(known=3, null_ratio=0.25, mean=1.5, deviation=0.5, quantiles=(1.0, 2.0), distinct=7)
    far = {
        "c0": SimpleNamespace(psi=0.1, ks=SimpleNamespace(statistic=0.2, p_value=0.3), null_ratio_then=0.4),
        "c1": SimpleNamespace(
            psi=math.nan, ks=SimpleNamespace(statistic=math.nan, p_value=math.nan), null_ratio_then=math.nan
        ),
    }
    far |= dict.fromkeys(names[3:], far["c0"])  # c2 was not served
    values = SimpleNamespace(column=lambda name: measured if name in far else None, drift=far.get)
    seen = with_live(found, cast("FeatureValues", values))
    assert seen is not None
    assert [*seen.live] == [*names[:2], *names[3:LIVE_COLUMNS_MAX]]
    own = (3, 0.25, 1.5, 0.5, (1.0, 2.0), 7)
    assert astuple(seen.live["c0"]) == (*own, 0.1, 0.2, 0.3, 0.4)
    assert seen.live["c1"] == LiveColumn(*own, None, None, None, None)
    assert with_live(None, cast("FeatureValues", values)) is None
