"""A day of a simulated shop with every fault that the fault suite knows: each is in the log, which stays short.

The real engine, on a folder, with the clock of the simulator. Children work on threads, disks fail where they are told
to, and whoever is named in an event, an item or an error has a mark in the name, which no line may have.
"""

import asyncio
import errno
import io
import json
import logging
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from unittest import mock

import msgspec
import numpy as np
import pytest

from midstream.app.opening import DATA_NAME, Outside, config_of, open_running
from midstream.core.errors import AppendFailed, ConfigInvalid, MidstreamError, Overloaded
from midstream.core.types import TimestampMs
from midstream.engine import child_process
from midstream.engine.child_process import Ended
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.listeners import Listener
from midstream.engine.placements.control_changes import Said
from midstream.engine.snapshots import snapshots
from midstream.engine.types import Ask, FollowerView
from midstream.events.disk import RealDisk
from midstream.events.json.decode import decode_objects
from midstream.monitoring.logs import LogOptions, logging_to
from midstream.simulation.audience import DAY_MS, AudienceOptions, VisitedPage
from midstream.simulation.engine_policy import opening
from midstream.simulation.policies import FilledPage, Policy
from midstream.simulation.season import START_MS, SeasonOptions, run_season
from midstream.simulation.shop import SimulatedShop
from midstream.training.registry import Registry
from tests.support.disks import DiskFault, FailingDisk, ForgetfulDisk
from tests.support.fakes.models import publish_chain
from tests.support.fakes.rebuilds import run_in_process

MARK = "MARKED"
"""In every id and text of a person, an item or a request that a fault brings about."""
LINES_MAX = 200
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
SNAPSHOT_MS = 10 * MINUTE_MS
LOOK_MS = MINUTE_MS
OPTIONS = SeasonOptions(day_count=1, product_count=40, launch_count=0, audience=AudienceOptions(person_count=25))
CONFIG = """
[limits]
users_max = 200
items_max = 300
click_items_max = 100
sessions_max = 200
index_sessions_max = 200
event_ids_max = 20000
requests_max = 200
outcome_slates_max = 200
outcome_items_max = 4000
document_bytes_max = 200000
hot_items_max = 50
new_items_max = 50
[log]
segment_bytes_max = 30000
[history]
hot = "1h"
keep = "2h"
[[placements]]
name = "home"
sources = [{ kind = "custom", path = "components:Shelf" }, { kind = "trending" }]
"""
COMPONENTS = f'''
"""A shelf that fails when it is told to, and says of whom it knows."""

import msgspec
import numpy as np

from midstream.core.types import Moment, Proposal

BROKEN = []


class Shelf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    @property
    def name(self) -> str:
        return "shelf"

    def retrieve(self, moment: Moment) -> Proposal:
        if BROKEN:
            raise ValueError("no shelf for {MARK}-user")
        return Proposal(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32))
'''


class KeepingDisk(RealDisk):
    """A real disk behind one that fails: what was not synced stays there."""

    def lose(self, _file: int) -> None:
        """Keep it all."""


