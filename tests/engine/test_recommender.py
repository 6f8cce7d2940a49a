"""The Python API lets go of its folder however it is left."""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from midstream.app.opening import open_running, open_shop
from midstream.core.errors import MidstreamError, RequestInvalid
from midstream.engine import engine as engine_module
from midstream.engine import recommender as shop_module
from midstream.engine.instance import Instance
from midstream.engine.recommender import Recommender
from tests.support.patience import PATIENCE_S
from tests.support.rig import SMALL

NOT_OPEN = "the shop is not open: use it inside a with block"


def test_a_shop_that_was_never_entered_can_be_closed(tmp_path: Path) -> None:
    """Closing returns, a second time too, and the folder can be opened again."""
    shop = open_shop(tmp_path, SMALL)

    def close() -> None:
        shop.close()
        shop.close()

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    with open_shop(tmp_path, SMALL) as again:
        assert again.recommend().items == ()


def test_a_start_that_fails_lets_go_of_the_folder(tmp_path, monkeypatch):
    """The failure is told, the thread is gone, and the folder can be opened again."""

    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(engine_module, "warm_up", fail)
    shop = open_shop(tmp_path, SMALL)
    with pytest.raises(ZeroDivisionError):
        shop.__enter__()
    assert not shop._thread.is_alive()
    shop.close()
    monkeypatch.undo()
    with open_shop(tmp_path, SMALL) as again:
        assert again.recommend().items == ()


def test_a_stop_that_fails_lets_go_of_the_folder(tmp_path, monkeypatch):
    """The failure is told, what was recorded is there, and the folder can be opened again."""
    shop = open_shop(tmp_path, SMALL)
    stop = shop.running.engine.stop

    async def fail() -> None:
        await stop()
        raise ZeroDivisionError

    monkeypatch.setattr(shop.running.engine, "stop", fail)
    with pytest.raises(ZeroDivisionError), shop:
        shop.record({"type": "view", "user_id": "ann", "item_id": "a"})
    assert not shop._thread.is_alive()
    with open_shop(tmp_path, SMALL) as again:
        assert [item.id for item in again.recommend().items] == ["a"]


@pytest.mark.parametrize("step", ["start", "stop"])
def test_a_server_whose_engine_fails_lets_go_of_the_folder(tmp_path, monkeypatch, step):
    """So does what other programs open: the log is closed, whichever step failed."""
    running = open_running(tmp_path, SMALL)
    stop = running.engine.stop

    async def fail() -> None:
        if step == "stop":
            await stop()
        raise ZeroDivisionError

    monkeypatch.setattr(running.engine, step, fail)

    async def work() -> None:
        await running.start()
        await running.stop()

    with pytest.raises(ZeroDivisionError):
        asyncio.run(work())
    open_running(tmp_path, SMALL).engine.log.close()


def test_outside_of_its_block_it_says_so(tmp_path):
    """Before and after the with block a call fails at once; it does not wait for a thread that does not run."""
    shop = open_shop(tmp_path, SMALL)
    for _ in range(2):
        for call in (shop.recommend, lambda: shop.record([]), lambda: shop.item("a")):
            with pytest.raises(RuntimeError, match="with block"):
                call()
        shop.close()


def test_calls_of_other_threads_end_when_the_shop_is_closed(tmp_path: Path) -> None:
    """Whatever they are at: they have their answers or are told that it is closed; none waits for ever."""
    found: list[str] = []

    def call(shop: Recommender, number: int) -> None:
        try:
            while True:
                with suppress(MidstreamError):  # refused by an engine that stops: that is an answer
                    if number % 2:
                        shop.recommend(user_id="ann")
                    else:
                        shop.record({"type": "view", "user_id": "ann", "item_id": f"i{number}"})
        except RuntimeError as error:
            found.append(str(error))

    with open_shop(tmp_path, SMALL) as shop:
        threads = [threading.Thread(target=call, args=(shop, number), daemon=True) for number in range(8)]
        for each in threads:
            each.start()
        shop.record({"type": "view", "user_id": "ann", "item_id": "lamp"})
    for each in threads:
        each.join(PATIENCE_S)
        assert not each.is_alive()
    assert len(found) == len(threads)
    assert set(found) <= {NOT_OPEN, "the shop was closed before this was done"}
    with pytest.raises(RuntimeError, match="not open"):
        shop.recommend(user_id="ann")


