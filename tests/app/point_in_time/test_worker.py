"""Features as of a past moment for a server: the child says what the command says, within its bounds."""

import asyncio

import msgspec
import numpy as np
import pyarrow as pa
import pytest

import midstream
from midstream.app.opening import DATA_NAME, config_of, open_running, open_shop
from midstream.app.point_in_time.worker import features_at
from midstream.core.answers.features import PastFeaturesAnswer
from midstream.core.errors import Invalid, MidstreamError, NotFound, Overloaded, RequestInvalid
from midstream.engine.child_process import Ended
from midstream.engine.explain.past_features import WAITING_MAX, PastFeatures, PastOrder, PastQuestion
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import open_log
from midstream.events.schema import cut
from tests.support.events import Stream, random_events
from tests.support.patience import PATIENCE_S

TOML = """
[[features]]
name = "views"
kind = "count"
actions = ["view"]
windows = ["1h"]
half_life = ["6h"]

[[features]]
name = "mine"
kind = "count"
scope = "user_item"
actions = ["view", "click"]

[limits]
users_max = 500
items_max = 500
click_items_max = 500
event_ids_max = 10000
sessions_max = 500
index_sessions_max = 500
hot_items_max = 50
new_items_max = 50
feature_user_items_max = 300
requests_max = 100
"""
EVENTS = 1_000
LOG = random_events(EVENTS, seed=5, stream=Stream(users=30, items=20))
TIMES = LOG.rows["log_time_ms"].astype(np.int64).tolist()
ITEMS = ("item-3", "item-7", "item-0")


@pytest.fixture
def folder(tmp_path):
    """A folder whose log holds the events."""
    (tmp_path / "midstream.toml").write_text(TOML)
    log = open_log(DataFolder(tmp_path / DATA_NAME), bytes(16), 1 << 20)
    for first in range(0, EVENTS, 50):
        log.append(cut(LOG, first, first + 50))
    log.close()
    return tmp_path


def order(folder, time_ms, **more):
    """Return the order of a question."""
    return PastOrder(str(folder), time_ms, ITEMS, **more)


def test_a_child_says_what_the_command_says(folder):
    """To the bit, for moments all over the log, with a user and without."""
    made = np.empty(0, dtype=np.float32)
    for place, user in ((10, "user-3"), (500, None), (730, "user-9"), (EVENTS - 1, "user-3")):
        time_ms = TIMES[place]
        found = features_at(order(folder, time_ms, user_id=user))
        question = {"time": [time_ms], "items": [list(ITEMS)], **({"user_id": [user]} if user else {})}
        table = midstream.features_as_of(folder, pa.table(question))
        wanted = np.stack([table.column(name).to_numpy() for name in found.features], axis=1)
        made = np.array([each.values for each in found.items], dtype=np.float32)
        assert made.tobytes() == wanted.tobytes()
        assert [each.id for each in found.items] == list(ITEMS)
        assert found.log_position == sum(each < time_ms for each in TIMES)
    assert np.nansum(made) > 0
    only = features_at(order(folder, TIMES[-1], features=("mine",)))
    assert only.features == ("mine",)


@pytest.mark.parametrize(
    "time_ms, more, came",
    [
        (TIMES[0], {}, "is before the log begins"),
        (TIMES[0] - 86_400_000, {}, "is before the log begins"),
        (TIMES[-1] + 1, {"events_max": 300}, "events lie between the nearest snapshot and that moment"),
        (TIMES[-1], {"features": ("vieews",)}, 'Nearest: "views"'),
    ],
)
def test_a_moment_that_cannot_be_read_is_refused_in_words(folder, time_ms, more, came):
    """With what would be right, and the command where there are too many events."""
    with pytest.raises(Invalid, match=came) as refused:
        features_at(order(folder, time_ms, **more))
    if "events_max" in more:
        assert "midstream features as-of" in refused.value.faults[0].right
    assert refused.value.faults[0].where == ("feature" if "features" in more else "time")  # fields of the route


def test_an_empty_log_has_no_past(tmp_path):
    """Nothing is said of it."""
    (tmp_path / "midstream.toml").write_text(TOML)
    with open_shop(tmp_path, config_of(tmp_path)):
        pass
    with pytest.raises(Invalid, match="holds no event"):
        features_at(order(tmp_path, 1_000_000_000_000))


