"""What goes on in the background outlives its errors: each is named, counted and taken back; an end is noticed."""

import asyncio
import errno
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from midstream.app.opening import open_running
from midstream.core.errors import AppendFailed
from midstream.core.kinds import Kind
from midstream.engine import background_service
from midstream.engine.background_service import BackgroundService
from midstream.engine.ingest.served_forwarder import Forwarding
from midstream.engine.ingest.writer import QueueEntry
from midstream.engine.instance import Instance
from midstream.events.schema import Event, build
from midstream.monitoring.metrics import Metrics
from tests.support.events import served_body
from tests.support.patience import wait_on_loop
from tests.support.rig import SMALL, Rig, view

ENDS_ALONE = {"midstream-fold"}
"""Its error is a bug of a table: nothing may be applied after it, and health says so."""


def served(request_id: str) -> Event:
    return Event(Kind.SERVED, request_id=request_id, body=served_body(request_id, ["mug"]))


def errors_of(running: Instance, name: str) -> float:
    labels = {"service": name}
    return running.engine.metrics.registry.get_sample_value("midstream_background_errors_total", labels) or 0.0


def test_every_task_of_a_running_server_is_guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors for a while each of them says so, is counted, and goes on when there are some again."""
    monkeypatch.setattr(background_service, "BACK_OFF_S_MIN", 0.01)
    is_failing = True
    good: set[str] = set()

    async def fail(name: str) -> None:
        if is_failing:
            raise OSError(errno.EMFILE, f"no descriptor for {name}")
        good.add(name)

    async def main() -> None:
        nonlocal is_failing
        before = asyncio.all_tasks()
        running = open_running(tmp_path, SMALL)
        services = running.engine.services
        for each in services:
            monkeypatch.setattr(each, "_first_s", 0.0)
            monkeypatch.setattr(each, "_pause_s", 0.01)
            monkeypatch.setattr(each, "_round", lambda name=each.name: fail(name))
        await running.start()
        found = {task.get_name() for task in asyncio.all_tasks() - before if task.get_name().startswith("midstream-")}
        assert found == ENDS_ALONE | {f"midstream-{each.name}" for each in services}
        names = {each.name for each in services}
        assert names == {
            *("tick", "snapshot", "seal", "erasures", "log", "vector_indexes"),
            *("experiment_watch", "experiment_allocation", "online_figures"),
        }
        await wait_on_loop(lambda: all(errors_of(running, name) >= 2 for name in names))
        reason = running.engine.health().reason
        for each in services:
            assert f"no descriptor for {each.name}" in reason
            assert f"no descriptor for {each.name}" in each.health()
            assert each.is_running
        is_failing = False
        await wait_on_loop(lambda: good == names)
        await wait_on_loop(lambda: not any(each.health() for each in services))
        assert running.engine.health().reason == ""
        await running.stop()
        assert not any(each.is_running for each in services)

    asyncio.run(main())


def test_errors_without_end_do_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a day of errors, one a minute, it is tried again as after the first ones."""
    monkeypatch.setattr(background_service, "BACK_OFF_S_MAX", 0.0)
    tries = 0

    async def fail() -> None:
        nonlocal tries
        tries += 1
        raise OSError(errno.ENOSPC, "no room")

    async def main() -> None:
        service = BackgroundService("snapshot", fail, 0.0, {}, Metrics(CollectorRegistry()))
        service.start()
        await wait_on_loop(lambda: tries > 1_440 or not service.is_running)
        assert service.is_running
        await service.stop()

    asyncio.run(main())
    assert tries > 1_440