def test_what_still_runs_is_ended_with_the_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that would wait for long is told, and a task of the engine lets go of what it holds, also its child."""
    ended: list[str] = []
    begun = threading.Event()

    async def wait(*_: object) -> None:
        begun.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            await asyncio.sleep(0.01)
            ended.append("let go")

    shop = open_shop(tmp_path, SMALL)
    monkeypatch.setattr(shop.running.engine, "erase", wait)
    told: list[BaseException] = []

    def call() -> None:
        try:
            shop.erase("ann")
        except RuntimeError as error:
            told.append(error)

    with shop:
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        assert begun.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert ended == ["let go"]
    assert [str(each) for each in told] == ["the shop was closed before this was done"]


def test_a_close_beside_a_start_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both end, whichever comes first, and the folder is free."""
    for number in range(5):
        shop = open_shop(tmp_path / str(number), SMALL)
        begun, start = threading.Event(), shop.running.start

        async def slowly(_: Instance, begun: threading.Event = begun, start: Any = start) -> None:
            begun.set()
            await start()

        monkeypatch.setattr(Instance, "start", slowly)
        entering = threading.Thread(target=shop.__enter__, daemon=True)
        entering.start()
        assert begun.wait(PATIENCE_S)
        closing = [threading.Thread(target=shop.close, daemon=True) for _ in range(2)]
        for each in closing:
            each.start()
        for each in (entering, *closing):
            each.join(PATIENCE_S)
            assert not each.is_alive()
        monkeypatch.undo()
        open_running(tmp_path / str(number), SMALL).engine.log.close()


def test_who_closes_second_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When any close has returned the folder can be opened again."""
    shop = open_shop(tmp_path, SMALL)
    stopping, go_on, stop = threading.Event(), threading.Event(), shop.running.stop

    async def slowly(_: Instance) -> None:
        stopping.set()
        await asyncio.to_thread(go_on.wait, PATIENCE_S)
        await stop()

    monkeypatch.setattr(Instance, "stop", slowly)
    shop.__enter__()
    first = threading.Thread(target=shop.close, daemon=True)
    first.start()
    assert stopping.wait(PATIENCE_S)
    threading.Timer(0.1, go_on.set).start()
    shop.close()
    open_running(tmp_path, SMALL).engine.log.close()
    first.join(PATIENCE_S)


def test_a_task_that_will_not_end_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked to end again and again, and left behind after a maximum."""
    monkeypatch.setattr(shop_module, "END_S_MAX", 0.2)
    asked: list[int] = []

    async def stay() -> None:
        while len(asked) < 1_000_000:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                asked.append(1)

    async def begin(*_: object) -> list[asyncio.Task[None]]:
        return [asyncio.get_running_loop().create_task(stay())]

    shop = open_shop(tmp_path, SMALL)
    monkeypatch.setattr(shop.running.engine, "erase", begin)
    with shop:
        task = shop.erase("ann")[0]  # type: ignore[index]
    assert asked
    task._log_destroy_pending = False  # it is meant to be there


def test_a_component_cannot_wait_for_its_own_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for itself: it is told so, and the shop goes on."""
    shop = open_shop(tmp_path, SMALL)

    async def call(*_: object) -> None:
        for act in (shop.close, lambda: shop.recommend(user_id="ann")):
            with pytest.raises(RuntimeError, match="cannot wait for the shop"):
                act()

    monkeypatch.setattr(shop.running.engine, "erase", call)
    with shop:
        shop.erase("ann")
        shop.record({"type": "view", "user_id": "ann", "item_id": "lamp"})


def test_a_single_event_needs_no_list(tmp_path):
    """As in the body of a request."""
    with open_shop(tmp_path, SMALL) as shop:
        assert shop.record({"type": "view", "user_id": "ann", "item_id": "a"}).log_position == 1


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop with some items."""
    with open_shop(tmp_path_factory.mktemp("shop"), SMALL) as one:
        one.record([{"type": "view", "user_id": "ann", "item_id": f"i{n}"} for n in range(4)])
        yield one


