"""Another configuration comes into service while events and requests go on, and nothing is lost on the way."""

import asyncio
import gc
import weakref
from pathlib import Path

import msgspec
import numpy as np
import pytest

from midstream.app.opening import open_shop
from midstream.core.errors import ConfigInvalid, RebuildRunning, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.child_process import Ended, WorkOrder
from midstream.engine.instance import Instance
from midstream.engine.snapshots import array_files, snapshots
from midstream.engine.snapshots.worker import SnapshotOrder
from midstream.engine.types import Ask, Outcome
from midstream.events.json.decode import decode_objects
from midstream.events.schema import event_at
from midstream.monitoring.fact_logger import FACT
from midstream.state.fold import Fold
from tests.support.fakes.rebuilds import digest_anew, rebuilt, run_folder, run_in_process, write_config
from tests.support.rig import Rig, view

HEAVY_VIEWS = "[events.types]\nview = { weight = 3.0 }\ncart = {}\n"
ONLY_NEWEST = "[snapshots]\nexplain_days = 0\n"
"""Of two snapshots at one position the first by its version stays for its hour, and versions differ from log to log."""


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children work on a thread of this process."""
    monkeypatch.setattr(child_process, "run", run_in_process)


async def record(running: Instance, *events: dict[str, object]) -> list[int]:
    """Record events on the terms that are in service; return the outcomes."""
    decoded = decode_objects(events, msgspec.structs.replace(running.service.accept, now_ms=running.engine.clock()))
    assert not decoded.rejected
    outcomes: list[int] = (await running.engine.record(decoded.batch)).outcome.tolist()
    return outcomes


async def begin_with(running: Instance, count: int = 300) -> None:
    """Record some acts on some items."""
    await record(
        running, *(view(f"i{number % 40}", f"u{number % 20}", event_id=f"b{number}") for number in range(count))
    )


def configuration(chance: np.random.Generator) -> str:
    """Return the text of a configuration in which any setting of the state may be another."""
    weights = "".join(
        f"{name} = {{ weight = {chance.choice((-1.0, 0.5, 1.0, 4.0))} }}\n"
        for name in ("cart", "purchase", "view")
        if name == "view" or chance.random() < 0.7
    )
    attributes = "".join(f'{name} = "{kind}"\n' for name, kind in ATTRIBUTES.items() if chance.random() < 0.5)
    unknown = chance.choice(("accept", "hold", "reject"))
    gap = chance.choice(("1m", "10m", "30m"))
    limits = (
        f"[limits]\nusers_max = {chance.choice((5, 100))}\nitems_max = {chance.choice((60, 200))}\n"
        f"click_items_max = {chance.choice((5, 20))}\nsessions_max = {chance.choice((4, 100))}\nevent_ids_max = 50000\n"
        "hot_items_max = 50\nnew_items_max = 10\n"
    )
    return (
        f'[events.types]\n{weights}[items]\nunknown_items = "{unknown}"\n[items.attributes]\n{attributes}'
        f'[sessions]\ngap = "{gap}"\n{limits}'
    )


ATTRIBUTES = {"price": "number", "category": "category", "tags": "tags"}


class Load:
    """Events and questions without an end, each of which must be taken and answered."""

    def __init__(self, running: Instance, chance: np.random.Generator) -> None:
        self._running = running
        self._chance = chance
        self.sent = 0
        self.acknowledged: set[str] = set()
        self.answers = 0

    async def record(self) -> None:
        """Send an act, or an item, and note that it was acknowledged."""
        number = self.sent = self.sent + 1
        item = f"i{self._chance.integers(90)}"
        event = view(item, f"u{self._chance.integers(30)}", event_id=f"e{number}")
        if self._chance.random() < 0.2:
            attributes = {"price": number % 7, "category": f"c{number % 3}", "tags": ["a", "b"]}
            event = {"type": "item", "item_id": item, "attributes": attributes, "event_id": f"e{number}"}
        if await record(self._running, event) == [Outcome.RECORDED]:
            self.acknowledged.add(f"e{number}")

    async def ask(self) -> None:
        """Ask for a slate, and see that every part of it answered."""
        answer = await self._running.engine.recommend(Ask(user_id=f"u{self._chance.integers(30)}", deadline_ms=10_000))
        assert not answer.failures
        self.answers += 1

    async def go_on(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.record()
            await self.ask()
            await asyncio.sleep(0.002)


@pytest.mark.usefixtures("in_process")
def test_twenty_changes_under_load(tmp_path: Path) -> None:
    """Each state is the fold of everything under its settings; no event is lost, and no request fails."""
    chance = np.random.default_rng(20)
    write_config(tmp_path, configuration(chance), "")

    async def work(running: Instance) -> None:
        loads = [Load(running, chance)]
        going_on = asyncio.ensure_future(loads[0].go_on())
        changes = 0
        while changes < 20:
            await asyncio.sleep(chance.random() * 0.05)
            write_config(tmp_path, configuration(chance), "")
            view = await running.rebuilder.order()
            if view.change != "state":
                continue
            view = await rebuilt(running)
            assert (view.state, view.reason) == ("done", "")
            assert running.engine.fold.settings == running.service.settings
            assert running.engine.fold.digest() == digest_anew(running)
            assert not going_on.done(), going_on.exception()
            changes += 1
        going_on.cancel()
        await asyncio.wait((going_on,))
        ids = {
            event_at(batch, row).event_id
            for _, batch in running.engine.log.read(LogPosition(0), 10_000_000)
            for row in range(len(batch))
            if batch.rows["kind"][row] != Kind.SERVED
        }
        assert loads[0].acknowledged <= ids
        assert loads[0].answers > 100

    run_folder(tmp_path, work)


def test_a_child_process_makes_the_new_state(tmp_path: Path) -> None:
    """With a real child; snapshots of both versions lie side by side until the new one is in service for good."""
    write_config(tmp_path, ONLY_NEWEST)

    async def work(running: Instance) -> None:
        await begin_with(running)
        assert running.snapshotter is not None
        assert await running.snapshotter.write(compare=True) is not None
        old = running.service.settings.version()
        write_config(tmp_path, HEAVY_VIEWS + ONLY_NEWEST)
        assert (await running.rebuilder.order()).change == "state"
        with pytest.raises(RebuildRunning, match="a rebuild to"):
            await running.rebuilder.order()
        found = await rebuilt(running)
        assert (found.state, found.reason, found.progress) == ("done", "", 1.0)
        assert running.engine.fold.digest() == digest_anew(running)
        folder = tmp_path / "data" / "snapshots"
        assert {snapshots.version_of(name) for name in snapshots.names(folder)} == {old, found.fold_version}
        await record(running, view("i1"))
        assert await running.snapshotter.write(compare=True) is not None
        assert running.snapshotter.mismatch == ""
        assert {snapshots.version_of(name) for name in snapshots.names(folder)} == {found.fold_version}

    run_folder(tmp_path, work)


@pytest.mark.usefixtures("in_process")
def test_nothing_is_rebuilt_when_nothing_changed(tmp_path: Path) -> None:
    """The same file, and one that says the same in other words."""
    write_config(tmp_path)

    async def work(running: Instance) -> None:
        state = running.engine.fold
        assert (await running.rebuilder.order()).change == "nothing"
        write_config(tmp_path, "# the default\n[sessions]\ngap = '30m'\n")
        assert (await running.rebuilder.order()).change == "nothing"
        assert running.engine.fold is state

    run_folder(tmp_path, work)


@pytest.mark.usefixtures("in_process")
def test_plans_are_swapped_at_once(tmp_path: Path) -> None:
    """A change of placements alone, or of the code of a component, needs no rebuild."""
    custom = '[[placements]]\nname = "home"\nsources = [{ kind = "custom", path = "parts:Mine" }]\n'
    code = (
        "import msgspec\nimport numpy as np\nfrom midstream.core.types import Candidates\n"
        "class Mine(msgspec.Struct, frozen=True):\n    name: str = 'mine'\n"
        "    def retrieve(self, moment):\n        return np.array([{}], dtype=np.int32), np.ones(1, dtype=np.float32)\n"
    )
    write_config(tmp_path)

    async def work(running: Instance) -> None:
        await begin_with(running)
        state = running.engine.fold
        write_config(tmp_path, "[[placements]]\nslate_size = 3\n[server]\nport = 9999\n")
        found = await running.rebuilder.order()
        assert (found.change, found.at_start) == ("plans", ("[server]",))
        assert len((await running.engine.recommend(Ask(placement="default"))).items) == 3
        assert running.engine.fold is state
        for number in (1, 2):
            (tmp_path / "parts.py").write_text(code.format(number))
            write_config(tmp_path, custom)
            assert (await running.rebuilder.order()).change == "plans"
            assert (await running.rebuilder.order()).change == "nothing"
        assert "default" not in running.engine.plans
        assert (await running.engine.recommend(Ask(placement="home"))).config_hash == running.config.config_hash

    run_folder(tmp_path, work)


@pytest.mark.usefixtures("in_process")
def test_a_file_that_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    """Every fault is named, the old configuration serves, and a right file is taken after it."""
    write_config(tmp_path)

    async def work(running: Instance) -> None:
        before = running.service
        write_config(tmp_path, "[sesions]\ngap = '1m'\n[events.types]\nview = { wait = 3 }\n")
        with pytest.raises(ConfigInvalid) as refused:
            await running.rebuilder.order()
        assert len(refused.value.faults) == 2
        await running.rebuilder.heed()
        assert "sesions" in running.engine.health().reason
        assert running.service is before
        write_config(tmp_path, HEAVY_VIEWS)
        await running.rebuilder.heed()
        assert "sesions" not in running.engine.health().reason
        assert (await rebuilt(running)).state == "done"

    run_folder(tmp_path, work)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    "is_folder, fields, detail",
    [
        (False, {"where", "right", "page", "faults"}, "secret"),
        (True, {"reason"}, "midstream.toml"),
    ],
)
def test_a_refused_file_is_in_the_log_and_what_stands_there_only_in_its_detail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_folder: bool, fields: set[str], detail: str
) -> None:
    """A line has the first fault's place and what would be right, or what the machine refused."""
    write_config(tmp_path)

    async def work(running: Instance) -> None:
        write_config(tmp_path, "[sessions]\ngap = 'secret'\n[sesions]\n")
        if is_folder:
            (tmp_path / "midstream.toml").unlink()
            (tmp_path / "midstream.toml").mkdir()
        with pytest.raises((ConfigInvalid, IsADirectoryError)):
            await running.rebuilder.order()

    run_folder(tmp_path, work)
    facts = [getattr(each, FACT) for each in caplog.records if hasattr(each, FACT)]
    (line,) = [each for each in facts if each.event == "configuration_refused"]
    assert set(line.fields) == fields
    assert line.fields.get("faults", 2) == 2
    assert line.fields.get("reason", "Is a directory") == "Is a directory"
    assert not any(detail in str(value) for value in line.fields.values() if value != line.fields.get("where"))
    assert detail in line.detail


