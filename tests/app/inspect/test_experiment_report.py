"""Reports of experiments: equal to the statistics of the same arrays, silent where units are lost, printed in words."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import midstream
from midstream.app.inspect.experiment_report import figure_rows, report_of, segment_rows, verdict_lines
from midstream.app.inspect.experiment_units import ExperimentUnits
from midstream.app.opening import config_of
from midstream.app.operate import shown_experiment as showing
from midstream.app.operate.shown_experiment import ShownExperiment, shown_experiment
from midstream.cli import console
from midstream.cli.app import main
from midstream.core.errors import ConfigInvalid
from midstream.engine.experiments.designs import metrics_of
from midstream.engine.experiments.views import ExperimentView, VariantView
from midstream.engine.recommender import Recommender
from midstream.evaluation.experiments.comparisons import ComparisonRule, compare
from midstream.evaluation.experiments.grouping import CROSSED, UnitTable
from midstream.evaluation.experiments.guardrails import Guardrail, judge
from midstream.evaluation.experiments.unit_metrics import Metric
from midstream.evaluation.experiments.unit_sums import unit_sums
from midstream.experiments.documents import Experiment, RampStep, Variant, encode_document, experiment_of
from midstream.experiments.metrics import ExperimentMetric, default_metrics, metric_faults
from midstream.state.settings import EventType, FoldSettings
from tests.support.fakes.rebuilds import write_config

GOLDEN = Path(__file__).with_name("golden") / "experiment_report.txt"
TYPES = FoldSettings().types
NAMES = ("slates", "empty_slates", "value", "dismiss", "purchase")
TOLD = Experiment(
    name="size", placement="home", layer="home", layer_salt=1, first=0, end=10_000, salt=2, began_ms=0,
    variants=(Variant("as-is", "home@size.as-is", "", 5_000), Variant("few", "home@size.few", "", 5_000)),
    steps=(RampStep(0, 10_000),),
)  # fmt: skip


def units_of(counts: tuple[int, int] = (2_000, 2_000), bought: tuple[float, float] = (0.2, 0.3)) -> ExperimentUnits:
    """Units of two variants, who buy at two rates and did so before; one saw both; the second variant is dismissed."""
    random = np.random.default_rng(7)
    variant = np.repeat(np.array([0, 1, CROSSED], dtype=np.int8), (*counts, 1))
    tends = random.random(len(variant))
    rate = np.take(np.array([*bought, 1.0]), variant)
    columns = np.zeros((5, len(variant)))
    past = np.zeros_like(columns)
    columns[0] = random.integers(1, 5, len(variant))
    columns[1] = random.random(len(variant)) < 0.02
    columns[3] = random.random(len(variant)) < np.where(variant == 1, 0.2, 0.05)
    columns[4] = np.where(tends < rate, random.integers(1, 3, len(variant)), 0)
    past[4] = tends + 0.3 * random.random(len(variant)) < 0.4
    columns[2] = columns[4] * random.integers(5, 50, len(variant))
    unit = random.permutation(len(variant)).astype(np.uint64) + 1
    day = (np.arange(len(variant)) % 3).astype(np.int32)
    return ExperimentUnits(UnitTable(unit, variant, day, columns), past, NAMES, (5_000, 5_000), 0)


def test_a_report_is_the_statistics_of_the_units_of_each_variant() -> None:
    """Rate with its past, mean without one, guardrail at its share of the level; a unit of both variants in none."""
    units = units_of()
    metrics = metrics_of(TOLD, TYPES)
    found = report_of(TOLD, metrics, units)
    assert found is not None
    assert (found.is_valid, found.units, found.crossed_units) == (True, 4_000, 1)
    (few,) = found.variants
    has = (units.table.columns > 0).astype(float)
    had = (units.past > 0).astype(float)
    of = [units.table.variant == number for number in (0, 1)]
    bought = [unit_sums(np.stack((has[4], had[4]), axis=1)[each]) for each in of]
    assert few.primary.metric == "purchase"
    assert few.primary.comparison == compare(bought[0], bought[1], "rate", ComparisonRule())
    assert few.primary.comparison.variance_ratio < 0.9
    spent = [unit_sums(units.table.columns[2][each][:, None]) for each in of]
    (value,) = (each.comparison for each in few.secondary if each.metric == "value")
    assert value == compare(spent[0], spent[1], "mean", ComparisonRule())
    assert value.variance_ratio == 1.0
    dismissed = [unit_sums(has[3][each][:, None]) for each in of]
    level = ComparisonRule().at(0.025)
    metric = Metric("dismiss", "rate", "dismiss", better="lower")
    expected = judge(metric, Guardrail("dismiss", 0.1), dismissed[0], dismissed[1], level)
    assert few.guardrails[1] == expected
    assert (few.verdict, expected.verdict, few.guardrails[0].verdict) == ("stop", "stop", "open")


def test_an_effect_in_one_segment_is_shown_there() -> None:
    """Each segment is the comparison of its own units; p values hold for all of them together."""
    units = units_of((4_000, 4_000), (0.2, 0.2))
    is_new = units.table.unit % 2 == 0
    columns = units.table.columns.copy()
    columns[4] = np.where(
        is_new & (units.table.variant == 1), np.maximum(columns[4], units.table.unit % 4 < 2), columns[4]
    )
    table = replace(units.table, columns=columns)
    segments = {"kind=new": is_new, "kind=known": ~is_new}
    found = report_of(TOLD, metrics_of(TOLD, TYPES), replace(units, table=table, segments=segments))
    assert found is not None
    new, known = found.variants[0].segments
    assert (new.segment, new.is_shown, known.segment, known.is_shown) == ("kind=new", True, "kind=known", False)
    has, had = (columns > 0).astype(float), (units.past > 0).astype(float)
    of = [(table.variant == number) & is_new for number in (0, 1)]
    sums = [unit_sums(np.stack((has[4], had[4]), axis=1)[each]) for each in of]
    assert new.comparison == compare(sums[0], sums[1], "rate", ComparisonRule())
    assert known.p_value_corrected == known.comparison.any_time.p_value
    assert new.p_value_corrected == min(1.0, 2 * new.comparison.any_time.p_value)
    (row, _) = segment_rows(found, metrics_of(TOLD, TYPES))
    assert (row[0], row[1], row[-1]) == ("kind=new", "few", "higher")


def test_nothing_is_claimed_where_units_are_lost(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A fifth of the units of one variant is missing: no figure and no verdict, in the report and when printed."""
    shown = shown_of(units_of((2_000, 1_600)))
    assert shown.report is not None
    assert (shown.report.is_valid, shown.report.variants) == (False, ())
    write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    said = printed(shown, capfd, monkeypatch)
    assert (
        "SAMPLE RATIO IS WRONG, no figure of this experiment can be believed: units by variant are 2,000, 1,600" in said
    )
    assert "lift" not in said
    assert "few:" not in said
    assert report_of(TOLD, metrics_of(TOLD, TYPES), units_of((0, 0))) is None