@pytest.mark.parametrize(
    "request_fields,where",
    [
        ({"placement": "\ud800"}, "/placement"),
        ({"placement": []}, "/placement"),
        ({"user_id": "\ud800"}, "/user_id"),
        ({"user_id": 5}, "/user_id"),
        ({"user_id": "x" * 129}, "/user_id"),
        ({"session_id": b"s"}, "/session_id"),
        ({"items": "i2"}, "/items"),
        ({"items": {"i2"}}, "/items"),
        ({"items": ("i1", "\ud800")}, "/items/1"),
        ({"items": [5]}, "/items/0"),
        ({"exclude": "i2"}, "/exclude"),
        ({"exclude": 5}, "/exclude"),
        ({"exclude": [["i2"]]}, "/exclude/0"),
        ({"exclude": ["i2"] * 1_001}, "/exclude"),
        ({"fields": "price"}, "/fields"),
        ({"filter": 5}, "/filter"),
        ({"filter": "item.colour == '\ud800'"}, "/filter"),
        ({"context": [1]}, "/context"),
        ({"context": {"a": object()}}, "/context/a"),
        ({"context": {"a": None}}, "/context/a"),
        ({"context": {"a": [1]}}, "/context/a"),
        ({"context": {"a": float("nan")}}, "/context/a"),
        ({"context": {"a": 10**40}}, "/context/a"),
        ({"context": {"a": "\ud800"}}, "/context/a"),
        ({"context": {5: 1}}, "/context/5"),
        ({"n": "3"}, "/n"),
        ({"n": 2.5}, "/n"),
        ({"n": True}, "/n"),
    ],
)
def test_what_cannot_be_asked_is_refused(shop, request_fields, where):
    """A value of a wrong type, or that cannot be written, is refused in four parts and leaves the shop as it was."""
    with pytest.raises(RequestInvalid) as caught:
        shop.recommend(**request_fields)
    (fault,) = caught.value.faults
    assert fault.where == where
    assert fault.came
    assert fault.right
    assert fault.page == "/docs/http.md"
    str(fault).encode()
    assert shop.recommend().tier != "empty"


def test_what_means_the_same_is_taken(shop):
    """Lists, tuples, arrays, and sets where order does not count; NumPy's numbers; None as if it was not sent."""
    for two in (["i1", "i2"], ("i1", "i2"), {"i1", "i2"}, np.array(["i1", "i2"])):
        answer = shop.recommend(exclude=two, n=np.int64(2), context={"a": np.float32(1.5), "b": ""}, items=None)
        assert {item.id for item in answer.items} == {"i0", "i3"}


def test_items_are_ranked_pages_filled_and_many_users_answered(shop):
    """Each in one call; a placement of a page is a name or a dict of what it has for itself."""
    ranked = shop.rank(np.array(["i2", "nobody", "i1"]), user_id="bob", basket=["i0"])
    assert sorted(item.id for item in ranked.items) == ["i1", "i2"]
    assert [(each.id, each.filter) for each in ranked.removed] == [("nobody", "unknown")]
    page = shop.page(["default", {"placement": "default", "n": 1}], user_id="bob", exclude=["i0"])
    assert [len(slate.items) for slate in page.slates] == [3, 0]
    page = shop.page([{"placement": "default", "n": 1, "exclude": ["i3"]}, "default"], exclude=["i0"])
    assert len({item.id for slate in page.slates for item in slate.items}) == 3
    assert page.slates[0].items[0].id in {"i1", "i2"}
    answers = shop.recommend_many(["ann", "bob"], n=2)
    assert [len(each.items) for each in answers] == [2, 2]


@pytest.mark.parametrize(
    "call,where",
    [
        (lambda shop: shop.rank("i1"), "/items"),
        (lambda shop: shop.rank(["i1", 5]), "/items/1"),
        (lambda shop: shop.rank(["i1", "i2", "i1"]), "/items/2"),
        (lambda shop: shop.rank([]), "/items"),
        (lambda shop: shop.rank(["i1"], basket="i1"), "/basket"),
        (lambda shop: shop.page("default"), "/placements"),
        (lambda shop: shop.page([]), "/placements"),
        (lambda shop: shop.page(["default", 5]), "/placements/1/placement"),
        (lambda shop: shop.page(["default", {"n": 1}]), "/placements/1/placement"),
        (lambda shop: shop.page([{"placement": "default", "n": "1"}]), "/placements/0/n"),
        (lambda shop: shop.page([{"placement": "default", "user_id": "a"}]), "/placements/0/user_id"),
        (lambda shop: shop.page(["default"], user_id=5), "/user_id"),
        (lambda shop: shop.recommend_many("ann"), "/users"),
        (lambda shop: shop.recommend_many([]), "/users"),
        (lambda shop: shop.recommend_many(["ann", ""]), "/users/1"),
        (lambda shop: shop.recommend_many(["ann"] * 101), "/users"),
    ],
)
def test_what_cannot_be_asked_in_any_shape_is_pointed_at(shop, call, where):
    """As over HTTP."""
    with pytest.raises(RequestInvalid) as caught:
        call(shop)
    assert [fault.where for fault in caught.value.faults] == [where]
    assert caught.value.faults[0].page == "/docs/http.md"


