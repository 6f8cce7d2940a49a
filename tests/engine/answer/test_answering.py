"""Rankings, pages and many users through the whole engine: what is on record comes out the same again."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest

from midstream.app.config.schema import Placement
from midstream.core.durations import Duration
from midstream.core.errors import MidstreamError, NotFound, RequestInvalid
from midstream.core.types import Moment, Proposal
from midstream.engine.answer.compiled_slates import Stamp
from midstream.engine.engine import Engine
from midstream.engine.types import Answer, Ask, PageAnswer, Removal, SlateRefused
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.record.served import ServedRecord
from midstream.retrieval.catalogue import Catalogue
from midstream.retrieval.session_knn import SessionKnn
from tests.support.patience import PATIENCE_S
from tests.support.rig import SMALL, Rig, view

ITEMS = tuple(f"i{number}" for number in range(12))
CONFIG = msgspec.structs.replace(
    SMALL, placements=(Placement(name="top", slate_size=3), Placement(name="row", slate_size=4, repeats="none"))
)


async def filled(rig: Rig) -> None:
    """Some visitors, who go on from item to item, and one item that is not available."""
    for visitor in range(9):
        seen = [view(ITEMS[(visitor + step) % 12], user=f"u{visitor}", session_id=f"s{visitor}") for step in range(4)]
        await rig.engine.record(rig.batch(*seen))
    gone = {"type": "item", "operation": "put", "item_id": "i5", "attributes": {"available": False}}
    await rig.engine.record(rig.batch(gone))


async def record_of(engine: Engine, answer: Answer) -> ServedRecord:
    """The record of an answer, once it is in the log."""
    engine.flush_served()
    async with asyncio.timeout(PATIENCE_S):
        while (record := engine.served(answer.request_id)) is None:  # noqa: ASYNC110  the log tells nobody
            await asyncio.sleep(0)
    return record


async def require_same_again(engine: Engine, answer: Answer) -> None:
    """The record of an answer alone gives the same slate."""
    record = await record_of(engine, answer)
    plan, fold = engine.plan(record.query.placement), engine.fold
    again = await rerun(plan, lambda query: fold.moment(query, plan.models), record)
    ids = fold.vocabulary.item_ids(again.candidates.item_index[again.selection.chosen])
    assert ids == [each.id for each in record.items] == [each.id for each in answer.items]
    scores = [each.score for each in record.items]
    assert again.score[again.selection.chosen].tolist() == scores == [each.score for each in answer.items]
    assert again.removed == record.removed


def answers_of(page: PageAnswer) -> list[Answer]:
    """The slates of a page that has them all."""
    found = [each for each in page.slates if isinstance(each, Answer)]
    assert len(found) == len(page.slates)
    return found


def test_a_ranking_names_each_item_and_is_on_record() -> None:
    """Ranked, removed by name in the caller's order, or counted; the record has what was given."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        ask = Ask("top", user_id="u1", given=("i5", "i9", "nobody", "i2", "i7"), exclude=("i7",))
        answer = await rig.engine.recommend(ask)
        assert sorted(each.id for each in answer.items) == ["i2", "i9"]
        gone = (Removal("i5", "available"), Removal("nobody", "unknown"), Removal("i7", "excluded"))
        assert (answer.removed, answer.not_selected) == (gone, 0)
        one = await rig.engine.recommend(Ask("top", given=ITEMS, n=1))
        assert (len(one.items), len(one.removed), one.not_selected) == (1, 1, 10)
        assert (await record_of(rig.engine, answer)).query.given == ask.given

    Rig(config=CONFIG).run(work)


