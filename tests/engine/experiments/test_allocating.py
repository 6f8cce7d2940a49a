"""Experiments whose shares move: towards the better variant, once a day, as control events; and no verdict."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import midstream
from midstream.app.explain.reruns import rerun_last
from midstream.app.inspect.allocation_report import allocation_report
from midstream.app.inspect.experiment_units import ExperimentUnits
from midstream.app.opening import config_of
from midstream.app.operate.shown_experiment import shown_experiment
from midstream.cli.app import main
from midstream.core.errors import ConfigInvalid
from midstream.core.types import LogPosition
from midstream.engine.experiments.allocating import ExperimentAllocating, reallocation_of
from midstream.engine.experiments.watch import UnitsSeen
from midstream.engine.placements.control_changes import Said
from midstream.engine.recommender import Recommender
from midstream.evaluation.experiments.grouping import UnitTable
from midstream.experiments import reallocation
from midstream.experiments.documents import Experiment, RampStep, Variant
from midstream.experiments.metrics import ExperimentMetric
from midstream.experiments.reallocation import DAY_MS, Reallocation, first_shares, is_due
from tests.engine.experiments.test_experimenting import CART, HOME, USERS, arms, started, write
from tests.support.fakes.rebuilds import write_config

CLICK = ExperimentMetric("click", "click", role="primary")
TOLD = Experiment(
    name="size", placement="home", layer="home", layer_salt=1, first=0, end=10_000, salt=2, began_ms=0,
    variants=(Variant("as-is", "home@size.as-is", "", 5_000), Variant("few", "home@size.few", "", 5_000)),
    steps=(RampStep(0, 10_000),), allocation="thompson", moves=(first_shares((5_000, 5_000), 0),),
)  # fmt: skip
METRICS = [{"name": "click", "counts": "click", "role": "primary"}]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Recommender]:
    """A shop with an experiment whose shares move; users with ``few`` click, the others do not."""
    write(tmp_path)
    with midstream.open(tmp_path) as opened:
        opened.record([{"type": "view", "user_id": "u", "item_id": f"i{n}", "event_id": f"{n}"} for n in range(9)])
        started(opened, allocation="thompson", metrics=METRICS)
        for user in USERS[:80]:
            if opened.recommend("home", user_id=user).variant == "few":
                opened.record({"type": "click", "user_id": user, "item_id": "i1"})
        yield opened


def look(shop: Recommender) -> None:
    """Let the watch read the log, then move what is due."""
    running = shop.running
    (service,) = [each for each in running.services if isinstance(each, ExperimentAllocating)]
    assert running.watch is not None
    shop._wait(running.watch.look)
    shop._wait(service.look)


def test_shares_move_once_a_day_and_answers_are_made_again(
    shop: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Towards the variant that is clicked; not before the day is over; a restart goes on with them."""
    look(shop)
    assert [each.weight for each in shop.experiments.show("size").variants] == [0.5, 0.5]
    monkeypatch.setattr(reallocation, "DAY_MS", 1)
    look(shop)
    view = shop.experiments.show("size")
    assert view.variants[1].weight > 0.97
    assert (view.allocation, view.author, len(view.moves)) == ("thompson", "midstream", 2)
    assert view.moves[1].best[1] > 0.99
    assert view.moves[1].successes[0] == 0
    assert view.moves[1].units[1] == view.moves[1].successes[1] > 20
    after = Counter(each[1] for each in arms(shop).values())
    assert after["few"] > 180
    monkeypatch.setattr(reallocation, "DAY_MS", DAY_MS)
    look(shop)
    assert len(shop.experiments.show("size").moves) == 2
    with pytest.raises(ConfigInvalid):
        shop._wait(lambda: shop.running.experimenting.reallocate("size", first_shares((1,), 0), Said("x", "")))
    shop.record({"type": "view", "user_id": "u", "item_id": "i1"})
    assert all(not each.differences for each in rerun_last(tmp_path, 10))


def test_a_report_has_the_posterior_and_no_verdict(
    shop: Recommender, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """On the command line and as JSON; the watch judges nothing of it."""
    look(shop)
    assert shop.running.watch is not None
    seen = shop.running.watch.seen("size")
    assert seen is not None
    assert (dict(seen.verdicts), seen.invalid) == ({}, "")
    found = shown_experiment(tmp_path, config_of(tmp_path), "size")
    assert found.report is None
    assert found.allocation is not None
    assert found.allocation.variants[1].best > 0.99
    assert found.allocation.sample_ratio is not None
    assert not found.allocation.sample_ratio.is_failed
    with pytest.raises(SystemExit):
        main(["experiments", "show", "size", "--folder", str(tmp_path)])
    said = "".join(capfd.readouterr())
    assert "no verdict" in said
    assert "guardrail" not in said


def test_what_cannot_move_does_not_start(tmp_path: Path) -> None:
    """A mean, a guardrail, and a draft."""
    write(tmp_path)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"metrics": [{"name": "v", "counts": "value", "kind": "mean", "role": "primary"}]}, "/metrics/0/kind"),
        ({"metrics": [*METRICS, {"name": "d", "counts": "dismiss", "role": "guardrail"}]}, "/metrics/1/role"),
        ({"design": "interleave"}, "/allocation"),
    ]
    with midstream.open(tmp_path) as shop:
        shop.record({"type": "view", "user_id": "u", "item_id": "i1"})
        for order, where in bad:
            with pytest.raises(ConfigInvalid) as refused:
                started(shop, **{"allocation": "thompson", **order})
            assert where in [each.where for each in refused.value.faults]
        started(shop, allocation="thompson")
        assert {each.role for each in shop.experiments.show("size").metrics} <= {"primary", "secondary"}