def shown_of(units: ExperimentUnits) -> ShownExperiment:
    """An experiment as it is shown, from arrays."""
    metrics = metrics_of(TOLD, TYPES)
    variants = [VariantView(each.name, each.placement, "0" * 64, 0.5, 0.5, 5_000) for each in TOLD.variants]
    view = ExperimentView(
        "size", "home", "running", "home", [0, 10_000], 1.0, [RampStep(0, 10_000)], variants, 0, None, "", "ann", "",
        1, 0, "0",
    )  # fmt: skip
    counts = tuple(int((units.table.variant == number).sum()) for number in (0, 1))
    return ShownExperiment(view, counts, 1, units.slates, 0, metrics, report_of(TOLD, metrics, units))


def printed(shown: ShownExperiment, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the command says of it."""
    monkeypatch.setattr(console.out.rich, "width", 130)
    monkeypatch.setattr(console.err.rich, "width", 130)
    monkeypatch.setattr(showing, "shown_experiment", lambda *_, **__: shown)
    with pytest.raises(SystemExit) as left:
        main(["experiments", "show", "size"])
    said = capfd.readouterr()
    assert left.value.code in (0, None), said.err
    return f"{said.out}\n{said.err}"


def test_the_printed_report(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Word by word: units and sample ratio, figures of each metric, verdict and guardrails."""
    write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    said = printed(shown_of(units_of()), capfd, monkeypatch)
    if os.environ.get("MIDSTREAM_GOLDEN") == "write":
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(said, "utf-8")
    assert said == GOLDEN.read_text("utf-8")


def test_the_metrics_of_an_experiment_that_declares_none() -> None:
    """The heaviest interaction decides, also of two alike; acts against items are guardrails; built-in names win."""
    assert [(each.name, each.role) for each in default_metrics(TYPES)] == [
        ("purchase", "primary"), ("value", "secondary"), ("empty_slates", "guardrail"), ("dismiss", "guardrail"),
    ]  # fmt: skip
    assert default_metrics({"b": EventType(2.0), "a": EventType(2.0), "slates": EventType(9.0)})[0].counts == "a"
    assert [each.role for each in default_metrics({"hide": EventType(-1.0)})] == ["primary", "guardrail", "guardrail"]


@pytest.mark.parametrize(
    "metric, where",
    [
        ({"counts": "purchas"}, "/metrics/0/counts"),
        ({"name": "A b"}, "/metrics/0/name"),
        ({"kind": "ratio"}, "/metrics/0/per"),
        ({"per": "slates"}, "/metrics/0/per"),
        ({"cap": 2.0}, "/metrics/0/cap"),
        ({"kind": "mean", "cap": float("nan")}, "/metrics/0/cap"),
        ({"harm_max": 0.1}, "/metrics/0/harm_max"),
        ({"role": "secondary"}, "/metrics"),
    ],
)
def test_a_metric_that_cannot_be_read_has_a_place(metric: dict[str, Any], where: str) -> None:
    """Each fault points into the order."""
    good = ExperimentMetric("orders", "purchase", role="primary")
    assert list(metric_faults([good], TYPES)) == []
    told = msgspec.structs.replace(good, **metric)
    assert [each.where for each in metric_faults([told], TYPES)] == [where]


def test_documents_keep_metrics_and_older_ones_are_read() -> None:
    """A document without metrics is of before; two primary ones are of no server."""
    metrics = default_metrics(TYPES)
    kept = msgspec.structs.replace(TOLD, metrics=metrics)
    assert experiment_of(encode_document(kept)) == kept
    document = msgspec.json.decode(encode_document(TOLD))
    del document["metrics"]
    assert experiment_of(msgspec.json.encode(document).decode()) == TOLD
    twice = msgspec.structs.replace(TOLD, metrics=(metrics[0], metrics[0]))
    assert experiment_of(encode_document(twice)) is None


HOME = '[[placements]]\nname = "home"\nslate_size = 5\n[[placements.sources]]\nkind = "popular"\n'
ORDERS = [
    {"name": "ordered", "counts": "purchase", "role": "primary"},
    {"name": "spent", "counts": "value", "kind": "mean", "cap": 50.0},
    {"name": "empty", "counts": "empty_slates", "kind": "ratio", "per": "slates", "better": "lower"},
    {"name": "hidden", "counts": "dismiss", "better": "lower", "role": "guardrail", "harm_max": 0.5},
]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Path, Recommender]]:
    """An open shop with nine items."""
    write_config(tmp_path, HOME)
    with midstream.open(tmp_path) as opened:
        opened.record([{"type": "view", "user_id": "u", "item_id": f"i{n}", "event_id": f"{n}"} for n in range(9)])
        yield tmp_path, opened


