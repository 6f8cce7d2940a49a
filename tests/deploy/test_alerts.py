"""Alert rules: each has a runbook and a case in which it fires and resolves, and asks for metrics that there are."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # the package brings no types
from prometheus_client import CollectorRegistry

from midstream.app.scheduled.text_metrics import TEXT_METRICS
from midstream.monitoring.metrics import Metrics
from tests.support.alerts.promtool import promtool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "rules.yaml").read_text("utf-8"))["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES: dict[str, dict[str, Any]] = {
    case["name"]: case
    for name in ("rules_test.yaml", "rules_days_test.yaml")
    for case in yaml.safe_load((FOLDER / name).read_text("utf-8"))["tests"]
}
RUNBOOKS = (ROOT / "docs" / "alerts.md").read_text("utf-8")
_NAME = re.compile(r"\bmidstream_[a-z0-9_]+")
_SUFFIX = re.compile(r"_(bucket|count|sum)$")


def metric_names() -> set[str]:
    """Return the name of every metric, and those of the samples of histograms."""
    metrics = Metrics(CollectorRegistry())
    named = {*metrics.names(), *TEXT_METRICS}
    histograms = {each.name for each in metrics.registry.collect() if each.type == "histogram"}
    return named | {f"{name}_{suffix}" for name in histograms for suffix in ("bucket", "count", "sum")}


def unknown(text: str, known: set[str]) -> list[str]:
    """Return the metrics of a text that there are not."""
    return sorted({name for name in _NAME.findall(text) if name not in known})


def recorded(text: str) -> Iterator[str]:
    """Yield the recorded series that an expression reads."""
    yield from re.findall(r"\bmidstream:[a-z0-9_:]+", text)


def test_rules_ask_for_metrics_that_there_are() -> None:
    """Each name in an expression or in the series of a case is one that a server prints, or one that is recorded."""
    known = metric_names()
    assert unknown("rate(midstream_nothing_total[5m])", known) == ["midstream_nothing_total"]
    assert len(ALERTS) >= 45
    series = [each["series"] for case in CASES.values() for each in case["input_series"]]
    assert unknown("\n".join([*(rule["expr"] for rule in RULES), *series]), known) == []
    records = {rule["record"] for rule in RULES if "record" in rule}
    assert {name for rule in RULES for name in recorded(rule["expr"])} <= records


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_runbook(name: str) -> None:
    """Its annotation leads to a heading of its name, below which stands what it means, where to look, what to do."""
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"
    text = RUNBOOKS.split(f"\n### {name}\n")[1].split("\n#")[0]
    assert re.findall(r"^- (Means|Look|Do): ", text, re.MULTILINE) == ["Means", "Look", "Do"]


def test_each_runbook_has_an_alert() -> None:
    """A runbook of an alert that is gone is removed with it."""
    assert set(re.findall(r"^### (Midstream\w+)$", RUNBOOKS, re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_fires_and_resolves_in_a_case(name: str) -> None:
    """First there is one alert with its labels, later none."""
    checks = CASES[name]["alert_rule_test"]
    assert {check["alertname"] for check in checks} == {name}
    assert [len(check["exp_alerts"]) for check in checks] == [1, 0]
    assert checks[0]["exp_alerts"][0]["exp_labels"]["severity"] == ALERTS[name]["labels"]["severity"]


@pytest.mark.integration
@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "prometheus.yaml"),
        ("check", "rules", "rules.yaml"),
        ("test", "rules", "rules_test.yaml"),
        ("test", "rules", "rules_days_test.yaml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_no_fault(words: tuple[str, ...]) -> None:
    """Configuration and rules are valid, and each alert fires and resolves as its case says."""
    done = subprocess.run([promtool(), *words], cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.integration
def test_promtool_finds_a_bound_that_moved(tmp_path: Path) -> None:
    """The cases hold the bounds of the rules: with another one of the disk its case fails."""
    rules = (FOLDER / "rules.yaml").read_text("utf-8")
    (tmp_path / "rules.yaml").write_text(rules.replace("< 0.05", "< 0.01"), "utf-8")
    cases = yaml.safe_load((FOLDER / "rules_test.yaml").read_text("utf-8"))
    cases["tests"] = [CASES["MidstreamDiskFull"]]
    (tmp_path / "rules_test.yaml").write_text(yaml.safe_dump(cases), "utf-8")
    words = [promtool(), "test", "rules", "rules_test.yaml"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "MidstreamDiskFull" in done.stdout + done.stderr