@pytest.mark.parametrize(
    "given,n,wheres",
    [
        (("a", "b", "a", "a"), None, ("/items/2", "/items/3")),
        ((), None, ("/items",)),
        (tuple(map(str, range(1_001))), None, ("/items",)),
        (("a",), 1_001, ("/n",)),
        (("a",), -1, ("/n",)),
    ],
)
def test_a_ranking_that_cannot_be_made_is_pointed_at(given: tuple[str, ...], n: int | None, wheres: object) -> None:
    """Items that come twice, none, too many, and places that there are not."""

    async def work(rig: Rig) -> None:
        with pytest.raises(RequestInvalid) as found:
            await rig.engine.recommend(Ask("top", given=given, n=n))
        assert tuple(fault.where for fault in found.value.faults) == wheres

    Rig(config=CONFIG).run(work)


def test_the_slates_of_a_page_share_no_item_and_each_record_stands_for_itself() -> None:
    """One log position, one page id, and what was taken before; nothing else is needed to answer again."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        asks = [Ask("top", user_id="u1"), Ask("row", user_id="u1"), Ask("top", user_id="u1", n=2)]
        page = await rig.engine.page(asks)
        slates = answers_of(page)
        ids = [item.id for slate in slates for item in slate.items]
        assert len(set(ids)) == len(ids) == 3 + 4 + 2
        assert len({slate.applied_log_position for slate in slates}) == 1
        assert len({slate.request_id for slate in slates}) == 3
        assert page.page_id == slates[0].request_id
        shown: list[str] = []
        for slate in slates:
            record = await record_of(rig.engine, slate)
            assert (record.query.page_id, record.query.taken) == (page.page_id, tuple(shown))
            shown += [item.id for item in slate.items]

    Rig(config=CONFIG).run(work)


@pytest.mark.parametrize(
    "sizes,where,came,right",
    [
        ([100, 100, 1], "/placements/2/n", "1 items came to 200 of the slates before.", "here at most 0"),
        ([100, 99, 2], "/placements/2/n", "2 items came to 199 of the slates before.", "here at most 1"),
        ([*[100] * 2, None], "/placements/2/n", "3 items came to 200 of the slates before.", "here at most 0"),
    ],
)
def test_a_page_has_at_most_200_items(sizes: list[int | None], where: str, came: str, right: str) -> None:
    """The first slate that is too much is pointed at, whether it says how many it wants or its placement does."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        asks = [Ask("top", n=size) for size in sizes]
        with pytest.raises(RequestInvalid) as answered:
            await rig.engine.page(asks)
        with pytest.raises(RequestInvalid) as checked:
            rig.engine.check_page(asks)
        for refused in (answered, checked):
            (fault,) = refused.value.faults
            assert (fault.where, fault.came, fault.page) == (where, came, "/docs/http.md")
            assert right in fault.right
        assert len((await rig.engine.page([Ask("top", n=100), Ask("top", n=100)])).slates) == 2

    Rig(config=CONFIG).run(work)


