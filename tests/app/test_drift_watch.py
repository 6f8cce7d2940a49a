"""What is watched of a running engine: features of what it serves, beside what they were in training."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Placement
from midstream.app.drift_watch import baseline_of
from midstream.core.errors import ConfigInvalid
from midstream.engine.engine import EngineOptions
from midstream.engine.types import Ask
from midstream.evaluation.metrics.feature_statistics import statistics_of
from midstream.features.kinds.kinds import Count
from midstream.monitoring.options import MonitoringSection
from tests.support.rig import SMALL, Rig, view

WATCHED = msgspec.structs.replace(
    SMALL,
    features=(Count(name="views", actions=("view",)),),
    placements=(Placement(features=("views",)),),
)


def test_served_items_feed_the_metrics() -> None:
    """Of some requests the features of the items that were served are kept; a swap of plans forgets them."""
    baseline = statistics_of(("views",), np.zeros((50, 1), dtype=np.float32))
    rig = Rig(config=WATCHED, options=EngineOptions(baseline=baseline))

    async def work(rig: Rig) -> str:
        await rig.engine.record(rig.batch(*(view("a", event_id=str(n)) for n in range(3)), view("b", event_id="b")))
        for _ in range(200):
            await rig.engine.recommend(Ask("default"))
        rig.engine.refresh_metrics()
        return rig.engine.metrics.text().decode()

    text = rig.run(work)
    found = rig.engine.live.feature_values.column("views")
    assert found is not None
    assert 2 * 200 / 16 / 3 < found.known < 2 * 200 / 16 * 3
    assert found.quantiles[0] == 1.0
    assert found.quantiles[-1] == 3.0
    assert f'midstream_feature_mean{{feature="views"}} {found.mean}' in text
    psi = next(line for line in text.splitlines() if line.startswith("midstream_feature_psi{"))
    assert float(psi.rpartition(" ")[2]) > 1.0
    told = rig.engine.feature("views")
    assert told is not None
    live = told.live["views"]
    assert (live.known, live.quantiles) == (found.known, found.quantiles)
    assert live.psi == float(psi.rpartition(" ")[2])
    assert live.ks == 1.0
    rig.engine.swap(rig.engine.fold, rig.engine.plans)
    assert rig.engine.live.feature_values.column("views") is None
    after = rig.engine.feature("views")
    assert after is not None
    assert after.live == {}


def test_a_baseline_is_a_file_beside_the_configuration(tmp_path: Path) -> None:
    """One that is not there is a fault of the configuration; without one nothing is compared."""
    written = statistics_of(("views",), np.array([[1.0], [math.nan]], dtype=np.float32))
    written.write(tmp_path / "then.json")
    config = msgspec.structs.replace(WATCHED, monitoring=MonitoringSection("then.json"))
    assert baseline_of(config, tmp_path) == written
    assert baseline_of(WATCHED, tmp_path) is None
    with pytest.raises(ConfigInvalid, match=r"^midstream\.toml: \$\.monitoring\.baseline"):
        baseline_of(config, tmp_path / "elsewhere")
