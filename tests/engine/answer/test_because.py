"""Rows of a page that go by the visitor's own items: the newest first, another one in each row, named and rerun."""

from functools import partial

from msgspec.structs import replace

from midstream.core.errors import NotFound, RequestInvalid
from midstream.core.types import LogPosition, Moment, Query
from midstream.engine.types import Answer, Ask, SlateRefused
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.plan import Plan
from midstream.state.fold import Fold
from tests.support.patience import PATIENCE_S
from tests.support.rig import SMALL, Rig, view


def row(*actions, n=2, **more):
    """Return what is asked of a row."""
    return Ask("similar", because=actions, n=n, **more)


async def filled(rig: Rig) -> None:
    """Visitors who go on from each item to the next two, and one with acts of her own."""
    for number in range(8):
        steps = [view(f"i{(number + step) % 8}", f"u{number}", session_id=f"s{number}") for step in range(3)]
        await rig.engine.record(rig.batch(*steps))
    own = [view("i1", session_id="a"), view("i4", session_id="a"), view("i6", session_id="a")]
    bought = {"type": "purchase", "user_id": "ann", "item_id": "i2", "session_id": "a"}
    disliked = {"type": "dismiss", "user_id": "ann", "item_id": "i7", "session_id": "a"}
    await rig.engine.record(rig.batch(own[0], bought, *own[1:], disliked))


def test_each_row_goes_by_another_item_of_the_visitor() -> None:
    """The newest first, of the named actions; items of all rows are distinct; the row's own item is in none."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        engine = rig.engine
        asks = [row(), row("purchase"), row("view"), row(), row()]
        asks = [replace(each, user_id="ann") for each in asks]
        page = await engine.page(asks)
        rows = [each for each in page.slates if isinstance(each, Answer)]
        assert [each.because for each in rows] == ["i6", "i2", "i4", "i1"]
        items = [item.id for each in rows for item in each.items]
        assert len(set(items)) == len(items)
        assert all(each.because not in [item.id for item in each.items] for each in rows)
        (last,) = [each for each in page.slates if isinstance(each, SlateRefused)]
        assert isinstance(last.error, NotFound)
        engine.flush_served()
        await engine.reached(LogPosition(engine.log.end + 4), PATIENCE_S)
        for each in rows:
            record = engine.served(each.request_id)
            assert record is not None
            assert record.query.items[-1] == each.because
            plan, fold = engine.plan(record.query.placement), engine.fold
            again = await rerun(plan, partial(moment_of, fold, plan), record)
            chosen = again.candidates.item_index[again.selection.chosen]
            assert fold.vocabulary.item_ids(chosen) == [item.id for item in each.items]

    Rig(config=SMALL).run(work)


def moment_of(fold: Fold, plan: Plan, query: Query) -> Moment:
    """Return what a plan reads of a fold for a query."""
    return fold.moment(query, plan.models)


def test_a_deleted_item_is_passed_by_and_a_session_stands_for_a_visitor_without_an_id() -> None:
    """Of a session it is not known how it acted, so named actions find nothing there."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        engine = rig.engine
        await engine.record(rig.batch({"type": "item", "item_id": "i6", "operation": "delete"}))
        ((found,),) = [(await engine.page([row(user_id="ann")])).slates]
        assert isinstance(found, Answer)
        assert found.because == "i4"
        steps = [{"type": "view", "session_id": "anon", "item_id": name} for name in ("i3", "i5")]
        await engine.record(rig.batch(*steps))
        page = await engine.page([row(session_id="anon"), row("view", session_id="anon"), row(session_id="anon")])
        assert [getattr(each, "because", None) for each in page.slates] == ["i5", None, "i3"]

    Rig(config=SMALL).run(work)


def test_a_wrong_action_is_pointed_at_and_a_first_act_may_come_along() -> None:
    """The other rows have their slates; what is checked before its events are there chooses no item."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        engine = rig.engine
        page = await engine.page([row("vieew", user_id="ann"), row(user_id="ann")])
        assert isinstance(page.slates[0], SlateRefused)
        error = page.slates[0].error
        assert isinstance(error, RequestInvalid)
        assert error.faults[0].where == "/placements/0/because/actions/0"
        assert 'Nearest: "view"' in error.faults[0].came
        engine.check_page([row(user_id="new")])
        await engine.record(rig.batch(view("i5", "new")))
        (slate,) = (await engine.page([row(user_id="new")])).slates
        assert isinstance(slate, Answer)
        assert slate.because == "i5"
        plain = await engine.recommend(Ask("similar", about="i5"))
        assert plain.because == ""

    Rig(config=SMALL).run(work)
