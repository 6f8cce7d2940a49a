"""Off-policy estimate of a placement: what it would have earned on slates that another one served.

Each logged slate is run again on the state of its log position, by the plan that served it and by the one that is asked
about. So probabilities are computed, not modelled: those of the first have to be the logged ones, those of the second
are the weights. Only the log, snapshots and models are read, so this runs beside a server.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from midstream.app.config.schema import Config
from midstream.app.estimate.logged_slates import LoggedSlate, logged_slates, rewards_by_place
from midstream.app.explain.reruns import Gone, Reruns, Then
from midstream.app.inspect.folder_view import LogView, served_of
from midstream.app.opening import DATA_NAME
from midstream.app.placement_parts import draft
from midstream.app.wiring import declarations, placements, plan
from midstream.core.errors import NotFound, RequestInvalid, ScoresUnavailable
from midstream.core.field_bounds import Told
from midstream.core.nearest import nearest
from midstream.core.types import LogPosition, Models
from midstream.engine.child_process import Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.models.standing_models import models_of, standing_models
from midstream.evaluation.off_policy.intervals import Confidence, Values
from midstream.evaluation.off_policy.report import OffPolicyReport, estimate_slates
from midstream.evaluation.off_policy.slates import SlateLog
from midstream.feedback.rewards import rewards_of
from midstream.ranking.explain.placement_chances import (
    NoChances,
    mass_without_support,
    placement_chances,
    unknown_chances,
)
from midstream.ranking.plan import Plan
from midstream.state.settings import FoldSettings
from midstream.training.registry import Registry

SLATES = 20_000
SLATES_MAX = 200_000
"""A slate takes two requests, 2 ms and more, and 2 kB of memory."""
PLACES = 20
PLACES_MAX = 100
REPRODUCED_WITHIN = 1e-3
"""Relative difference of a probability from the logged one: float32, and quadrature of ``thompson``."""


@dataclass(frozen=True, slots=True)
class EstimateWanted:
    """What is estimated, from what."""

    placement: str
    """The placement asked about."""
    told: Told | None = None
    """Its settings, as JSON or TOML gives them; None = those in service."""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Versions of models that it reads in place of those in service, by name."""
    logged: str | None = None
    """The placement whose slates are read; None = the same name."""
    rewards: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of each action; empty = those of ``[feedback]``."""
    slates: int = SLATES
    """Newest ones that are read."""
    places: int = PLACES
    """First ones of each slate that count."""
    confidence: Confidence | None = None
    """How intervals are made; None = jackknife over users, 95 %."""


class PlacementEstimate(msgspec.Struct, frozen=True):
    """Value of a placement by slates that another one served."""

    placement: str
    logged: str
    """The placement whose slates these are."""
    reward: dict[str, float]
    """Of each action; the value is the reward of a slate."""
    slates: int
    """Read, and run again."""
    left_out: dict[str, int]
    """Slates that say nothing, by reason; they are not among those."""
    report: OffPolicyReport
    reason: str | None = None
    """Why it cannot be estimated; None = it can."""


def estimate_placement(
    folder: Path, config: Config, wanted: EstimateWanted, notify: Notify = nobody
) -> PlacementEstimate:
    """Return the value that a placement would have had.

    Args:
        folder: Of the configuration file and the data. A server may have it open.
        config: Of that folder.
        wanted: The placement, and the slates to read.
        notify: Told how far the reruns are.

    Raises:
        NotFound: There is no such placement.
        ConfigInvalid: Its settings cannot be used; every fault is named.
        LogDamaged: The log cannot be trusted.

    Cost: two readings of the log, a fold of it from the snapshot before the first slate, and 2 ms a slate.
    """
    log = LogView(folder)
    target = _Target.of(folder, config, wanted, log)
    source = wanted.logged or wanted.placement
    found = logged_slates(log, config, source, min(wanted.slates, SLATES_MAX))
    rewards = dict(wanted.rewards or rewards_of(config.feedback.reward, config.events.types))
    left_out = dict(found.left_out)
    rows: list[_Row] = []
    impossible = target.reason
    if impossible is None and found.slates:
        earned = rewards_by_place(folder, log, config, found.slates, rewards)
        rows = _rows(folder, target, found.slates, earned, (wanted.places, left_out), notify)
    report = estimate_slates(_slate_log(rows, min(wanted.places, PLACES_MAX)), wanted.confidence)
    reason = impossible or report.reason
    if reason is not None and impossible is None and not rows and left_out:
        reason = f"{reason}: {_listed(left_out)}"
    return PlacementEstimate(wanted.placement, source, rewards, len(rows), left_out, report, reason)


@dataclass(slots=True, eq=False)
class _Target:
    """The placement asked about, wired once for each layout of a state."""

    config: Config
    placement: str
    folder: Path
    settings: FoldSettings
    models: Models
    reason: str | None
    plans: dict[str, Plan]

    @classmethod
    def of(cls, folder: Path, config: Config, wanted: EstimateWanted, log: LogView) -> "_Target":
        """Return the placement with the models that are in service.

        Raises:
            NotFound: There is none, and no settings came.
            ConfigInvalid: What came cannot be used.
        """
        service, fold = served_of(folder, config, log)
        if wanted.told is not None:
            service = draft(folder, service, wanted.placement, wanted.told, Models({})).service
        names = [each.name for each in placements(service.config)]
        if wanted.placement not in names:
            known = f"Placements: {', '.join(names)}"
            message = f"placement {wanted.placement!r} is not configured.{nearest(wanted.placement, names)} {known}"
            raise NotFound(message)
        made = service.plans[wanted.placement]
        registry = Registry(DataFolder(folder / DATA_NAME).models, config.registry.version_bytes_max)
        models = with_versions(
            standing_models(registry, fold, (made,), sorted(made.model_names)).models, registry, wanted.versions
        )
        return cls(service.config, wanted.placement, folder, service.settings, models, unknown_chances(made), {})

    def plan(self, settings: FoldSettings) -> Plan:
        """Return the plan for a state.

        Raises:
            NoChances: The state of then lacks what it reads.
        """
        if _plain(settings) != _plain(self.settings):
            message = "the state of then counted other things than that of now"
            raise NoChances(message)
        version = settings.version()
        if version not in self.plans:
            placement = next(each for each in placements(self.config) if each.name == self.placement)
            declared = declarations(self.config, settings, self.folder)
            made = plan(self.config, placement, settings, Models({}), self.folder, declared)
            self.plans[version] = made.serving(self.models)
        return self.plans[version]


def with_versions(models: Models, registry: Registry, versions: Mapping[str, str]) -> Models:
    """Return models with other versions of some.

    Raises:
        NotFound: A version is not there.
        ArtifactInvalid: It is damaged.
    """
    others = models_of({name: registry.load(name, version) for name, version in versions.items()})
    return Models(
        {**models.by_name, **others.by_name},
        {**models.versions, **others.versions},
        {**{name: line for name, line in models.calibrations.items() if name not in versions}, **others.calibrations},
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One slate with both probabilities of each place, and the mass without support."""

    unit: str
    reward: Values
    logged: Values
    target: Values
    missing: Values