@pytest.mark.parametrize("size", [3, 40])
def test_a_record_without_the_catalogue_comes_out_the_same_again(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """What failed is left out when it runs again, and what it would have found with it."""

    def fails(*_: object) -> Proposal:
        raise ValueError("torn")

    async def work(rig: Rig) -> None:
        await filled(rig)
        new = [{"type": "item", "operation": "put", "item_id": f"n{n}", "attributes": {}} for n in range(9)]
        await rig.engine.record(rig.batch(*new))
        with monkeypatch.context() as patch:
            patch.setattr(Catalogue, "retrieve", fails)
            answer = await rig.engine.recommend(Ask("top", n=size, user_id="u1"))
        assert [each.component for each in answer.failures] == (["catalogue"] if size > 11 else [])
        await require_same_again(rig.engine, answer)

    Rig(config=CONFIG).run(work)


def test_answers_of_all_shapes_say_why() -> None:
    """Each slate explains its own items and gives each a reason."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        why: dict[str, Any] = {"explain": True, "reasons": "en"}
        ranked = await rig.engine.recommend(Ask("row", user_id="u2", given=ITEMS[:6], **why))
        page = await rig.engine.page([Ask(name, user_id="u2", **why) for name in ("top", "row", "top")])
        many = await rig.engine.recommend_many([Ask("row", user_id=f"u{number}", **why) for number in range(3)])
        every = [ranked, *answers_of(page), *(each for each in many if isinstance(each, Answer))]
        assert len(every) == 7
        for answer in every:
            assert answer.explanation is not None
            assert answer.unexplained == {}
            assert answer.explanation.request_id == answer.request_id
            assert [each.id for each in answer.explanation.items] == [each.id for each in answer.items]
            assert all(each.parts is not None for each in answer.explanation.items)
            assert all(each.reason for each in answer.items)
        assert ranked.items
        assert sum(map(len, (each.items for each in answers_of(page)))) == 10
        plain = await rig.engine.page([Ask("top", user_id="u2")])
        assert [each.explanation for each in answers_of(plain)] == [None]

    Rig(config=CONFIG).run(work)


def test_what_cannot_be_explained_is_refused_whatever_the_shape() -> None:
    """A language that there is not, and a ranking with more places than a slate has."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        long = tuple(f"i{number}" for number in range(101))
        wrong: list[tuple[Callable[[], Awaitable[object]], str]] = [
            (lambda: rig.engine.recommend(Ask("row", given=long, explain=True)), "/explain"),
            (lambda: rig.engine.recommend(Ask("row", given=long, reasons="eo")), "/reasons"),
            (lambda: rig.engine.page([Ask("row", reasons="eo"), Ask("top", reasons="eo")]), "/reasons"),
            (lambda: rig.engine.recommend_many([Ask("row", user_id="u1", reasons="eo")]), "/reasons"),
        ]
        for ask, where in wrong:
            with pytest.raises(RequestInvalid) as refused:
                await ask()
            assert [each.where for each in refused.value.faults] == [where]
        assert (await rig.engine.recommend(Ask("row", given=long, n=100, explain=True))).explanation is not None

    Rig(config=CONFIG).run(work)


def test_records_of_all_shapes_come_out_the_same_again() -> None:
    """On the state that they saw, which is still there."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        ranked = await rig.engine.recommend(Ask("row", user_id="u2", given=ITEMS))
        page = await rig.engine.page([Ask("top", user_id="u2"), Ask("row", user_id="u2"), Ask("top", user_id="u2")])
        many = await rig.engine.recommend_many([Ask("row", user_id=f"u{number}") for number in range(3)])
        every = [ranked, *answers_of(page), *(each for each in many if isinstance(each, Answer))]
        assert len(every) == 7
        for answer in every:
            await require_same_again(rig.engine, answer)

    Rig(config=CONFIG).run(work)


def test_equal_sources_are_asked_once_for_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both placements have the same; alone each is asked for itself."""
    asked: Counter[str] = Counter()
    retrieve = SessionKnn.retrieve

    def counted(self: SessionKnn, moment: Moment) -> Proposal:
        asked["session_knn"] += 1
        return retrieve(self, moment)

    monkeypatch.setattr(SessionKnn, "retrieve", counted)

    async def work(rig: Rig) -> None:
        await filled(rig)
        asked.clear()
        await rig.engine.page([Ask("top", user_id="u1"), Ask("row", user_id="u1"), Ask("top", user_id="u1")])
        assert asked == {"session_knn": 1}
        await rig.engine.recommend(
            Ask("top", user_id="u1", given=ITEMS)
        )  # the kernel asks no component, for no ranking
        assert asked == {"session_knn": 2}

    Rig(config=CONFIG).run(work)


def test_a_slate_that_cannot_be_made_is_named_and_the_others_are_there() -> None:
    """Its error points into the list; a page without any slate is refused by the first."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        page = await rig.engine.page([Ask("nowhere"), Ask("top"), Ask("row", filter="price <"), Ask("row", n=500)])
        nowhere, top, bad, large = page.slates
        assert isinstance(top, Answer)
        assert page.page_id == top.request_id
        assert isinstance(nowhere, SlateRefused)
        assert isinstance(nowhere.error, NotFound)
        for refused, where in ((bad, "/placements/2/filter"), (large, "/placements/3/n")):
            assert isinstance(refused, SlateRefused)
            assert isinstance(refused.error, RequestInvalid)
            assert refused.error.faults[0].where == where
        with pytest.raises(NotFound, match="'nowhere'"):
            await rig.engine.page([Ask("nowhere"), Ask("elsewhere")])
        for count in (0, 17):
            with pytest.raises(RequestInvalid) as found:
                await rig.engine.page([Ask("top")] * count)
            assert found.value.faults[0].where == "/placements"

    Rig(config=CONFIG).run(work)


def test_a_page_has_the_time_of_its_longest_placement() -> None:
    """Of those that are configured, unless the first question says for itself how long it waits."""
    slow = Placement(name="slow", slate_size=3, deadline=Duration("90ms"))
    config = msgspec.structs.replace(CONFIG, placements=(*CONFIG.placements, slow))

    async def work(rig: Rig) -> None:
        deadline_s = rig.engine._answering._deadline_s
        assert deadline_s([Ask("top"), Ask("nowhere"), Ask("slow"), Ask("row")]) == pytest.approx(0.09)
        assert deadline_s([Ask("slow", deadline_ms=20), Ask("slow")]) == pytest.approx(0.02)
        assert deadline_s([Ask("slow")]) == pytest.approx(0.09)

    Rig(config=config, monotonic=lambda: 5.0).run(work)


def test_many_users_are_answered_as_one_by_one() -> None:
    """The same slates; what is wrong with the question is refused once, before anybody is answered."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        users = [f"u{number}" for number in range(8)]
        many = await rig.engine.recommend_many([Ask("row", user_id=user) for user in users])
        alone = [await rig.engine.recommend(Ask("row", user_id=user)) for user in users]
        assert [slate_of(each) for each in many] == [slate_of(each) for each in alone]
        assert len({str(slate_of(each)) for each in alone}) > 1
        before = rig.engine.metrics.text()
        for asks, error in (
            ([Ask("nowhere", user_id="u1")] * 2, NotFound),
            ([Ask("row", n=500)] * 2, RequestInvalid),
            ([], RequestInvalid),
            ([Ask("row")] * 101, RequestInvalid),
        ):
            with pytest.raises(error):
                await rig.engine.recommend_many(asks)
        assert rig.engine.metrics.text() == before

    Rig(config=CONFIG).run(work)


def slate_of(answer: Answer | MidstreamError) -> list[tuple[str, float]]:
    """What somebody gets."""
    assert isinstance(answer, Answer)
    return [(each.id, each.score) for each in answer.items]


def test_one_user_who_cannot_be_answered_takes_nobody_else_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error stands in the user's place."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        answering = rig.engine._answering
        recommend = answering.recommend

        async def failing(ask: Ask, stamp: Stamp | None = None) -> Answer:
            if ask.user_id == "u2":
                message = "not now"
                raise MidstreamError(message)
            return await recommend(ask, stamp)

        monkeypatch.setattr(answering, "recommend", failing)
        many = await rig.engine.recommend_many([Ask("row", user_id=f"u{number}") for number in range(4)])
        assert [isinstance(each, Answer) for each in many] == [True, True, False, True]
        assert str(many[2]) == "not now"

    Rig(config=CONFIG).run(work)


def test_others_have_their_turn_between_two_users() -> None:
    """Whoever comes while many are answered waits for one of them."""

    async def work(rig: Rig) -> None:
        await filled(rig)
        order: list[str] = []

        async def many() -> Sequence[object]:
            found = await rig.engine.recommend_many([Ask("row", user_id="u1")] * 20)
            order.append("many")
            return found

        async def other(name: str) -> None:
            await rig.engine.recommend(Ask("top"))
            order.append(name)

        batch = asyncio.create_task(many())
        await asyncio.sleep(0)
        await asyncio.gather(*(other(str(number)) for number in range(10)))
        assert order == [str(number) for number in range(10)], "all of them were answered before the last user was"
        await batch

    Rig(config=CONFIG).run(work)
