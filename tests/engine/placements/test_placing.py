"""What a preview does before it answers, and what nobody can say of a change, without a folder."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from midstream.app.wiring import plans
from midstream.core.errors import ConfigInvalid, RequestInvalid
from midstream.core.types import Query
from midstream.engine.placements import placing
from midstream.engine.placements.control_changes import Said, require_texts
from midstream.engine.placements.placing import PlacementParts, Placing, require_no_why
from midstream.engine.types import Ask
from midstream.ranking.pipeline import recommend
from tests.support.rig import SMALL, Rig, view

if TYPE_CHECKING:
    from midstream.engine.models.champions import Champions
    from midstream.engine.rebuild.rebuilder import Rebuilder


def placing_of(rig: Rig, drafted: object = None) -> Placing:
    """Placements of an engine, of which every draft is the same plan."""
    service = SimpleNamespace(settings=SMALL.fold_settings())
    parts = SimpleNamespace(draft=lambda *_: SimpleNamespace(plan=drafted), write=lambda _: None)
    rebuilder, champions = SimpleNamespace(service=service), SimpleNamespace(let_go=lambda _: None)
    return Placing(
        rig.engine, cast("Rebuilder", rebuilder), cast("PlacementParts", parts), cast("Champions", champions)
    )


def test_a_preview_warms_its_plan_up_before_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled or loaded for the first time is, on a thread of its own, before the loop answers with it."""
    steps: list[tuple[str, object]] = []
    drawn: list[tuple[int, int]] = []

    async def warmed(_: object, __: object, fresh: tuple[object, ...], *___: object) -> None:
        (plan,) = fresh
        steps.append(("warm", plan))

    async def answered(plan: Any, observe: Any, query: Query, *rest: Any) -> object:
        steps.append(("answer", plan.slate_size))
        drawn.append((query.seed, query.now_ms))
        return await recommend(plan, observe, query, *rest)

    monkeypatch.setattr(placing, "warm", warmed)
    monkeypatch.setattr(placing, "recommend", answered)

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(view("mug", event_id="1"), view("cup", event_id="2")))
        drafted = plans(SMALL)["default"]
        today = rig.engine.plan("default").slate_size
        preview = await placing_of(rig, drafted).preview("default", {}, Ask(user_id="bob"))
        assert steps == [("warm", drafted), ("answer", drafted.slate_size), ("answer", today)]
        assert drawn[0] == drawn[1]
        assert 0 <= drawn[0][0] < 1 << 63  # as a request has one
        assert preview.today is not None
        assert [each.id for each in preview.answer.items] == [each.id for each in preview.today.items] != []
        assert rig.engine.served(preview.answer.request_id) is None

    Rig().run(work)


@pytest.mark.parametrize(
    "ask, wheres",
    [
        (Ask(), ()),
        (Ask(explain=True), ("/question/explain",)),
        (Ask(reasons="en"), ("/question/reasons",)),
        (Ask(cursor="next"), ("/question/cursor",)),
        (Ask(explain=True, reasons="en", cursor=True), ("/question/explain", "/question/reasons", "/question/cursor")),
    ],
)
def test_a_preview_says_what_would_come_and_not_why(ask: Ask, wheres: tuple[str, ...]) -> None:
    """Every field that asks for more is named."""
    if not wheres:
        require_no_why(ask)
        return
    with pytest.raises(RequestInvalid) as refused:
        require_no_why(ask)
    assert tuple(each.where for each in refused.value.faults) == wheres


@pytest.mark.parametrize(
    "name, said, wheres",
    [
        ("home", Said(""), ("/author",)),
        ("home", Said("  "), ("/author",)),
        ("home", Said("an\x1bn"), ("/author",)),
        ("home", Said("ann", "one\ntwo\r\nthree"), ()),
        ("home", Said("ann", "one\rtwo"), ("/note",)),
        ("é" * 513, Said("ann", "x" * 1_025), ("/note", "name")),
        ("é" * 512, Said("a" * 1_024, "x" * 1_024), ()),
    ],
)
def test_a_change_has_an_author_and_texts_that_can_be_printed(name: str, said: Said, wheres: tuple[str, ...]) -> None:
    """Bounded in bytes; lines of a note may end, and nothing else in it may move a terminal."""
    faults: tuple[str, ...] = ()
    try:
        require_texts(name, said)
    except ConfigInvalid as refused:
        faults = tuple(each.where for each in refused.faults)
    assert faults == wheres