@pytest.mark.parametrize("how", ["child", "disk", "snapshot", "fold", "thread"])
def test_whatever_ends_a_rebuild_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A killed child, a full disk, a damaged snapshot, a bug: it serves on, says why, and the next order works."""
    write_config(tmp_path)

    async def failing(module: str, order: WorkOrder, *_: object, **__: object) -> Ended:
        if how == "child":
            return Ended(b"", "its process ended with status -9")
        if how == "disk":
            return Ended(b"", "OSError: [Errno 28] No space left on device")
        done = await run_in_process(module, order)
        newest = tmp_path / "data" / "snapshots" / snapshots.names(tmp_path / "data" / "snapshots")[0]
        if how == "snapshot":
            (newest / "items.heat.npy").write_bytes(b"x")
        return done

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    async def work(running: Instance) -> None:
        await begin_with(running)
        before, state = running.service, running.engine.fold
        said: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["exception"]))
        write_config(tmp_path, HEAVY_VIEWS)
        with monkeypatch.context() as patch:
            patch.setattr(child_process, "run", failing)
            if how == "fold":
                patch.setattr(running.engine._folding, "bring_up", broken)
            if how == "thread":
                patch.setattr(running.rebuilder, "_loaded", broken)
            await running.rebuilder.order()
            found = await rebuilt(running)
        assert found.state == "failed"
        assert found.reason
        assert found.reason in running.engine.health().reason
        assert running.engine.health().accepts_events
        assert (running.service, running.engine.fold) == (before, state)
        assert len(said) == (how in {"fold", "thread"})
        await begin_with(running, 310)
        assert running.engine.fold.digest() == digest_anew(running)
        monkeypatch.setattr(child_process, "run", run_in_process)
        await running.rebuilder.order()
        assert (await rebuilt(running)).state == "done"
        assert running.engine.health().reason == ""
        assert running.engine.fold.digest() == digest_anew(running)

    run_folder(tmp_path, work)


@pytest.mark.usefixtures("in_process")
def test_a_state_is_loaded_by_one_thread_beside_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a start may use every core; a server that answers meanwhile keeps one for its answers."""
    write_config(tmp_path, "[events.types]\nview = {}\n")
    with open_shop(tmp_path) as shop:
        shop.record({"type": "view", "user_id": "ann", "item_id": "mug"})
        monkeypatch.setattr(array_files, "ThreadPoolExecutor", None)
        write_config(tmp_path, HEAVY_VIEWS)
        shop._wait(shop.running.rebuilder.order)
        assert shop._wait(lambda: rebuilt(shop.running)).state == "done"


