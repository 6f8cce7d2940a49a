"""Faults of models, trainings, features and outcomes, in a shop in process: each makes exactly its alerts fire."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from midstream.app.operate.model_registry import registry_of
from midstream.engine.online import figuring
from midstream.evaluation.metrics.feature_statistics import statistics_of
from midstream.features.declared import DeclaredFeatures
from tests.support.alerts.shop import Shop, opened, story
from tests.support.alerts.tape import Tape, firing
from tests.support.fakes.models import COMPONENTS, publish_chain
from tests.support.patience import wait_on_loop

pytestmark = pytest.mark.integration
TRAINED = """
[[models]]
name = "taste"
kind = "ease"
validation = 0.3

[[trainings]]
model = "taste"
every = "6h"

[[placements]]
name = "home"
sources = [{ kind = "ease", model = "taste" }, { kind = "popular" }]
"""


@story
async def test_a_training_that_fails(tmp_path: Path) -> Tape:
    """There is no room for the child that trains; the next decision ends the alert, whatever it is."""
    tape = Tape()
    async with opened(tmp_path, TRAINED) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        shop.hands.children_fail = True
        await wait_on_loop(lambda: decided(shop) == ["failed"])
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check(firing("MidstreamTrainingFailed", model="taste"))
        shop.hands.children_fail = False
        assert (await shop.client.post("/v1/trainings/taste/run")).status_code == 202
        await wait_on_loop(lambda: decided(shop) != ["failed"])
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@story
async def test_a_training_that_does_not_come(tmp_path: Path) -> Tape:
    """Another one has had the turn for hours when it is due; then it comes."""
    tape = Tape()
    async with opened(tmp_path, TRAINED) as shop:
        await wait_on_loop(lambda: len(decided(shop)) == 1)
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        assert shop.running.trainings is not None
        assert shop.running.snapshotter is not None
        async with shop.running.trainings._parts.turn:
            for hours, lasts in ((10, "2m"), (3, "12m")):
                tape.check()
                shop.hands.pass_by(hours * 3_600.0)
                await shop.act()
                await shop.running.snapshotter.write(compare=True)
                tape.hold(await shop.scrape(), lasts=lasts)
            tape.check(firing("MidstreamTrainingOverdue", model="taste"))
        await wait_on_loop(lambda: len(decided(shop)) == 2)
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


def decided(shop: Shop) -> list[str]:
    """Return the decisions, oldest first."""
    assert shop.running.trainings is not None
    return [each.action for each in reversed(shop.running.trainings.journal.history())]


NEAR = """
[[placements]]
name = "home"
deadline = "10s"
sources = [{ kind = "custom", path = "components:Near" }, { kind = "popular" }]
"""


@story
async def test_a_version_that_is_damaged(tmp_path: Path) -> Tape:
    """One bit of it is another one, and it is promoted once; the one before goes on."""
    tape = Tape(interval_s=60)
    first, second = prepared(tmp_path)
    async with opened(tmp_path, NEAR) as shop:
        assert await promoted(shop, first) == 200
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        assert await promoted(shop, second) == 409
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check(firing("MidstreamModelRefused", model="near"))
        tape.hold(await shop.scrape(), lasts="60m")
        tape.check()
    return tape


def prepared(folder: Path) -> tuple[str, str]:
    """Publish two versions, of which the second is damaged then."""
    (folder / "components.py").write_text(COMPONENTS, "utf-8")
    registry = registry_of(folder)
    first, second = publish_chain(registry, 1), publish_chain(registry, 2)
    path = registry.folder / "near" / second / "weight.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return first, second


async def promoted(shop: Shop, version: str) -> int:
    """Promote a version; return the status."""
    return (await shop.client.post("/v1/models/near/promote", json={"version": version})).status_code


FEATURES = """
[[features]]
name = "views"
kind = "count"
scope = "user"
actions = ["view"]

[[placements]]
name = "home"
deadline = "10s"
features = ["views"]
log_features = 1.0

