"""Faults of a process, its clock, memory, loops and configuration, in process: each makes exactly its alerts fire."""

import errno
import os
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.support.alerts.shop import LIMITS, Hands, Shop, opened, story, write
from tests.support.alerts.tape import Tape, firing
from tests.support.fakes.rebuilds import rebuilt
from tests.support.libraries import library
from tests.support.patience import wait_on_loop
from tests.support.traces import collecting

pytestmark = pytest.mark.integration
LEAP_S = 400.0


@story
async def test_a_clock_that_stood_wrong(tmp_path: Path) -> Tape:
    """It was minutes ahead at an event and is right then; log time waits until it has caught up."""
    tape = Tape()
    hands = Hands(tmp_path / "groups")
    async with opened(tmp_path, hands=hands) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        hands.pass_by(LEAP_S)
        await shop.act()
        hands.pass_by(-LEAP_S)
        tape.hold(await shop.scrape(), lasts="4m")
        tape.check(firing("MidstreamClockWrong"))
        hands.pass_by(LEAP_S / 2)
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
        hands.pass_by(LEAP_S / 2)
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@story
async def test_memory_that_is_nearly_used_up(tmp_path: Path) -> Tape:
    """The container may have little more than the process has."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        before = await shop.scrape()
        tape.hold(before, lasts="5m")
        tape.check()
        shop.hands.limit_memory(int(before.value("midstream_resident_memory_bytes") / 0.95))
        tape.hold(await shop.scrape(), lasts="12m")
        tape.check(firing("MidstreamMemoryHigh"))
        shop.hands.limit_memory(1 << 60)
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@contextmanager
def files_open(limit: int) -> Generator[None]:
    """Have nearly as many files open as the process may."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    held: list[int] = []
    try:
        while len(os.listdir("/proc/self/fd")) < 0.9 * limit:  # noqa: PTH208  as the reading does
            held.append(os.dup(0))
        yield
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@story
async def test_files_that_are_nearly_used_up(tmp_path: Path) -> Tape:
    """Nine of ten descriptors that the process may have are open."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        with files_open(512):
            tape.hold(await shop.scrape(), lasts="12m")
        tape.check(firing("MidstreamFilesHigh"))
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@story
async def test_a_table_that_is_full(tmp_path: Path) -> Tape:
    """As many items as the maximum; another maximum makes room for more."""
    tape = Tape(interval_s=60)
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        for first in (0, 500):
            items = [{"type": "item", "item_id": f"item-{number}"} for number in range(first, first + 500)]
            assert (await shop.client.post("/v1/events", json={"events": items})).status_code in {200, 207}
        tape.hold(await shop.scrape(), lasts="65m")
        tape.check(firing("MidstreamTableFull", table="items"))
    async with opened(tmp_path, limits=LIMITS.replace("items_max = 1_000", "items_max = 2_000")) as shop:
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@story
async def test_a_loop_whose_rounds_fail(tmp_path: Path) -> Tape:
    """One in the background has no descriptor, once a minute, as often as it is tried."""
    tape = Tape(interval_s=60)
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        with patch.object(shop.running.operational_log, "look", side_effect=OSError(errno.EMFILE, "no descriptor")):
            await wait_on_loop(lambda: _errors(shop) == 1)
            tape.repeat(await shop.scrape(), lasts="15m")
        tape.check(firing("MidstreamBackgroundFailing", service="log"))
        tape.hold(await shop.scrape(), lasts="15m")
        tape.check()
    return tape


def _errors(shop: Shop) -> int:
    (service,) = (each for each in shop.running.engine.services if each.name == "log")
    return service.errors_sum


@story
async def test_a_loop_that_ended(tmp_path: Path) -> Tape:
    """One in the background was cancelled, and goes on at the next start."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        (service,) = (each for each in shop.running.engine.services if each.name == "log")
        assert service._task is not None
        service._task.cancel()
        await wait_on_loop(lambda: not service.is_running)
        tape.hold(await shop.scrape(), lasts="7m")
        tape.check(firing("MidstreamBackgroundStopped", service="log"))
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@story
async def test_a_rebuild_that_fails(tmp_path: Path) -> Tape:
    """There is no room for another state; what was configured waits for it for hours."""
    tape = Tape(interval_s=60)
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        shop.hands.children_fail = True
        write(tmp_path, '[sessions]\ngap = "7m"\n')
        assert (await shop.client.post("/v1/rebuild")).status_code == 202
        assert (await rebuilt(shop.running)).state == "failed"
        tape.hold(await shop.scrape(), lasts="30m")
        tape.check(firing("MidstreamRebuildFailed", outcome="failed"))
        tape.hold(await shop.scrape(), lasts="92m")
        tape.check(firing("MidstreamConfigurationOutdated"))
        shop.hands.children_fail = False
        assert (await shop.client.post("/v1/rebuild")).status_code == 202
        assert (await rebuilt(shop.running)).state == "done"
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@story
async def test_traces_that_are_lost(tmp_path: Path) -> Tape:
    """The collector refuses all spans from the first on, and takes them later."""
    library("opentelemetry.sdk")
    tape = Tape()
    with collecting() as collector:
        collector.status = 400
        config = f'[tracing]\nendpoint = "{collector.url}"\nsample_ratio = 1.0\n'
        async with opened(tmp_path, config) as shop:
            spans = shop.running.engine.metrics.registry
            labels = {"outcome": "failed"}

            def count() -> float:
                return spans.get_sample_value("midstream_trace_spans_total", labels) or 0.0

            await wait_on_loop(lambda: count() > 0)
            tape.hold(await shop.scrape(), lasts="5m")
            tape.check()
            lost = count()
            await shop.ask()
            await wait_on_loop(lambda: count() > lost)
            tape.repeat(await shop.scrape(), lasts="35m")
            tape.check(firing("MidstreamTracesLost"))
            collector.status, labels["outcome"] = 200, "exported"
            await shop.ask()
            await wait_on_loop(lambda: count() > 0)
            tape.repeat(await shop.scrape(), lasts="11m")
            tape.check()
    return tape