@dataclass(slots=True)
class Day:
    """The folder, the clock and the process of now."""

    folder: Path
    shop: SimulatedShop
    now_ms: int = START_MS
    running: Instance | None = None
    disk: FailingDisk = field(default_factory=lambda: FailingDisk(cast("ForgetfulDisk", KeepingDisk())))
    rows: dict[str, int] = field(default_factory=dict[str, int])
    looked_ms: int = START_MS
    faults: Iterator["Trouble"] = field(default_factory=lambda: iter(()))
    next_fault_ms: int = START_MS

    @property
    def data(self) -> DataFolder:
        """The data."""
        return DataFolder(self.folder / DATA_NAME)

    @property
    def open(self) -> Instance:
        """What is open."""
        assert self.running is not None
        return self.running

    async def start(self) -> None:
        """Open the folder, as a server does."""
        outside = Outside(clock=lambda: TimestampMs(self.now_ms), monotonic=lambda: self.now_ms / 1_000, disk=self.disk)
        self.running = open_running(self.folder, config_of(self.folder), outside=outside, may_serve_before=True)
        await self.running.start()

    async def stop(self) -> None:
        """Stop properly, as far as that is possible."""
        await self.open.stop()

    async def restart(self) -> None:
        """Stop, and start again."""
        await self.stop()
        await self.start()

    async def look(self) -> None:
        """Let a second go by, in which the log of the process is written."""
        self.now_ms += 1_000
        log = self.open.operational_log
        assert log is not None
        log.look()
        await asyncio.sleep(0)

    async def record(self, *events: dict[str, object]) -> None:
        """Record events, as they come from a client that names people."""
        accept = msgspec.structs.replace(self.open.service.accept, now_ms=self.now_ms)
        decoded = decode_objects(events, accept)
        assert not decoded.rejected
        await self.open.engine.record(decoded.batch)

    async def ask(self, times: int = 1) -> None:
        """Ask for slates."""
        for _ in range(times):
            await self.open.engine.recommend(Ask("home", f"{MARK}-user"))

    async def pass_to(self, now_ms: int) -> None:
        """Let the machine do what is due until then: snapshots, sealing, looks, a fault an hour."""
        while self.looked_ms + LOOK_MS <= now_ms:
            self.looked_ms += LOOK_MS
            self.now_ms = max(self.now_ms, self.looked_ms)
            if self.looked_ms % SNAPSHOT_MS == 0 and self.open.snapshotter is not None:
                await self.open.snapshotter.write(compare=True, hurried=True)
            if self.looked_ms % HOUR_MS == 0 and self.open.sealer is not None:
                await self.open.sealer.seal(hurried=True)
            if self.looked_ms >= self.next_fault_ms and (fault := next(self.faults, None)) is not None:
                self.next_fault_ms += 40 * MINUTE_MS
                await self.look()
                await fault.happen(self)
            await self.look()
        self.now_ms = max(self.now_ms, now_ms)

    async def fill(self, page: VisitedPage) -> FilledPage:
        """Fill a page of the simulator."""
        await self.pass_to(page.time_ms)
        answer = await self.open.engine.recommend(Ask("home", page.person.user_id, page.session_id, 5))
        rows = [self.rows[each.id] for each in answer.items if each.id in self.rows]
        return FilledPage(np.array(rows, dtype=np.int64), answer.request_id)

    async def learn(self, events: Any) -> None:
        """Record what was done on a page."""
        await self.record(*events)


def act(item: str = f"{MARK}-item", **more: object) -> dict[str, object]:
    """Return a view by somebody with a mark."""
    return {"type": "view", "user_id": f"{MARK}-user", "session_id": f"{MARK}-s", "item_id": item, **more}


async def fill_the_disk(day: Day) -> None:
    """No room for an event; then there is again."""
    day.disk.fail(DiskFault("write", error=errno.ENOSPC, written=0.0, for_good=True))
    with pytest.raises(MidstreamError):
        await day.record(act())
    await day.look()
    day.disk.heal()
    await day.record(act())


async def fail_a_sync(day: Day) -> None:
    """The log takes nothing more until the process is started anew."""
    day.disk.fail(DiskFault("sync"))
    with pytest.raises(AppendFailed):
        await day.record(act())
    day.disk.heal()
    await day.look()
    await day.restart()


async def tear_the_tail(day: Day) -> None:
    """Half a frame stands at the end of the log when the process begins."""
    await day.stop()
    newest = max(day.data.log.glob("*.segment"))
    with newest.open("ab") as file:
        file.write(newest.read_bytes()[:40])
    await day.start()


async def damage_a_snapshot(day: Day) -> None:
    """The newest snapshot is not what its manifest says."""
    await day.stop()
    newest = day.data.snapshots / snapshots.names(day.data.snapshots)[0]
    victim = max(newest.glob("*.npy"), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-8])
    await day.start()


