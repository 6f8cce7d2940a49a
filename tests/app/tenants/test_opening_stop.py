"""A stop while a tenant is being opened: the opening is given up, or left behind after a stated time."""

import asyncio
import threading
import time

import pytest

from midstream.app import opening
from midstream.app.opening import DATA_NAME
from midstream.app.server.opened_engine import open_with_groups
from midstream.app.tenants import group as group_module
from midstream.app.tenants import tenant as tenant_module
from midstream.app.tenants.serve import TenantServer
from midstream.app.tenants.tenant import OpeningStopped
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import locked
from midstream.events.disk import RealDisk


async def _stopped_during(server, begun):
    """Stop the group once an opening has begun; return seconds and states."""
    tenants = TenantServer(server.folders, server.options, "id")
    async with tenants.opening():
        await asyncio.to_thread(begun.wait, 30)
        asked = time.monotonic()
    return time.monotonic() - asked, {each.name: each.state for each in tenants.group.views()}


def test_an_opening_is_given_up_between_two_steps_of_the_fold(pair, monkeypatch):
    """The stop does not wait for the rest of the log, and lets go of the folder."""
    begun, steps = threading.Event(), []

    def slow(_fold, _read, _upto, notify):
        begun.set()
        for step in range(3_000):
            time.sleep(0.01)
            steps.append(step)
            notify("folding", step, 3_000)
        return 0

    monkeypatch.setattr(opening, "catch_up", slow)
    seconds, states = asyncio.run(_stopped_during(pair, begun))
    assert seconds < 5
    assert len(steps) < 3_000
    assert states == {"blue": "closing", "red": "closing"}
    for name in ("red", "blue"):
        with locked(DataFolder(pair.folders.of(name) / DATA_NAME), RealDisk()):
            pass


def test_an_opening_that_hangs_is_left_behind(pair, monkeypatch, caplog):
    """The process ends after the stated time, the other tenants are closed, and the log names the one that was not."""
    begun, ends = threading.Event(), threading.Event()
    opened = open_with_groups

    def hangs(folder, *rest, **options):
        if folder.name == "red":
            begun.set()
            ends.wait(60)
        return opened(folder, *rest, **options)

    monkeypatch.setattr(tenant_module, "open_with_groups", hangs)
    monkeypatch.setattr(group_module, "OPENING_S_MAX", 0.3)
    began = time.monotonic()
    try:
        with pytest.raises(OpeningStopped, match="the process ends without it"):
            asyncio.run(_stopped_during(pair, begun))
        assert time.monotonic() - began < 20
        assert "tenant_not_closed" in caplog.text
        with locked(DataFolder(pair.folders.of("blue") / DATA_NAME), RealDisk()):
            pass
        assert all(each.daemon for each in threading.enumerate() if each.name.startswith("midstream-open"))
    finally:
        ends.set()


def test_a_tenant_that_was_not_opened_yet_holds_up_no_stop(pair, monkeypatch):
    """A stop before its turn opens nothing."""
    opened = []
    monkeypatch.setattr(tenant_module, "open_with_groups", lambda *_rest, **_options: opened.append(1))

    async def play():
        async with TenantServer(pair.folders, pair.options, "id").opening():
            pass

    asyncio.run(play())
    assert opened == []
