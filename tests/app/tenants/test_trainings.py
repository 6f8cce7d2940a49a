"""Trainings of several tenants: one at a time on the machine, and none holds up the end of its tenant."""

import asyncio

import pytest

from midstream.app.training.candidate_maker import ChildMaker
from midstream.core.errors import FitStopped
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import locked
from midstream.events.disk import RealDisk
from tests.app.tenants.conftest import SMALL

TRAINED = f"""
{SMALL}
[[models]]
name = "near"
kind = "ease"

[[trainings]]
model = "near"
events = 10_000_000
"""


class Making:
    """Trainings under way, each of which ends when a test lets it."""

    def __init__(self):
        self.running, self.most, self.order, self.cancelled = 0, 0, [], []
        self.ends = asyncio.Event()

    async def make(self, maker, order):
        """Train as long as the test says."""
        name = maker.folder.name
        self.order.append(name)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.wait_for(self.ends.wait(), 60)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            self.running -= 1
        message = "a test trains nothing"
        raise FitStopped(message)


@pytest.fixture
def making(monkeypatch):
    """Take the place of child processes that train."""
    found = Making()

    async def make(maker, order):
        return await found.make(maker, order)

    monkeypatch.setattr(ChildMaker, "make", make)
    return found


@pytest.fixture
def trained(server):
    """Two tenants that train a model."""
    for name in ("red", "blue"):
        server.add(name, configuration=TRAINED)
    return server


async def _order(server, name):
    answer = await server.of(name, "POST", "/v1/trainings/near/run")
    assert answer.status == 202, answer.body


async def _view(server, name):
    (view,) = (await server.of(name, "GET", "/v1/trainings")).json()["trainings"]
    return view


async def _until(holds):
    for _ in range(600):
        if await holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to be")


def test_one_training_at_a_time(trained, making):
    """The second tenant's model is queued until the first one's has ended."""

    async def play(server):
        for name in ("red", "blue"):
            await _order(server, name)

        async def both_seen():
            states = [(await _view(server, name))["state"] for name in ("red", "blue")]
            return sorted(states) == ["queued", "training"]

        await _until(both_seen)
        await asyncio.sleep(1.2)  # a further round of each loop
        first = list(making.order)
        making.ends.set()

        async def both_tried():
            return len(making.order) == 2

        await _until(both_tried)
        return first

    first = trained.run(play)
    assert len(first) == 1
    assert sorted(making.order) == ["blue", "red"]
    assert making.most == 1


@pytest.mark.parametrize("act", ["suspend", "delete"])
def test_the_end_of_a_tenant_ends_its_training(trained, making, act):
    """It is cancelled, the folder is let go of, and the next tenant has the turn."""

    async def play(server):
        await _order(server, "red")

        async def begun():
            return making.order == ["red"]

        await _until(begun)
        await _order(server, "blue")
        if act == "suspend":
            done = await server.root("POST", "/v1/tenants/red/suspend", {})
            with locked(DataFolder(server.folders.of("red") / "data"), RealDisk()):
                pass
        else:
            done = await server.root("DELETE", "/v1/tenants/red", query=b"confirm=red")

        async def passed_on():
            return making.order == ["red", "blue"]

        await _until(passed_on)
        return done.status

    assert trained.run(play) == 200
    assert making.cancelled[0] == "red"
    assert making.most == 1
    assert trained.folders.of("red").exists() == (act == "suspend")