async def break_a_part(day: Day) -> None:
    """A component of one's own raises, is left out, is mended and is back."""
    shelf = next(each for each in day.open.engine.plans["home"].sources if each.name == "shelf")
    broken = cast("list[int]", sys.modules[type(shelf).__module__].BROKEN)
    broken.append(1)
    await day.ask(20)
    await day.look()
    broken.clear()
    day.now_ms += 11_000
    await day.ask(2)


async def fail_a_snapshot(day: Day) -> None:
    """The child that writes it is killed; the next one is not."""
    assert day.open.snapshotter is not None
    await day.record(act())
    with mock.patch.object(child_process, "run", _killed):
        await day.open.snapshotter.write(compare=False)
    await day.look()
    await day.open.snapshotter.write(compare=False)


async def _killed(*_: object, **__: object) -> Ended:
    return Ended(b"", "its process ended with status -9; standard error says why")


async def reject_events(day: Day) -> None:
    """A client sends for an hour what cannot be taken."""
    service = day.open.service
    body = json.dumps([{"type": f"{MARK}-type"}, act(item=""), {**act(), f"{MARK}-field": 1}]).encode()
    for _ in range(60):
        await day.open.ingest.take(body, msgspec.structs.replace(service.accept, now_ms=day.now_ms))
        day.now_ms += MINUTE_MS
        await day.look()


async def fill_the_queue(day: Day) -> None:
    """More events wait than may."""
    with mock.patch("midstream.engine.ingest.event_recording.BEHIND_EVENTS_MAX", -1):
        for _ in range(100):
            with pytest.raises(Overloaded):
                await day.record(act())


async def refuse_requests(day: Day) -> None:
    """More is asked than can be answered in time, for two hours."""
    for _ in range(120):
        for _ in range(50):
            day.open.engine.metrics.refusals.labels("late").inc()
        day.now_ms += MINUTE_MS
        await day.look()


async def lose_a_follower(day: Day) -> None:
    """It joins, falls behind, and is killed."""
    views: list[FollowerView] = []
    day.open.engine.listeners.add(Listener(name="followers", followers=lambda: tuple(views)))
    for state in ("starting", "serving", "behind", "serving", "ended"):
        views[:] = [FollowerView(1, state, 12_000 if state == "behind" else 0, 0)]
        await day.look()
    day.open.engine.concerns["follower-1"] = "follower 1 was ended by signal 9 and is started again"
    await day.look()
    day.open.engine.concerns.pop("follower-1")
    views.clear()


async def leap(day: Day) -> None:
    """The clock is set forward by an hour, something is recorded, and it is set right."""
    day.now_ms += HOUR_MS
    await day.record(act())
    day.now_ms -= HOUR_MS
    await day.look()


async def fail_in_the_background(day: Day) -> None:
    """Rounds of something in the background end by an error that nobody expected."""

    async def one_round() -> None:
        raise KeyError(f"{MARK}-user")

    service = day.open.engine.supervise("upkeep", one_round, 0.0)
    service.start()
    while not service.errors:  # noqa: ASYNC110  a task is waited for
        await asyncio.sleep(0)
    await day.look()
    await service.stop()
    day.open.engine.services.remove(service)
    day.open.engine.concerns.pop("background-upkeep")


async def change_the_configuration(day: Day) -> None:
    """The file is gone when it is read, is wrong, and asks for another state then."""
    path = day.folder / "midstream.toml"
    text = path.read_text()
    path.unlink()
    await day.open.rebuilder.heed()
    await day.look()
    path.write_text(text.replace("trending", "trendy"))
    await day.open.rebuilder.heed()
    path.write_text(text + '[sessions]\ngap = "20m"\n')
    await day.open.rebuilder.order()
    while day.open.rebuilder.is_running:  # noqa: ASYNC110  a thread is waited for
        await asyncio.sleep(0.005)
    await day.look()


