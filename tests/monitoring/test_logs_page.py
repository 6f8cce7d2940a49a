"""The page about logs has every event that there is, and no other."""

import re
from pathlib import Path

from midstream.engine.operational_log import _FOLLOWER, _LOSSES

ROOT = Path(__file__).parents[2]
NOTED = re.compile(r'(?:Fact|_note|_note_part|_change)\(\s*(?:[^()"\n]*, )?"([a-z]+(?:_[a-z]+)*)"')
NAMED = re.compile(r'"((?:disk_full|append_failed|placement_\w+|model_\w+))"')
SOURCES = ("app", "engine", "integrations", "monitoring", "serving")
OTHERS = {
    "model_version",
    "model_versions",
    "model_swaps",
    "model_refusals",
    "model_knn",
    "debug",
    "info",
    "warning",
    "error",
}


def events_of_sources() -> set[str]:
    """Names of events, as sources note them."""
    found = {name for name, _ in _FOLLOWER.values()} | set(_LOSSES) | {"facts_beyond_maximum"}
    for folder in SOURCES:
        for path in (ROOT / "src" / "midstream" / folder).rglob("*.py"):
            text = path.read_text("utf-8")
            if "monitoring.facts" in text or path.name == "facts.py":
                found |= {*NOTED.findall(text), *NAMED.findall(text)}
    return found - OTHERS


def test_every_event_is_on_the_page() -> None:
    """And what the page names is noted somewhere."""
    page = (ROOT / "docs" / "logs.md").read_text("utf-8")
    table = page.partition("## Events")[2].partition("## Shipping")[0]
    rows = (line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    told = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert told == events_of_sources()
