"""Scrapes: samples of a target at one moment, read from the text that it gave, with the labels of its job."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import yaml  # type: ignore[import-untyped]  # the package brings no types
from prometheus_client.parser import text_string_to_metric_families

PROMETHEUS: Final = Path(__file__).parents[3] / "deploy" / "prometheus"
_JOBS: Final[list[dict[str, Any]]] = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text("utf-8"))[
    "scrape_configs"
]
TARGETS: Final = {each["job_name"]: each["static_configs"][0]["targets"][0] for each in _JOBS}
"""Instance of each job, as the shipped configuration says."""
SHOP, NODE = "midstream", "node"
_GROWS: Final = ("_total", "_bucket", "_count", "_sum")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one series."""

    value: float
    grows: bool
    """It is a counter, or a part of a histogram."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """What a target said at a moment, by series; without samples where it could not be scraped."""

    job: str
    samples: dict[str, Sample] = field(default_factory=dict[str, Sample])
    is_up: bool = True
    taken_s: float = field(default_factory=time.time)

    def value(self, name: str, **labels: str) -> float:
        """Return the value of a series, 0 where there is none."""
        found = self.samples.get(series_of(name, {**labels, **target(self.job)}))
        return 0.0 if found is None else found.value


def target(job: str) -> dict[str, str]:
    """Return the labels that Prometheus gives to all samples of a job."""
    return {"job": job, "instance": TARGETS[job]}


def series_of(name: str, labels: dict[str, str]) -> str:
    """Return a series as expressions name it, labels in order."""
    escaped = (
        value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for _, value in sorted(labels.items())
    )
    pairs = ", ".join(f'{label}="{value}"' for label, value in zip(sorted(labels), escaped, strict=True))
    return f"{name}{{{pairs}}}"


def read(text: str, job: str = SHOP) -> Scrape:
    """Return the scrape of a text in the format of Prometheus."""
    samples = {
        series_of(each.name, {**each.labels, **target(job)}): Sample(
            float(each.value), family.type in {"counter", "histogram"} and each.name.endswith(_GROWS)
        )
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }
    return Scrape(job, samples)


def scraped(url: str) -> Scrape:
    """Scrape a server at an address; one that does not answer is down."""
    try:
        answer = httpx.get(f"{url}/metrics")
    except httpx.TransportError:
        return Scrape(SHOP, is_up=False)
    return read(answer.text) if answer.status_code == 200 else Scrape(SHOP, is_up=False)


def collected(folder: Path) -> Scrape:
    """Scrape a node exporter whose textfile collector has a folder."""
    return read("".join(path.read_text("utf-8") for path in sorted(folder.glob("*.prom"))), NODE)
