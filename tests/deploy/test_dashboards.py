"""Dashboards: their expressions are valid and ask for metrics that there are, and no panel covers another."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # the package brings no types

from tests.deploy.test_alerts import metric_names, unknown
from tests.support.alerts.promtool import promtool
from tests.support.libraries import library

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARDS: dict[str, Any] = {path.name: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}
dashboards = pytest.mark.parametrize("name", DASHBOARDS)
UNITS = {"none", "percentunit", "s", "bytes", "ops", "reqps"}
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


def panels(name: str) -> list[dict[str, Any]]:
    """Return the panels with queries."""
    return [each for each in DASHBOARDS[name]["panels"] if each["type"] != "row"]


def expressions(name: str) -> list[str]:
    """Return every expression of a dashboard."""
    return [target["expr"] for panel in panels(name) for target in panel["targets"]]


def variables(name: str) -> dict[str, Any]:
    """Return the variables of a dashboard."""
    return {each["name"]: each for each in DASHBOARDS[name]["templating"]["list"]}


def test_dashboards_are_found() -> None:
    """Each under an identity of its own."""
    assert len(DASHBOARDS) == 4
    assert {each["uid"] for each in DASHBOARDS.values()} == {name.removesuffix(".json") for name in DASHBOARDS}


@dashboards
def test_panels_ask_for_metrics_that_there_are(name: str) -> None:
    """So do the variables by which a reader chooses."""
    texts = [
        *expressions(name),
        *(each["query"]["query"] for each in variables(name).values() if each["type"] == "query"),
    ]
    assert len(texts) > 10
    assert unknown("\n".join(texts), metric_names()) == []


@dashboards
def test_panels_name_variables_that_there_are(name: str) -> None:
    """A data source of any name serves, as each query names the variable; intervals are Grafana's own."""
    known = {*variables(name), "__rate_interval"}
    for panel in panels(name):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert {found for target in panel["targets"] for found in _VARIABLE.findall(target["expr"])} <= known
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@dashboards
def test_no_panel_covers_another(name: str) -> None:
    """Each has a number of its own and a place within the 24 columns."""
    every = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.integration
@dashboards
def test_expressions_are_valid(name: str, tmp_path: Path) -> None:
    """Each parses where Prometheus parses rules, with values in place of variables."""
    texts = [expression.replace("$__rate_interval", "5m").replace("$", "") for expression in expressions(name)]
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(texts)]
    for file, content in (
        ("good.yaml", rules),
        ("bad.yaml", [*rules, {"record": "panel:bad", "expr": "sum(rate(x[5m])"}]),
    ):
        (tmp_path / file).write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": content}]}), "utf-8")
        words = [promtool(), "check", "rules", str(tmp_path / file)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode == 0) == (file == "good.yaml"), done.stdout + done.stderr


def lost(before: Any, after: Any, place: str = "$") -> Iterator[str]:
    """Yield the places of what is in one document and not, or otherwise, in another one."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after[key], f"{place}.{key}") if key in after else [f"{place}.{key}"]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, two) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, two, f"{place}[{number}]")
    elif before != after:
        yield place


@pytest.mark.integration
@dashboards
def test_dashboards_are_of_the_published_types(name: str) -> None:
    """Read into the types that Grafana publishes and written again, nothing is lost; a key of no type would be."""
    library("grafana_foundation_sdk")
    encoder = library("grafana_foundation_sdk.cog.encoder").JSONEncoder
    library("grafana_foundation_sdk.cog.plugins").register_default_plugins()
    dashboard = library("grafana_foundation_sdk.models.dashboard").Dashboard

    def unread(document: dict[str, Any]) -> list[str]:
        return list(lost(document, json.loads(json.dumps(dashboard.from_json(document), cls=encoder))))

    document = DASHBOARDS[name]
    assert unread(document) == []
    kinds = {
        type(target).__module__.rsplit(".", 1)[1]
        for panel in dashboard.from_json(document).panels
        for target in getattr(panel, "targets", None) or ()
    }
    assert kinds == {"prometheus"}
    odd = json.loads(json.dumps(document))
    odd["panels"][1]["gridpos"] = odd["panels"][1].pop("gridPos")
    odd["panels"][1]["targets"][0]["expression"] = "up"
    odd["panels"][1]["options"]["legends"] = {}
    assert unread(odd) == ["$.panels[1].targets[0].expression", "$.panels[1].options.legends", "$.panels[1].gridpos"]