[monitoring]
baseline = "then.json"
"""


@story
async def test_a_feature_that_drifts(tmp_path: Path) -> Tape:
    """Visitors have viewed much more than those of the training; then a model is trained on what they do now."""
    tape = Tape(interval_s=60)
    baseline(tmp_path, 1.0)
    async with opened(tmp_path, FEATURES) as shop:
        await shop.act(session_id="s2", user_id="ann", item_id="i2")
        await ask_home(shop, 600)
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        events = [{"type": "view", "user_id": "ann", "item_id": "i2"}] * 40
        assert (await shop.client.post("/v1/events", json={"events": events})).status_code == 200
        await ask_home(shop, 600)
        tape.hold(await shop.scrape(), lasts="65m")
        tape.check(firing("MidstreamFeatureDrift", feature="views"))
    baseline(tmp_path, 41.0)
    async with opened(tmp_path, FEATURES) as shop:
        await ask_home(shop, 600)
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


def baseline(folder: Path, value: float) -> None:
    """Write the statistics of a training whose every row had one value."""
    statistics_of(("views",), np.full((50, 1), value, dtype=np.float32)).write(folder / "then.json")


async def ask_home(shop: Shop, count: int) -> None:
    """Ask for slates of ann."""
    assert await shop.ask(count, placement="home", user_id="ann", session_id=None) == {200}


@story
async def test_a_feature_that_was_served_wrong(tmp_path: Path) -> Tape:
    """It was read for another user than the one who asked, once."""
    tape = Tape(interval_s=60)
    baseline(tmp_path, 1.0)
    read = DeclaredFeatures.read

    def wrong(self: DeclaredFeatures, moment: object, *rest: object) -> object:
        return read(self, replace(moment, user_index=0), *rest)  # type: ignore[arg-type, type-var]

    async with opened(tmp_path, FEATURES) as shop:
        snapshotter = shop.running.snapshotter
        assert snapshotter is not None
        for user in ("bob", "ann", "ann"):
            await shop.act(user_id=user, session_id=None, item_id=user)
        await ask_home(shop, 1)
        await shop.act()
        await snapshotter.write(compare=True)
        before = await shop.scrape()
        assert before.value("midstream_feature_parity_compared_total") > 0
        tape.hold(before, lasts="5m")
        tape.check()
        with patch.object(DeclaredFeatures, "read", wrong):
            await ask_home(shop, 1)
        await shop.act()
        await snapshotter.write(compare=True)
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check(firing("MidstreamFeatureParity"))
        tape.hold(await shop.scrape(), lasts="60m")
        tape.check()
    return tape


DAY_S = 86_400.0


@story
async def test_outcomes_that_drift(tmp_path: Path) -> Tape:
    """Half of the visitors clicked yesterday, and nobody does today; tomorrow it is as it was on both days."""
    with patch.object(figuring, "FIRST_S", 3_600.0):  # rounds are those of this test: two at once there never are
        return await three_days(tmp_path)


async def three_days(folder: Path) -> Tape:
    """Return what a shop says whose visitors click, do not and do again."""
    tape = Tape()
    async with opened(folder) as shop:
        await visited(shop, "mon", 125)
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        shop.hands.pass_by(DAY_S)
        await visited(shop, "tue", 0)
        tape.hold(await shop.scrape(), lasts="17m")
        tape.check(firing("MidstreamOutcomeDrift", placement="default", of="click"))
        shop.hands.pass_by(DAY_S)
        await visited(shop, "wed", 63)
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


async def visited(shop: Shop, day: str, clicks: int) -> None:
    """Have 250 visitors see a slate, of whom some click; make a round of the figures once that is settled."""
    acts: list[dict[str, object]] = []
    for number in range(250):
        asked = {"user_id": f"{day}-{number}", "n": 1}
        answer = (await shop.client.post("/v1/recommendations", json=asked)).json()
        named = {"user_id": asked["user_id"], "item_id": answer["items"][0]["id"], "request_id": answer["request_id"]}
        acts.append({"type": "impression", **named})
        if number < clicks:
            acts.append({"type": "click", **named})
    assert (await shop.client.post("/v1/events", json={"events": acts})).status_code == 200
    shop.hands.pass_by(7_200.0)
    await shop.act(session_id="late")
    assert shop.running.online is not None
    assert shop.running.snapshotter is not None
    await shop.running.online.look()
    await shop.running.snapshotter.write(compare=True)