def beside(folder, work, run=None):
    """Run some work beside an engine; ``run`` stands for its child processes."""

    async def main():
        running = open_running(folder, config_of(folder))
        await running.start()
        past = running.past if run is None else PastFeatures(running.engine, folder, asyncio.Lock(), run)
        assert past is not None
        try:
            return await work(running.engine, past)
        finally:
            await past.stop()
            await running.stop()

    return asyncio.run(main())


def acts_of(folder):
    """Record some acts in a folder; return a moment behind them."""
    (folder / "midstream.toml").write_text(TOML)
    with open_shop(folder, config_of(folder)) as shop:
        shop.record([
            {"type": "view", "user_id": user, "item_id": "lamp"} for user in ("ann", "ann", "bob")
        ])  # fmt: skip


def test_a_server_has_it_made_beside_it(tmp_path):
    """By a real child, once for all who ask; a user who was erased and the future are refused."""
    acts_of(tmp_path)

    async def work(engine, past):
        now_ms = engine.clock()
        asked = PastQuestion(now_ms, ("lamp",), "ann")
        job = past.begin(asked)
        assert past.begin(PastQuestion(now_ms, ("lamp",), "ann")) is job
        assert await past.wait(job, PATIENCE_S)
        with pytest.raises(RequestInvalid, match="is in the future"):
            past.begin(PastQuestion(now_ms + 3_600_000, ("lamp",)))
        early = past.begin(PastQuestion(now_ms - 86_400_000, ("lamp",)))
        assert await past.wait(early, PATIENCE_S)
        assert isinstance(early.error, RequestInvalid)
        assert "before the log begins" in str(early.error)
        await engine.erase("ann")
        with pytest.raises(NotFound, match="erased"):
            past.begin(asked)
        return job

    job = beside(tmp_path, work)
    found = msgspec.json.decode(job.result, type=PastFeaturesAnswer)
    assert found.features == ("views_1h", "views_fading_6h", "mine")
    assert found.items[0].values[::2] == [3.0, 2.0]


def test_what_was_read_before_an_erasure_answers_nobody_after_it(tmp_path):
    """Not once the files are rewritten either: the question is read from them anew."""
    acts_of(tmp_path)

    async def work(engine, past):
        asked = PastQuestion(engine.clock(), ("lamp",), "ann")
        before = past.begin(asked)
        assert await past.wait(before, PATIENCE_S)
        await engine.erase("ann")
        engine.fold.vocabulary.erasures.carry_out(engine.clock())
        after = past.begin(asked)
        assert after is not before
        assert past.begin(asked) is after

    beside(tmp_path, work)


def test_a_session_of_an_erased_user_is_not_read(tmp_path):
    """Its id alone does not open it while the files of the log still hold it; that of somebody else is read."""
    (tmp_path / "midstream.toml").write_text(TOML)
    with open_shop(tmp_path, config_of(tmp_path)) as shop:
        shop.record([
            {"type": "view", "user_id": user, "session_id": f"s-{user}", "item_id": "lamp"} for user in ("ann", "bob")
        ])  # fmt: skip

    async def work(engine, past):
        now_ms = engine.clock()
        await engine.erase("ann")
        of_ann = past.begin(PastQuestion(now_ms, ("lamp",), session_id="s-ann"))
        of_bob = past.begin(PastQuestion(now_ms, ("lamp",), session_id="s-bob"))
        assert await past.wait(of_ann, PATIENCE_S)
        assert await past.wait(of_bob, PATIENCE_S)
        assert isinstance(of_ann.error, RequestInvalid)
        assert "erased" in str(of_ann.error)
        assert of_bob.result

    beside(tmp_path, work)


def test_few_are_made_and_few_wait(tmp_path):
    """One child at a time; beyond the queue who asks is refused, and a child that takes too long is ended."""
    acts_of(tmp_path)
    begun: list[str] = []

    async def never(module, *_):
        begun.append(module)
        await asyncio.sleep(3_600)
        return Ended(b"", "")

    async def work(engine, past):
        jobs = [past.begin(PastQuestion(engine.clock(), (f"i{number}",))) for number in range(WAITING_MAX + 1)]
        with pytest.raises(Overloaded):
            past.begin(PastQuestion(engine.clock(), ("more",)))
        assert not await past.wait(jobs[0], 0.05)
        return jobs

    jobs = beside(tmp_path, work, never)
    assert begun == ["midstream.app.point_in_time.worker"]
    assert all(isinstance(each.error, MidstreamError) for each in jobs)