@pytest.mark.usefixtures("in_process")
def test_the_terms_change_with_the_state(tmp_path: Path) -> None:
    """A type that the new file names is taken after the swap and not before, and the other way round."""
    write_config(tmp_path, "[events.types]\nview = {}\nlike = {}\n")
    with open_shop(tmp_path) as shop:
        shop.record({"type": "like", "user_id": "ann", "item_id": "mug"})
        with pytest.raises(RequestInvalid, match="not a type here"):
            shop.record({"type": "cart", "user_id": "ann", "item_id": "mug"})
        write_config(tmp_path, HEAVY_VIEWS)
        rebuilder = shop.running.rebuilder
        shop._wait(rebuilder.order)
        assert shop._wait(lambda: rebuilt(shop.running)).state == "done"
        shop.record({"type": "cart", "user_id": "ann", "item_id": "mug"})
        with pytest.raises(RequestInvalid, match="not a type here"):
            shop.record({"type": "like", "user_id": "ann", "item_id": "mug"})
        found = shop.user("ann")
        assert found is not None
        assert found["counts"] == {"cart": 1, "view": 0}


@pytest.mark.usefixtures("in_process")
def test_nobody_keeps_the_old_state(tmp_path: Path) -> None:
    """Not the engine, not what goes on beside it: after a swap nothing refers to the state of before."""
    write_config(tmp_path)

    async def work(running: Instance) -> None:
        await begin_with(running)
        assert running.snapshotter is not None
        await running.snapshotter.write(compare=True)
        await running.engine.recommend(Ask(user_id="u1"))
        running.engine.refresh_metrics()
        old = weakref.ref(running.engine.fold)
        write_config(tmp_path, HEAVY_VIEWS)
        await running.rebuilder.order()
        await rebuilt(running)
        await begin_with(running, 310)
        await running.snapshotter.write(compare=True)
        running.engine.refresh_metrics()
        gc.collect()
        assert old() is None

    run_folder(tmp_path, work)