def _rows(
    folder: Path,
    target: _Target,
    slates: Sequence[LoggedSlate],
    earned: Mapping[LogPosition, Values],
    limits: tuple[int, dict[str, int]],
    notify: Notify,
) -> list[_Row]:
    """Return the slates that could be run again by both plans; counts the others by reason."""
    places, left_out = limits
    reruns = Reruns(folder)
    least = 1 / len(slates)
    found: list[_Row] = []
    with asyncio.Runner() as runner:
        for done, each in enumerate(slates):
            try:
                reward = _earned(earned, each)
                row = runner.run(_row(target, reruns.prepared(each.body), each, reward, (places, least)))
            except (Gone, NoChances, NotFound, RequestInvalid, ScoresUnavailable) as error:
                reason = error.difference.field + " is gone" if isinstance(error, Gone) else str(error)
                left_out[reason] = left_out.get(reason, 0) + 1
            else:
                found.append(row)
            notify("running slates again", done + 1, len(slates))
    return found


def _earned(earned: Mapping[LogPosition, Values], slate: LoggedSlate) -> Values:
    """Return the reward of each place of a slate.

    Raises:
        NoChances: It is not known.
    """
    if slate.position not in earned:
        message = "its outcomes are not kept any more"
        raise NoChances(message)
    return earned[slate.position]


async def _row(target: _Target, then: Then, slate: LoggedSlate, reward: Values, limits: tuple[int, float]) -> _Row:
    """Return one slate.

    Raises:
        NoChances: Another probability than the logged one comes out, or none can be told.
    """
    places, least = limits
    made = target.plan(then.fold.settings)
    logged = await placement_chances(then.plan, then.observe, then.record, as_logged=True, places=places)
    propensity = np.array([each.propensity for each in then.record.items[:places]], dtype=np.float64)
    if not np.allclose(logged.slate.chosen, propensity, rtol=REPRODUCED_WITHIN, atol=1e-12):
        message = "it was not drawn by the placement alone: another probability than the logged one comes out"
        raise NoChances(message)
    observe = partial(then.fold.moment, models=made.models)
    asked = await placement_chances(made, observe, then.record, as_logged=False, places=places)
    missing = mass_without_support(asked, logged, least)
    return _Row(slate.unit, reward[:places], propensity, np.minimum(asked.slate.chosen, 1.0), np.minimum(missing, 1.0))


def _slate_log(rows: Sequence[_Row], places: int) -> SlateLog:
    """Return slates as arrays, the longest slate wide."""
    width = max((len(row.logged) for row in rows), default=1)
    shape = (len(rows), min(places, width))
    log = {
        "reward": np.zeros(shape), "logged": np.ones(shape), "target": np.ones(shape), "missing": np.zeros(shape),
    }  # fmt: skip
    for at, row in enumerate(rows):
        for name, column in log.items():
            values: Values = getattr(row, name)
            column[at, : len(values)] = values
    users = np.unique([row.unit for row in rows], return_inverse=True)[1].astype(np.intp)
    return SlateLog(users=users, **log)


def _plain(settings: FoldSettings) -> FoldSettings:
    return msgspec.structs.replace(settings, compaction="")


def _listed(left_out: Mapping[str, int]) -> str:
    return "; ".join(f"{count:,} slates: {reason}" for reason, count in left_out.items())