def test_a_planted_lift_and_a_planted_harm_are_found_in_the_log(shop: tuple[Path, Recommender]) -> None:
    """Users of one variant buy twice as often, of another dismiss nine times as often; values are as they were sent."""
    folder, opened = shop
    variants = [{"name": "as-is"}, {"name": "sells"}, {"name": "annoys"}]
    opened.experiments.start("size", author="ann", placement="home", variants=variants, metrics=ORDERS)
    random = np.random.default_rng(3)
    had: dict[str, str] = {}
    acts: list[dict[str, Any]] = []
    rates = {"as-is": (0.4, 0.1), "sells": (0.95, 0.1), "annoys": (0.4, 0.9)}
    for number in range(600):
        user = f"user-{number}"
        had[user] = opened.recommend("home", user_id=user).variant
        buys, hides = random.random(2) < rates[had[user]]
        act = {"user_id": user, "item_id": "i1"}
        acts += [{**act, "type": "purchase", "value": 30.0, "quantity": 2}] * int(buys)
        acts += [{**act, "type": "dismiss"}] * int(hides)
    opened.record(acts)
    found = shown_experiment(folder, config_of(folder), "size")
    assert found.report is not None
    assert found.report.is_valid
    assert [each.name for each in found.metrics] == ["ordered", "spent", "empty", "hidden"]
    sells, annoys = found.report.variants
    assert (sells.verdict, annoys.verdict) == ("better", "stop")
    for name, report in (("sells", sells), ("annoys", annoys)):
        users = [user for user, variant in had.items() if variant == name]
        bought = {each["user_id"] for each in acts if each["type"] == "purchase"}.intersection(users)
        assert report.primary.comparison.treated == pytest.approx(len(bought) / len(users))
        (spent,) = (each.comparison for each in report.secondary if each.metric == "spent")
        assert spent.treated == pytest.approx(50 * len(bought) / len(users))
    assert "hidden is" in annoys.reason
    assert next(verdict_lines(found.report)).startswith("sells: better (ordered: lift +")
    assert len(list(figure_rows(found.report, found.metrics, "as-is"))) == 12
    assert opened.experiments.show("size").metrics[0].name == "ordered"
    opened.experiments.stop("size", "seen", author="ann")
    opened.record([{"type": "dismiss", "user_id": user, "item_id": "i1"} for user in had])
    ended = shown_experiment(folder, config_of(folder), "size").report
    assert ended is not None
    assert msgspec.json.encode(ended.variants) == msgspec.json.encode(found.report.variants)


def test_an_order_with_a_wrong_metric_starts_nothing(shop: tuple[Path, Recommender]) -> None:
    """Its faults point into the order; without metrics the default ones are kept in the document."""
    _, opened = shop
    order: dict[str, Any] = {"author": "ann", "placement": "home", "variants": [{"name": "a"}, {"name": "b"}]}
    with pytest.raises(ConfigInvalid, match="purchas"):
        opened.experiments.start("one", **order, metrics=[{"name": "x", "counts": "purchas", "role": "primary"}])
    assert not opened.experiments.list().experiments
    view = opened.experiments.start("one", **order)
    assert [each.name for each in view.metrics] == [each.name for each in default_metrics(TYPES)]
