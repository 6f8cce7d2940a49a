"""Outcome report of a data folder: impressions and actions of its slates by placement, tier and plan."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import DATA_NAME
from midstream.app.server_address import server_headers, server_of
from midstream.core.errors import StoreUnavailable
from midstream.engine.folder import DataFolder
from midstream.engine.types import LiveColumn

ANSWER_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class ReportRow:
    """Sums of one placement, tier and plan since the log began."""

    placement: str
    tier: str
    plan: str
    """Hash of the configuration that answered."""
    slates: int
    positions: int
    impressions: int
    """Positions that were seen, each once."""
    acted: Mapping[str, int]
    """Positions with each action, each once."""
    rates: Mapping[str, float | None]
    """Of each action, acted / impressions; None = no impression. Above 1 where acts are sent and impressions not."""


@dataclass(frozen=True, slots=True)
class OutcomeReport:
    """All rows, and the counts of the join."""

    rows: tuple[ReportRow, ...]
    """By placement and tier; plans in the order in which they first answered."""
    outcomes: Mapping[str, int]
    """Number of outcomes joined, elsewhere and unattributed, and of slates that left, by name."""
    held: int
    """Slates to which outcomes are still joined."""
    waiting: int
    """Outcomes that wait for their slate."""
    features: Mapping[str, LiveColumn] = field(default_factory=dict[str, LiveColumn])
    """Statistics of features among the newest served items, by name; empty while no server runs."""


def report_of(folder: Path, config: Config) -> OutcomeReport:
    """Return the report at the end of the log, whether a server runs or not. Cost: that of a start."""
    outcomes = state_of(folder, config, LogView(folder)).fold.outcomes
    rows = [
        ReportRow(
            each.group.placement,
            each.group.tier,
            each.group.plan,
            each.slates,
            each.positions,
            each.impressions,
            each.acted,
            {name: count / each.impressions if each.impressions else None for name, count in each.acted.items()},
        )
        for each in outcomes.counts()
    ]
    rows.sort(key=lambda row: (row.placement, row.tier))
    live = live_columns(folder, config)
    return OutcomeReport(tuple(rows), outcomes.totals, len(outcomes), outcomes.waiting_count, live)


def live_columns(folder: Path, config: Config) -> Mapping[str, LiveColumn]:
    """Return a running server's statistics of the features that its placements read; empty without one."""
    found: dict[str, LiveColumn] = {}
    url = None
    with suppress(StoreUnavailable):  # a report says nothing of a server that is not there, or is another's
        url = server_of(DataFolder(folder / DATA_NAME)) if config.features else None
    if url is None:
        return found
    import httpx

    read = {name for placement in config.placements for name in placement.features}
    headers = server_headers(url)
    with suppress(httpx.TransportError), httpx.Client(base_url=url, headers=headers, timeout=ANSWER_S_MAX) as client:
        for each in config.features:
            answer = client.get(f"/v1/features/{each.name}") if each.name in read else None
            if answer is not None and answer.is_success:
                found |= msgspec.json.decode(answer.content, type=_Live).live
    return found


class _Live(msgspec.Struct, frozen=True):
    """What of a feature's view is told here."""

    live: Mapping[str, LiveColumn] = {}


def feature_table(report: OutcomeReport) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    """Return names of columns and rows of features for people, what drifted most first."""
    ordered = sorted(report.features.items(), key=lambda each: (*_from_the_farthest(each[1]), each[0]))
    rows = [
        (name, each.known, *(_short(one) for one in (each.null_ratio, each.mean, each.deviation, each.psi, each.ks)))
        for name, each in ordered
    ]
    return ("feature", "served items", "null ratio", "mean", "deviation", "psi", "ks"), rows


def _from_the_farthest(column: LiveColumn) -> tuple[float, float]:
    """Return what orders columns: by index or by how far the share without a value moved, then by this share.

    Both mean much from 0.25 on; the index says nothing of missing values, and is None where all are.
    """
    nulls, then = column.null_ratio or 0.0, column.baseline_null_ratio
    return -max(column.psi or 0.0, 0.0 if then is None else abs(nulls - then)), -nulls


def _short(number: float | None) -> str:
    return "–" if number is None else f"{number:.4g}"


def report_table(report: OutcomeReport) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    """Return names of columns and rows for people: rates in percent, of the actions that came at all."""
    actions = [
        name for name in (report.rows[0].acted if report.rows else ()) if any(row.acted[name] for row in report.rows)
    ]
    rows = [
        (
            row.placement,
            row.tier,
            row.plan[:8],
            row.slates,
            row.positions,
            row.impressions,
            *(_percent(row.rates[name]) for name in actions),
        )
        for row in report.rows
    ]
    return ("placement", "tier", "plan", "slates", "positions", "impressions", *actions), rows


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.2%}"