@pytest.mark.parametrize("name", ["\ud800", 5, None, b"a", ""])
def test_what_is_no_id_is_refused(shop, name):
    """Lookups say so too."""
    for look_up in (shop.item, shop.user):
        with pytest.raises(RequestInvalid):
            look_up(name)


@pytest.mark.parametrize("events", [5, None, "view", b"{}", [5], [None], {5: 1}, [{"type": "\ud800"}]])
def test_what_is_no_event_is_refused(shop, events):
    """Whatever it is."""
    with pytest.raises(RequestInvalid) as caught:
        shop.record(events)
    assert caught.value.faults[0].page == "/docs/events.md"


class Framed:
    """A table of another library, as pandas and Polars hand theirs over."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def test_a_table_is_recorded_like_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pyarrow or of any library that speaks its stream, in parts; an index of pandas is no field."""
    monkeypatch.setattr("midstream.events.dataframe_input.PIECE_EVENTS", 7)
    rows = [
        {"type": "view", "event_id": f"e{n}", "user_id": f"u{n % 3}", "item_id": "mug", "__index_level_0__": n}
        for n in range(20)
    ]
    table = pa.Table.from_pylist(rows)
    with open_shop(tmp_path, SMALL) as shop:
        assert shop.record(Framed(table)).outcome.tolist() == [0] * 20
        again = shop.record(table.to_batches()[0])
        assert again.outcome.tolist() == [1] * 20
        assert again.log_position == 20
        rows[13]["item_id"] = ""
        for wrong in (pa.Table.from_pylist(rows), pa.table({"type": ["view"], "uzer_id": ["a"]})):
            with pytest.raises(RequestInvalid) as refused:
                shop.record(wrong)
            assert refused.value.faults[0].where in {"row 14: /item_id", "column uzer_id"}
        assert shop.record(table.slice(0, 0)).outcome.tolist() == []


@pytest.mark.parametrize(
    "sent, where",
    [
        ({"a": {"score": "high"}}, "/item_fields/a/score"),
        ({"a": {"score": float("nan")}}, "/item_fields/a/score"),
        ({"a": {"score": True}}, "/item_fields/a/score"),
        ({"a": 0.5}, "/item_fields/a"),
        ({"a": {f"f{number}": 1.0 for number in range(17)}}, "/item_fields/a"),
        ({3: {"score": 1.0}}, "/item_fields/3"),
        ([("a", 1.0)], "/item_fields"),
        ({f"i{number}": {} for number in range(1_001)}, "/item_fields"),
    ],
)
def test_what_a_caller_says_of_items_is_checked(tmp_path, sent, where):
    """Numbers by name by id, so many and no more; NumPy's are taken for what they mean."""
    with open_shop(tmp_path, SMALL) as shop:
        with pytest.raises(RequestInvalid) as caught:
            shop.recommend(item_fields=sent)
        assert [fault.where for fault in caught.value.faults] == [where]
        numbers: Any = {"score": np.float32(0.5), "place": np.int64(3)}
        assert shop.recommend(item_fields={"a": numbers}).items == ()


def test_features_are_read_from_python(tmp_path):
    """Names and a float32 array of what was recorded; what has the wrong form is refused as everywhere."""
    (tmp_path / "midstream.toml").write_text('[[features]]\nname = "views"\nkind = "count"\nactions = ["view"]\n')
    with open_shop(tmp_path) as shop:
        shop.record({"type": "view", "user_id": "ann", "item_id": "lamp"})
        read = shop.features(["lamp", "mug"], user_id="ann", features=("views",))
        assert (read.names, read.items) == (("views",), ("lamp", "mug"))
        assert read.values.dtype == np.float32
        np.testing.assert_array_equal(read.values, np.array([[1], [np.nan]], np.float32))
        wrong: Any = "lamp"
        for ask, where in (({"items": wrong}, "/items"), ({"items": [], "features": ["vews"]}, "/features/0")):
            with pytest.raises(RequestInvalid) as caught:
                shop.features(**ask)
            assert [fault.where for fault in caught.value.faults] == [where]
