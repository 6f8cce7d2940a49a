"""Continuous training of an open folder: the loop reads what its own instance knows."""

from pathlib import Path

import msgspec

from midstream.app.operate.model_registry import registry_of
from midstream.app.training.services import training_loop
from midstream.engine.instance import Instance
from midstream.engine.online.views import NOTHING, OnlineDrift
from midstream.events.json.decode import decode_objects
from tests.support.fakes.models import publish_linear, run_folder, write_ranked

TRAINED = """
[feedback]
window = "6h"

[[models]]
name = "ranker"
kind = "ftrl"
placement = "home"

[[trainings]]
model = "ranker"
calibration = true
"""


def test_an_alarm_of_the_champion_makes_a_training_due(tmp_path: Path) -> None:
    """That of its online metrics, since when they say; an alarm of another version is none."""
    write_ranked(tmp_path)
    path = tmp_path / "midstream.toml"
    path.write_text(path.read_text() + TRAINED)
    version = publish_linear(registry_of(tmp_path))

    async def work(running: Instance) -> None:
        (table,) = running.service.config.trainings
        view = [{"type": "view", "user_id": "ann", "item_id": "item-1"}]
        await running.engine.record(decode_objects(view, running.service.accept).batch)
        await running.champions.promote("ranker")
        loop = training_loop(running, tmp_path)
        assert loop._due(table) == ""
        alarm = OnlineDrift("home", "calibration", f"ranker {version}", -0.4, -0.6, -0.3, alarm=True, since=9_000)
        assert running.online is not None
        running.online.view = msgspec.structs.replace(NOTHING, drift=(alarm,))
        assert loop._due(table) == "calibration"
        assert loop._miscalibrated_since(table) == 9_000
        other = msgspec.structs.replace(alarm, model="ranker 0009-ffffffffffff")
        running.online.view = msgspec.structs.replace(NOTHING, drift=(other,))
        assert loop._due(table) == ""

    run_folder(tmp_path, work)