def test_a_snapshot_of_the_old_state_is_not_taken_for_one_of_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that was begun before a swap and ends after it does not stand for the state that is in service."""
    write_config(tmp_path)
    go_on = asyncio.Event()

    async def slow(module: str, order: WorkOrder, *_: object, **__: object) -> Ended:
        await go_on.wait()
        return await run_in_process(module, order)

    async def work(running: Instance) -> None:
        await begin_with(running)
        assert running.snapshotter is not None
        monkeypatch.setattr(child_process, "run", slow)
        writing = asyncio.ensure_future(running.snapshotter.write(compare=True))
        await asyncio.sleep(0)
        fresh = Fold(running.service.settings)
        for first, batch in running.engine.log.read(LogPosition(0), 1_000):
            fresh.apply(first, batch)
        running.engine.swap(fresh, running.engine.plans)
        running.snapshotter.begin_from(LogPosition(7))
        go_on.set()
        assert await writing is not None
        assert running.snapshotter._written == 7

    run_folder(tmp_path, work)


@pytest.mark.usefixtures("in_process")
def test_what_comes_meanwhile_is_folded_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that come while the child works are folded on the thread as far as may be, the rest in turns."""
    write_config(tmp_path)
    monkeypatch.setattr("midstream.engine.rebuild.rebuilder.NEAR_EVENTS", 10)

    async def late(module: str, order: WorkOrder, *_: object, **__: object) -> Ended:
        done = await run_in_process(module, order)
        assert isinstance(order, SnapshotOrder)
        assert order.log_position == 300
        for number in range(20):
            await running_now.engine.record(Rig().batch(view("i1", f"n{number}", event_id=f"m{number}")))
        return done

    async def work(running: Instance) -> None:
        global running_now  # noqa: PLW0603  the child's stand-in has no other way to it
        running_now = running
        await begin_with(running)
        monkeypatch.setattr(child_process, "run", late)
        write_config(tmp_path, HEAVY_VIEWS)
        await running.rebuilder.order()
        assert (await rebuilt(running)).state == "done"
        assert running.engine.fold.log_position >= 320
        assert running.engine.fold.digest() == digest_anew(running)

    run_folder(tmp_path, work)


running_now: Instance