async def fail_a_rebuild(day: Day) -> None:
    """The child that makes the new state is killed."""
    path = day.folder / "midstream.toml"
    text = path.read_text()
    path.write_text(text.replace("20m", "25m"))
    with mock.patch.object(child_process, "run", _killed):
        await day.open.rebuilder.order()
        while day.open.rebuilder.is_running:  # noqa: ASYNC110  a task is waited for
            await asyncio.sleep(0.005)
    path.write_text(text)
    await day.open.rebuilder.order()


async def promote_models(day: Day) -> None:
    """A version is champion, the next one, the first again; a third is damaged."""
    registry = Registry(day.data.models)
    first, second = publish_chain(registry, 1), publish_chain(registry, 2)
    champions = day.open.champions
    await champions.promote("near", first)
    await champions.promote("near", second)
    await champions.rollback("near")
    third = publish_chain(registry, 3)
    next((day.data.models / "near" / third).glob("manifest*")).write_bytes(b"{}")
    with pytest.raises(MidstreamError):
        await champions.promote("near", third)


async def change_placements(day: Day) -> None:
    """One is set, refused, and given back; by people with names."""
    said = Said(f"{MARK}-author", f"for {MARK}")
    await day.open.placing.put("cart", {"sources": [{"kind": "popular"}]}, said)
    with pytest.raises(ConfigInvalid):
        await day.open.placing.put("cart", {"filter": f"item.{MARK} > 3"}, said)
    await day.open.placing.remove("cart", said)


async def erase_users(day: Day) -> None:
    """Somebody is erased, and the log is written anew; another time that fails."""
    assert day.open.eraser is not None
    await day.open.engine.erase(f"{MARK}-user")
    await day.open.eraser.carry_out()
    await day.record(act())
    await day.open.engine.erase(f"{MARK}-user")
    with mock.patch.object(child_process, "run", _killed), suppress(MidstreamError):
        await day.open.eraser.carry_out()
    await day.look()
    await day.open.eraser.carry_out()


async def raise_in_a_library(_day: Day) -> None:
    """What other libraries log, and errors of requests in uvicorn's words."""
    error = RuntimeError(f"{MARK}-user")
    for _ in range(100):
        logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=error)
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <%s>", MARK)
    logging.getLogger("httpx").info("GET /v1/users/%s", MARK)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"{MARK} is deprecated", stacklevel=1)


async def end_the_fold(day: Day) -> None:
    """Folding ends for good: a start is needed."""
    with (
        mock.patch(
            "midstream.engine.ingest.fold_scheduler.FoldScheduler._turn",
            side_effect=ValueError(f"{MARK}-user"),
        ),
        mock.patch("midstream.state.fold.Fold.apply", side_effect=ValueError(f"{MARK}-user")),
        suppress(Exception),
    ):
        await asyncio.wait_for(day.record(act()), 5.0)
    await day.look()
    await day.restart()


