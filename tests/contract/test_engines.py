"""The engine, one that follows it, and the fake that stands for both in tests keep the same promises to who asks."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from midstream.app.config.schema import Config
from midstream.app.wiring import plans
from midstream.core.errors import ItemUnknown, NotFound, RequestInvalid
from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition, TimestampMs
from midstream.engine.engine import Engine
from midstream.engine.live import Host
from midstream.engine.requests.schema import BatchBody
from midstream.engine.tokens import RequestIds
from midstream.engine.types import Answer, Ask, Outcome, Removal, SlateRefused
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build
from midstream.monitoring.metrics import Metrics
from midstream.state.fold import Fold
from midstream.state.settings import StateLimits
from tests.support.fakes.engine import NOW_MS, FakeEngine
from tests.support.following import pair

SMALL = StateLimits(
    users_max=100,
    items_max=100,
    click_items_max=50,
    sessions_max=100,
    index_sessions_max=100,
    event_ids_max=1_000,
    requests_max=100,
    hot_items_max=10,
    document_bytes_max=100_000,
)
VIEW = Event(Kind.INTERACTION, event_id="1", action="view", user_id="ann", item_id="mug", event_time_ms=NOW_MS)


def host():
    """A clock that stands still, and request ids that count up."""
    numbers = iter(range(1, 100_000))
    ids = RequestIds(b"k" * 32, lambda size: next(numbers).to_bytes(size, "big"))
    return Host(lambda: TimestampMs(NOW_MS), lambda: next(numbers) / 1e6, ids)


def new_fold():
    """An empty state of few maxima."""
    return Fold(Config(limits=SMALL).fold_settings())


def real():
    """An engine over a log in memory."""
    return Engine(
        MemoryLog(), new_fold(), plans(Config(limits=SMALL), Path()), host(), Metrics(CollectorRegistry()), None
    )


class Followed:
    """Events go to a leader, everything else is asked of an engine that follows it."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self._pair = pair(Path(self._folder.name), new_fold, plans(Config(limits=SMALL), Path()), host())

    def __getattr__(self, name):
        return getattr(self._pair.follower, name)

    async def start(self):
        await self._pair.start()

    async def stop(self):
        await self._pair.stop()
        self._folder.cleanup()

    async def record(self, batch):
        return await self._pair.record(batch)


@pytest.fixture(params=[real, Followed, FakeEngine], ids=["engine", "follower", "fake"])
def make_engine(request):
    """One of the three."""
    return request.param


def run(make_engine, play):
    """Start an engine, let ``play`` ask it, stop it."""

    async def go():
        engine = make_engine()
        is_real = not isinstance(engine, FakeEngine)
        if is_real:
            await engine.start()
        try:
            return await play(engine)
        finally:
            if is_real:
                await engine.stop()

    return asyncio.run(go())


def test_each_event_is_recorded_once(make_engine):
    """New, sent again, sent again with other content, and both within one batch: each gets its outcome."""

    async def play(engine):
        first = await engine.record(build([VIEW, VIEW, VIEW._replace(item_id="pot")]))
        second = await engine.record(build([VIEW, VIEW._replace(event_id="2")]))
        return [*first.outcome, *second.outcome], engine.fold.log_position, second.log_position

    outcome, applied, acknowledged = run(make_engine, play)
    new, again, other = Outcome.RECORDED, Outcome.DUPLICATE, Outcome.CONFLICT
    assert outcome == [new, again, other, again, new]
    assert applied == acknowledged == 2


def test_what_is_acknowledged_is_seen(make_engine):
    """A slate asked for with the token of an acknowledgement has seen it; without a token nothing is said."""

    async def play(engine):
        recorded = await engine.record(build([VIEW]))
        token = engine.token(recorded.log_position)
        return await engine.recommend(Ask(min_log_position=token, user_id="bob")), await engine.recommend(Ask())

    asked, plain = run(make_engine, play)
    assert [each.id for each in asked.items] == ["mug"]
    assert (asked.read_your_writes, plain.read_your_writes) == (True, None)
    assert asked.request_id != plain.request_id


def test_own_request_ids_are_known(make_engine):
    """An engine knows the request ids that it made, and no others."""

    async def play(engine):
        made = (await engine.recommend(Ask())).request_id
        forged = ("B" if made[0] == "A" else "A") + made[1:]
        return [engine.request_id_is_ours(each) for each in (made, forged, "", "x", "ö", "A" * 32)]

    assert run(make_engine, play) == [True, False, False, False, False, False]


def test_documents_follow_their_events(make_engine):
    """Items and users come, change and go with their events; nothing known is None."""

    async def play(engine):
        put = Event(Kind.ITEM, Operation.PUT, event_id="1", item_id="a", body=b'{"x":1}', event_time_ms=NOW_MS)
        before = engine.item("a")
        await engine.record(build([put]))
        patch = replace_event(put, operation=Operation.PATCH, event_id="2", body=b'{"y":2}')
        await engine.record(build([patch]))
        return before, engine.item("a")["attributes"], engine.item("b"), engine.user("a")

    assert run(make_engine, play) == (None, {"x": 1, "y": 2}, None, None)


def replace_event(event, **changes):
    """Return the event with other fields, a little later."""
    return event._replace(event_time_ms=event.event_time_ms + 1, **changes)


def test_what_cannot_be_answered_is_refused(make_engine):
    """A token that was never given out is a fault at its pointer."""

    async def play(engine):
        with pytest.raises(RequestInvalid) as found:
            await engine.recommend(Ask(min_log_position="nonsense"))
        return found.value.faults[0].where

    assert run(make_engine, play) == "/min_log_position"