SHELF = "".join(
    f'[[features]]\nname = "{name}"\nkind = "outcome_count"\nactions = ["{action}"]\nplacement = "home"\n'
    for name, action in (("clicked", "click"), ("seen", "impression"))
)
LEARNS = {"features": ["clicked", "seen"], "selector": {"kind": "thompson", "acts": "clicked", "impressions": "seen"}}


@pytest.mark.parametrize("design", ["split", "interleave"])
def test_a_selector_that_learns_has_no_verdict_beside_it(tmp_path: Path, design: str) -> None:
    """As the variant that is tried and as the control; it may run where shares move, and is drawn there again."""
    write_config(tmp_path, SHELF + HOME.format(size=5) + CART)
    learns: dict[str, Any] = {"name": "learns", "change": LEARNS}
    with midstream.open(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": "u", "item_id": f"i{n}", "event_id": f"{n}"} for n in range(9)])
        for variants, number in (([{"name": "as-is"}, learns], 1), ([learns, {"name": "plain", "change": {}}], 0)):
            with pytest.raises(ConfigInvalid) as refused:
                started(shop, variants=variants, design=design)
            (fault,) = refused.value.faults
            assert (fault.where, "thompson" in fault.came) == (f"/variants/{number}/placement/selector", True)
        assert shop.experiments.list().experiments == []
        started(shop, variants=[{"name": "as-is"}, learns], allocation="thompson")
        answers = [shop.recommend("home", user_id=user) for user in USERS[:40]]
        assert len({tuple(each.id for each in one.items) for one in answers if one.variant == "learns"}) > 3
        shop.record({"type": "view", "user_id": "u", "item_id": "i1"})
        assert all(not each.differences for each in rerun_last(tmp_path, 20))


def units(counts: list[list[int]], clicks: tuple[float, float], seed: int = 5) -> ExperimentUnits:
    """New units of each day by variant, who click at two rates."""
    random = np.random.default_rng(seed)
    day = np.repeat(np.arange(len(counts), dtype=np.int32), [sum(each) for each in counts])
    variant = np.concatenate([np.repeat(np.array([0, 1], dtype=np.int8), each) for each in counts])
    has = random.random(len(day)) < np.take(clicks, variant)
    table = UnitTable(np.arange(1, len(day) + 1, dtype=np.uint64), variant, day, has[np.newaxis].astype(float))
    return ExperimentUnits(table, np.zeros((1, len(day))), ("click",), (1, 1), 0, variant)


def moved(*shares: tuple[int, int]) -> Experiment:
    """The experiment after moves on its first days."""
    moves = tuple(Reallocation(day * DAY_MS + 5, each, (0.5, 0.5), (1, 1), (0, 0)) for day, each in enumerate(shares))
    return msgspec.structs.replace(TOLD, moves=moves)


def test_the_sample_ratio_is_that_of_each_day() -> None:
    """As the shares of the day say it is right, though over all it is not; units that are lost on a day are found."""
    told = moved((5_000, 5_000), (2_000, 8_000), (500, 9_500))
    right = [[1_000, 1_000], [400, 1_600], [100, 1_900]]
    found = allocation_report(told, (CLICK,), units(right, (0.1, 0.2))).sample_ratio
    assert found is not None
    assert not found.is_failed
    assert sum(found.counts) == 6_000
    lost = [[1_000, 1_000], [400, 1_000], [100, 1_900]]
    found = allocation_report(told, (CLICK,), units(lost, (0.1, 0.2))).sample_ratio
    assert found is not None
    assert found.is_failed


def test_shares_follow_the_posterior() -> None:
    """Of a variant that is worse little is left, and never nothing; less may be better."""

    def shares(clicks: tuple[float, float], metric: ExperimentMetric = CLICK) -> tuple[int, ...]:
        known = units([[2_000, 2_000]], clicks)
        seen = UnitsSeen(known.table, known.names, TOLD, (), (0, 0), 1, LogPosition(0))
        return reallocation_of(TOLD, metric, seen, 7).shares

    assert sum(shares((0.1, 0.1))) == 10_000
    assert shares((0.10, 0.15)) == (200, 9_800)
    assert shares((0.15, 0.10)) == (9_800, 200)
    assert shares((0.15, 0.10), msgspec.structs.replace(CLICK, better="lower")) == (200, 9_800)


def test_a_day_is_that_of_the_experiment() -> None:
    """Shares move on each day once, whenever it is looked; fixed ones never."""
    assert not is_due(0, TOLD.moves, DAY_MS - 1)
    assert is_due(0, TOLD.moves, DAY_MS)
    assert not is_due(0, moved((1, 1), (1, 1)).moves, 2 * DAY_MS - 1)
    assert is_due(0, moved((1, 1), (1, 1)).moves, 2 * DAY_MS)
    assert not is_due(0, (), 9 * DAY_MS)