async def remove_a_segment(day: Day) -> None:
    """The file that the log is written to is gone: nothing more is acknowledged."""
    newest = max(day.data.log.glob("*.segment"))
    kept = newest.read_bytes()
    newest.unlink()
    with pytest.raises(AppendFailed):
        await day.record(act())
    await day.look()
    newest.write_bytes(kept)
    with suppress(MidstreamError):
        await day.stop()
    await day.start()


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault, and the lines by which an operator finds it."""

    happen: Callable[[Day], Awaitable[None]]
    lines: tuple[str, ...]
    """Events; with a part after a colon some field of the line has it."""


TROUBLES = (
    Trouble(fill_the_disk, ("disk_full:No space left", "append_resumed")),
    Trouble(fail_a_sync, ("append_failed", "recovered")),
    Trouble(tear_the_tail, ("torn_tail_dropped",)),
    Trouble(damage_a_snapshot, ("snapshot_passed_by",)),
    Trouble(break_a_part, ("part_failed:ValueError", "part_benched:components", "part_back:shelf")),
    Trouble(fail_a_snapshot, ("concern:snapshot_failed", "concern_over:snapshot_failed", "snapshot_written")),
    Trouble(reject_events, ("events_rejected:type", "events_rejected:unknown field")),
    Trouble(fill_the_queue, ("queue_full:events",)),
    Trouble(refuse_requests, ("requests_refused:late",)),
    Trouble(lose_a_follower, ("follower_joined", "follower_behind", "follower_left", "concern:follower-1")),
    Trouble(leap, ("concern:clock",)),
    Trouble(fail_in_the_background, ("background_failed:KeyError",)),
    Trouble(
        change_the_configuration,
        ("configuration_refused", "configuration_read", "rebuild_begun", "rebuild_progress", "rebuild_swapped"),
    ),
    Trouble(fail_a_rebuild, ("rebuild_failed:RebuildFailed",)),
    Trouble(promote_models, ("model_promoted:champion", "model_rolled_back", "model_refused")),
    Trouble(change_placements, ("placement_set:cart", "placement_removed:cart")),
    Trouble(erase_users, ("erasure_requested", "log_rewritten", "log_rewrite_failed:RewriteFailed")),
    Trouble(
        raise_in_a_library, ("Exception in ASGI application:RuntimeError", "python_warning", "log_lines_held_back")
    ),
    Trouble(end_the_fold, ("folding_ended:ValueError",)),
    Trouble(remove_a_segment, ("append_failed",)),
)


async def live(folder: Path, troubles: tuple[Trouble, ...], season: SeasonOptions) -> None:
    """Let a shop be visited for a day, a fault each forty minutes."""
    shop = season.shop()
    day = Day(folder, shop, faults=iter(troubles), rows={item: row for row, item in enumerate(shop.item_ids)})
    await day.start()
    await day.learn(opening(shop))
    await run_season(season, shop, Policy("midstream", day.fill, day.learn))
    await day.pass_to(START_MS + DAY_MS)
    await day.stop()


def lines_of(folder: Path, troubles: tuple[Trouble, ...], level: str, season: SeasonOptions = OPTIONS) -> list[str]:
    """Return the lines of a day."""
    folder.mkdir(exist_ok=True)
    (folder / "midstream.toml").write_text(CONFIG)
    (folder / "components.py").write_text(COMPONENTS)
    stream = io.StringIO()
    with (
        mock.patch.object(child_process, "run", run_in_process),
        mock.patch("midstream.app.config.constraints.HOT_MS_MIN", 1),
        mock.patch("midstream.app.config.constraints.SEGMENT_BYTES_MIN", 1_000),
        logging_to(stream, LogOptions(cast("Any", level), "json")),
    ):
        asyncio.run(live(folder, troubles, season))
    return stream.getvalue().splitlines()


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of a day with every fault."""
    return lines_of(tmp_path_factory.mktemp("day"), TROUBLES, "info")


def test_the_log_of_a_day_is_short(day: list[str]) -> None:
    """Every line is one JSON object, and nobody has to read for long."""
    events = [json.loads(line)["event"] for line in day]
    print(f"{len(day)} lines, {sum(map(len, day))} bytes: {sorted(set(events))}")
    assert len(day) < LINES_MAX


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.happen.__name__)
def test_every_fault_is_in_the_log(day: list[str], trouble: Trouble) -> None:
    """By an event of a stable name."""
    for wanted in trouble.lines:
        event, _, part = wanted.partition(":")
        assert any(json.loads(line)["event"] == event and part in line for line in day), wanted


def test_no_line_names_a_user_or_says_what_was_sent(day: list[str]) -> None:
    """Whatever failed, and whatever its error said."""
    assert [line for line in day if MARK in line] == []


def test_at_debug_it_is_said(tmp_path: Path) -> None:
    """The mark is where it would be: the test above can fail."""
    short = SeasonOptions(day_count=1, product_count=5, launch_count=0, audience=AudienceOptions(person_count=1))
    troubles = tuple(each for each in TROUBLES if each.happen in {break_a_part, raise_in_a_library})
    lines = lines_of(tmp_path / "shop", troubles, "debug", short)
    marked = {json.loads(line)["event"] for line in lines if MARK in line}
    assert {"part_failed", "python_warning", "Exception in ASGI application"} <= marked