@pytest.mark.parametrize("is_page", [False, True])
def test_a_token_is_refused_before_events_that_come_along_are_recorded(make_engine, is_page):
    """What is asked before refuses what the question would: text that is no token, and one of the future."""

    async def play(engine):
        recorded = await engine.record(build([VIEW]))
        here, beyond = (engine.token(LogPosition(recorded.log_position + more)) for more in (0, 1))
        check = (lambda ask: engine.check_page([ask])) if is_page else engine.check
        check(Ask(min_log_position=here))
        check(Ask())
        wheres = []
        for token in ("nonsense", beyond):
            with pytest.raises(RequestInvalid) as found:
                check(Ask(min_log_position=token))
            wheres.append(found.value.faults[0].where)
        return wheres

    assert run(make_engine, play) == ["/min_log_position"] * 2


def test_unknown_placement_is_not_found(make_engine):
    """A placement that is not configured has no plan."""

    async def play(engine):
        engine.swap(engine.fold, {name: plan for name, plan in engine.plans.items() if name != "*"})
        with pytest.raises(NotFound):
            await engine.recommend(Ask(placement="nowhere"))

    run(make_engine, play)


def test_health_is_that_of_the_log(make_engine):
    """Ready, taking events, nothing queued, and both positions at the end."""

    async def play(engine):
        await engine.record(build([VIEW]))
        return engine.health()

    health = run(make_engine, play)
    assert (health.ready, health.accepts_events, health.reason, health.queued_events) == (True, True, "", 0)
    assert health.log_position == health.applied_log_position == 1


def test_what_is_like_one_item(make_engine):
    """The item itself is not in the answer, nor what is excluded; an item that nothing named is named as unknown."""

    async def play(engine):
        events = [VIEW._replace(event_id=name, item_id=name) for name in ("mug", "pot", "pan")]
        recorded = await engine.record(build(events))
        ask = Ask("similar", about="mug", min_log_position=engine.token(recorded.log_position))
        found = [await engine.recommend(each) for each in (ask, structs.replace(ask, exclude=("pot",)))]
        with pytest.raises(ItemUnknown) as unknown:
            await engine.recommend(structs.replace(ask, about="mugg"))
        return [sorted(item.id for item in each.items) for each in found], unknown.value.faults[0]

    slates, fault = run(make_engine, play)
    assert slates == [["pan", "pot"], ["pan"]]
    assert (fault.where, "mugg" in fault.came, fault.page) == ("item_id", True, "/docs/http.md")


def three_items():
    """Views of three items."""
    return build([VIEW._replace(event_id=name, item_id=name) for name in ("mug", "pot", "pan")])


def test_given_items_are_ranked_removed_or_counted(make_engine):
    """Nothing disappears, and nothing is added."""

    async def play(engine):
        recorded = await engine.record(three_items())
        token = engine.token(recorded.log_position)
        ask = Ask(given=("pan", "cup", "mug"), user_id="bob", min_log_position=token)
        whole, one = await engine.recommend(ask), await engine.recommend(structs.replace(ask, n=1))
        with pytest.raises(RequestInvalid) as twice:
            await engine.recommend(structs.replace(ask, given=("pan", "pan")))
        return whole, one, twice.value.faults[0].where

    whole, one, where = run(make_engine, play)
    assert sorted(each.id for each in whole.items) == ["mug", "pan"]
    assert whole.removed == one.removed == (Removal("cup", "unknown"),)
    assert (whole.not_selected, one.not_selected, len(one.items), where) == (0, 1, 1, "/items/1")


def test_a_page_has_no_item_twice_and_names_what_it_lacks(make_engine):
    """All of one log position; a slate that cannot be made says why in its place."""

    async def play(engine):
        recorded = await engine.record(three_items())
        token = engine.token(recorded.log_position)
        engine.swap(engine.fold, {name: plan for name, plan in engine.plans.items() if name != "*"})
        names = ("default", "nowhere", "default")
        page = await engine.page([Ask(each, n=2, user_id="bob", min_log_position=token) for each in names])
        with pytest.raises(NotFound):
            await engine.page([Ask("nowhere")])
        return page

    page = run(make_engine, play)
    first, refused, second = page.slates
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert isinstance(refused, SlateRefused)
    assert sorted(item.id for slate in (first, second) for item in slate.items) == ["mug", "pan", "pot"]
    assert first.applied_log_position == second.applied_log_position
    assert (page.page_id, refused.placement, isinstance(refused.error, NotFound)) == (first.request_id, "nowhere", True)


def test_many_users_are_answered_each_by_itself(make_engine):
    """In their order, with request ids of their own; none and too many are refused."""

    async def play(engine):
        recorded = await engine.record(three_items())
        ask = Ask(min_log_position=engine.token(recorded.log_position))
        many = await engine.recommend_many([structs.replace(ask, user_id=each) for each in ("bob", "eve")])
        for count in (0, 101):
            with pytest.raises(RequestInvalid):
                await engine.recommend_many([ask] * count)
        return many

    many = run(make_engine, play)
    assert [len(each.items) for each in many] == [3, 3]
    assert [each.read_your_writes for each in many] == [True, True]
    assert many[0].request_id != many[1].request_id


def test_each_user_of_a_body_is_answered_in_turn(make_engine):
    """By a compiled plan or not, in their order; a placement that is not configured is refused before any."""

    async def play(engine):
        recorded = await engine.record(three_items())
        body = BatchBody(users=("bob", "eve"), n=3, min_log_position=engine.token(recorded.log_position))
        found = [(each.request_id, each.read_your_writes) async for each in engine.encoded_slates(body, "default")]
        with pytest.raises(NotFound):
            await anext(engine.encoded_slates(body, "nowhere"))
        return found

    found = run(make_engine, play)
    assert len(dict(found)) == 2
    assert [read_your_writes for _, read_your_writes in found] == [True, True]