def test_a_fold_that_ends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one loop that does not go on: health says why, and events are taken no more."""

    async def work(rig: Rig) -> None:
        def broken(*_: object) -> None:
            raise OSError(errno.EMFILE, "no descriptor")

        monkeypatch.setattr(rig.engine.fold, "apply", broken)
        with pytest.raises(OSError, match="no descriptor"):
            await rig.engine.record(rig.batch(view("mug")))
        health = rig.engine.health()
        assert "no descriptor" in health.reason
        assert not health.accepts_events

    Rig().run(work)


def test_waits_double_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it fails, it is tried once a minute; a good round begins anew."""
    waits: list[float] = []
    outcomes = iter([*(True for _ in range(9)), False, True])

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    async def work(rig: Rig) -> None:
        ended = asyncio.Event()
        await asyncio.sleep(0)  # the engine's own loops begin to wait

        async def each() -> None:
            if (fails := next(outcomes, None)) is None:
                ended.set()
            if fails:
                raise OSError(errno.ENFILE, "none")

        service = rig.engine.supervise("some", each, 7.0, first_s=3.0)
        own = SimpleNamespace(sleep=noted, gather=asyncio.gather, get_running_loop=asyncio.get_running_loop)
        monkeypatch.setattr(background_service, "asyncio", own)
        service.start()
        await ended.wait()
        monkeypatch.undo()
        await service.stop()

    Rig().run(work)
    assert waits[:12] == [3.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 7.0, 1.0]


def test_a_bug_is_told_to_the_event_loop_too() -> None:
    """What nobody expects does not hide in health."""

    async def work(rig: Rig) -> list[str]:
        said: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(str(context["message"])))

        async def each() -> None:
            raise ZeroDivisionError

        service = rig.engine.supervise("some", each, 7.0, first_s=0.0)
        service.start()
        await wait_on_loop(lambda: bool(said))
        assert "ZeroDivisionError" in rig.engine.health().reason
        await service.stop()
        return said

    assert Rig().run(work) == ["a round of some ended by a bug"]


def test_a_bug_that_lasts_is_told_once_to_the_event_loop() -> None:
    """Health, the metric and the log count; another bug, and one after a good round, is told again."""
    said: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: said.append(type(told["exception"]).__name__))
        for error in (KeyError, KeyError, KeyError, ValueError, ValueError, None, ValueError):
            service._note_good() if error is None else service._note(error("x"), 1.0)

    service = BackgroundService("some", lambda: asyncio.sleep(0), 0.0, {}, Metrics(CollectorRegistry()))
    asyncio.run(main())
    assert said == ["KeyError", "ValueError", "ValueError"]
    assert service.errors_sum == 6


def test_an_end_that_nobody_asked_for_is_noticed() -> None:
    """A loop that is cancelled from elsewhere says so; one that is stopped does not."""

    async def work(rig: Rig) -> None:
        async def each() -> None:
            await asyncio.sleep(0)

        services = [rig.engine.supervise(name, each, 7.0, first_s=0.0) for name in ("one", "other")]
        for service in services:
            service.start()
        (task,) = (each for each in asyncio.all_tasks() if each.get_name() == "midstream-one")
        task.cancel()
        await wait_on_loop(lambda: not services[0].is_running)
        await services[1].stop()
        await asyncio.sleep(0)
        assert services[0].health() == "one in the background ended and goes on at the next start: it was cancelled"
        assert services[1].health() == ""
        value = rig.engine.metrics.registry.get_sample_value
        assert value("midstream_background_running", {"service": "one"}) == 0.0

    Rig().run(work)


def test_a_lot_that_cannot_be_sent_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower goes on to send after an error, and counts what was lost."""
    monkeypatch.setattr(background_service, "BACK_OFF_S_MIN", 0.01)
    tries = 0

    async def send(_: bytes) -> bool:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError(errno.EMFILE, "no descriptor")
        return True

    async def work(rig: Rig) -> None:
        forwarding = Forwarding(send, rig.engine.metrics)
        forwarding.start()
        lots = [build([served(f"r{number}")]) for number in range(2)]
        forwarding.submit(*(QueueEntry(each, None) for each in lots))
        assert await forwarding.sent(10.0)
        assert tries == 2
        with pytest.raises(AppendFailed):
            forwarding.submit(QueueEntry(lots[0], asyncio.get_running_loop().create_future()))
        await asyncio.to_thread(forwarding.close)
        value = rig.engine.metrics.registry.get_sample_value
        assert value("midstream_background_errors_total", {"service": "forward"}) == 1.0

    Rig().run(work)
