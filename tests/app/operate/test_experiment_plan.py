"""Plans of experiments: days by new units of each day, their share of traffic, and the primary metric of the log."""

from pathlib import Path

import numpy as np
import pytest

import midstream
from midstream.app.inspect.experiment_units import ExperimentUnits
from midstream.app.opening import config_of
from midstream.app.operate.experiment_plan import plan_experiment, planned
from midstream.core.errors import ConfigInvalid
from midstream.engine.experiments.views import StartOrder, VariantOrder
from midstream.evaluation.experiments.grouping import UnitTable
from midstream.evaluation.experiments.power import Design, Outlook, plan
from midstream.experiments.metrics import ExperimentMetric
from tests.support.fakes.rebuilds import write_config

ORDER = StartOrder("home", (VariantOrder("a"), VariantOrder("b"), VariantOrder("c", weight=2.0)), share=0.8)
ORDERED = ExperimentMetric("ordered", "purchase", role="primary")


def test_a_plan_has_the_units_and_the_rate_of_the_log() -> None:
    """Two of four parts of 80 % of new units a day: 600, then 400."""
    first_day = np.repeat(np.array([0, 1], dtype=np.int32), (1_500, 1_000))
    columns = np.zeros((4, 2_500))
    columns[3, ::10] = 2.0
    unit = np.arange(1, 2_501, dtype=np.uint64)
    table = UnitTable(unit, np.zeros(2_500, dtype=np.int8), first_day, columns)
    names = ("slates", "empty_slates", "value", "purchase")
    units = ExperimentUnits(table, np.zeros_like(columns), names, (2_500,), 0)
    found = planned(ORDER, ORDERED, units, (2, 0.5))
    expected = plan(Outlook("rate", 0.1, 0.3), Design(0.5), (600.0, 400.0))
    assert (found.value, found.units, found.plan) == (0.1, 2_500, expected)
    assert found.lines()[1].startswith(f"needs about {expected.days} days: ")
    columns[3] = 0.0
    assert planned(ORDER, ORDERED, units, (2, 0.5)).plan is None


def test_a_log_of_less_than_a_day_says_so(tmp_path: Path) -> None:
    """Nothing is planned, and nothing started; an order that cannot be planned has its fault."""
    write_config(tmp_path, '[[placements]]\nname = "home"\nslate_size = 5\n[[placements.sources]]\nkind = "popular"\n')
    with midstream.open(tmp_path) as shop:
        shop.record({"type": "view", "user_id": "u", "item_id": "i"})
        shop.recommend("home", user_id="u")
    config = config_of(tmp_path)
    found = plan_experiment(tmp_path, config, ORDER, 0.05)
    assert (found.metric, found.days, found.plan) == ("purchase", 0, None)
    assert found.lines()[0] == "purchase: cannot be estimated, of 0 units in 0 days of the log"
    assert "too short" in found.lines()[1]
    with pytest.raises(ConfigInvalid, match="Two at least"):
        plan_experiment(tmp_path, config, StartOrder("home", (VariantOrder("a"),)), 0.05)
