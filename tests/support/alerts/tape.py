"""A tape of scrapes, and what the shipped rules make of it: real samples, held or repeated over hours.

A scrape stands for all that a server would have said until the next one: gauges hold their values, and counters stay,
or, where a fault goes on, grow each time by as much as they grew from the scrape before. Series that are not in a
scrape are not on the tape, as for Prometheus; a counter that is less than before began anew. Times in gauges
(``_timestamp_seconds``) keep their distance from the moment of their scrape. ``promtool`` plays the tape: at each check
exactly the named alerts fire.
"""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]  # the package brings no types

from midstream.core.durations import Duration
from tests.support.alerts.promtool import promtool
from tests.support.alerts.scrapes import PROMETHEUS, SHOP, Sample, Scrape, series_of, target

STEP_S: Final = 15
"""Between two scrapes, as the shipped configuration has it."""
EVALUATED_S: Final = 60
"""Between two looks at the rules; the shipped configuration has half of it, and a tape takes half of the time so."""
RULES: Final[list[dict[str, Any]]] = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text("utf-8"))["groups"]
SEVERITY: Final = {
    rule["alert"]: rule["labels"]["severity"] for group in RULES for rule in group["rules"] if "alert" in rule
}
_ASKED: Final = frozenset(
    re.findall(r"\bmidstream_[a-z0-9_]+|\bup\b", " ".join(rule["expr"] for group in RULES for rule in group["rules"]))
)
"""Metrics that a rule reads; a tape has no others, since they cost time and move nothing."""


def firing(alert: str, job: str = SHOP, **labels: str) -> str:
    """Return the series of an alert that fires for a target."""
    every = {**target(job), "severity": SEVERITY[alert], **labels}
    return series_of("ALERTS", {**every, "alertname": alert, "alertstate": "firing"})


@dataclass
class _Series:
    """Values of one series from a step on."""

    values: list[str] = field(default_factory=list[str])
    raw: float = 0.0
    """Of the newest scrape, for a counter."""
    base: float = 0.0
    """What it has grown by on the tape alone."""


class Tape:
    """Scrapes one after another, each for a length of time, with checks in between."""

    def __init__(self, interval_s: int = STEP_S) -> None:
        """Begin at 0; an interval above that of the configuration makes a tape of days short."""
        self._interval_s = interval_s
        self._steps = 0
        self._series: dict[str, _Series] = {}
        self._checks: list[tuple[int, tuple[str, ...]]] = []

    def hold(self, *scrapes: Scrape, lasts: str) -> None:
        """Let targets say for some time what they said in a scrape; those without one are no targets then."""
        self._add(scrapes, lasts, repeats=False)

    def repeat(self, *scrapes: Scrape, lasts: str) -> None:
        """Let what happened since the scrapes before happen again until each further scrape."""
        self._add(scrapes, lasts, repeats=True)

    def check(self, *alerts: str) -> None:
        """Say which alerts fire now (``firing``), and that no other one does; without any, that none is pending."""
        self._checks.append(((self._steps - 1) * self._interval_s, alerts))

    def play(self, folder: Path) -> None:
        """Have promtool play the tape to the shipped rules.

        Raises:
            AssertionError: Other alerts fire than the checks say.
        """
        first, last = self._checks[0], self._checks[-1]
        assert len(self._checks) >= 3, "before, during, after"
        assert (first[1], last[1]) == ((), ()), "none fires before the fault, and none after it"
        case = {
            "interval": f"{self._interval_s}s",
            "input_series": [{"series": name, "values": _told(each.values)} for name, each in self._series.items()],
            "promql_expr_test": [
                {
                    "expr": 'ALERTS{alertstate="firing"}' if alerts else "ALERTS",
                    "eval_time": f"{at_s}s",
                    "exp_samples": [{"labels": each, "value": 1} for each in alerts],
                }
                for at_s, alerts in self._checks
            ],
        }
        rules = {"rule_files": [str(PROMETHEUS / "rules.yaml")], "evaluation_interval": f"{EVALUATED_S}s"}
        path = folder / "tape.yaml"
        path.write_text(yaml.safe_dump({**rules, "tests": [case]}, width=10**9), "utf-8")
        words = [promtool(), "test", "rules", path.name]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _add(self, scrapes: tuple[Scrape, ...], lasts: str, *, repeats: bool) -> None:
        count = Duration(lasts).ms // (self._interval_s * 1_000)
        now_s = self._steps * self._interval_s
        said: set[str] = set()
        for scrape in scrapes:
            up = series_of("up", target(scrape.job))
            for name, sample in {up: Sample(float(scrape.is_up), grows=False), **scrape.samples}.items():
                metric = name.partition("{")[0]
                if metric not in _ASKED:
                    continue
                said.add(name)
                if metric.endswith("_timestamp_seconds"):
                    sample = Sample(sample.value - scrape.taken_s + now_s, grows=False)  # noqa: PLW2901
                self._append(name, sample, count, repeats=repeats)
        for name, each in self._series.items():
            if name not in said:
                each.values += ["stale"] + ["_"] * (count - 1)
                each.raw = each.base = 0.0
        self._steps += count

    def _append(self, name: str, sample: Sample, count: int, *, repeats: bool) -> None:
        series = self._series.setdefault(name, _Series(["_"] * self._steps))
        if not sample.grows:
            series.values += [repr(sample.value)] * count
            return
        if sample.value < series.raw:
            series.raw = series.base = 0.0
        step = sample.value - series.raw if repeats else 0.0
        series.values += [repr(series.base + sample.value + number * step) for number in range(count)]
        series.base += (count - 1) * step
        series.raw = sample.value


def _told(values: list[str]) -> str:
    """Return values as promtool reads them, equal ones in a row as one."""
    runs: list[tuple[str, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = value, runs[-1][1] + 1
        else:
            runs.append((value, 1))
    return " ".join(_run(*run) for run in runs)


def _run(value: str, count: int) -> str:
    if value == "_":
        return f"_x{count}"
    return value if value == "stale" or count == 1 else f"{value}x{count - 1}"
