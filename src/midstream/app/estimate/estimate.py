"""Off-policy estimate of a placement: what it would have earned on slates that another one served.

Each logged slate is run again on the state of its log position, by the plan that served it and by the one that is asked
about. So probabilities are computed, not modelled: those of the first have to be the logged ones, those of the second
are the weights. A reward model is fitted on the same slates, each fifth of the users on the others. Only the log,
snapshots and models are read, so this runs beside a server.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from midstream.app.config.bounds import known
from midstream.app.config.schema import Config
from midstream.app.estimate.logged_slates import LoggedSlate, logged_slates, rewards_by_place
from midstream.app.estimate.target_shares import ShareCollector, SlateShares, slate_items
from midstream.app.explain.reruns import Gone, Reruns, Then
from midstream.app.inspect.folder_view import LogView, served_of
from midstream.app.opening import DATA_NAME
from midstream.app.placement_parts import draft
from midstream.app.wiring import declarations, placements, plan
from midstream.core.errors import Fault, NotFound, RequestInvalid, ScoresUnavailable
from midstream.core.field_bounds import Told
from midstream.core.kinds import IMPRESSION
from midstream.core.nearest import nearest
from midstream.core.types import LogPosition, Models, Query
from midstream.engine.child_process import Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.models.standing_models import models_of, standing_models
from midstream.evaluation.off_policy.intervals import Confidence, Values
from midstream.evaluation.off_policy.report import ESTIMATORS, WITH_MODEL, OffPolicyReport, estimate_slates
from midstream.evaluation.off_policy.reward_model import with_rewards
from midstream.evaluation.off_policy.slates import SlateLog
from midstream.experiments.units import UnitReader
from midstream.feedback.rewards import rewards_of
from midstream.ranking.explain.placement_chances import (
    NoChances,
    mass_without_support,
    placement_chances,
    unknown_chances,
)
from midstream.ranking.plan import Plan
from midstream.state.settings import WEIGHT_MAX, FoldSettings
from midstream.training.registry import Registry

SLATES = 20_000
SLATES_MAX = 200_000
"""A slate takes two requests, 2 ms and more, and 2 kB of memory; for a reward model 14 bytes a listed item more."""
PLACES = 20
PLACES_MAX = 100
ALL = "all"
"""Every estimator, those that cannot be had with the reason."""
PAGE = "/docs/off-policy.md"
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
    estimators: Sequence[str] = ()
    """Names of ``ESTIMATORS``, or ``all``; empty = those of as many places as are estimated."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every estimator that is asked for, once; none = those of as many places as are estimated."""
        return ESTIMATORS if ALL in self.estimators else tuple(dict.fromkeys(self.estimators))

    @property
    def has_model(self) -> bool:
        """Whether an estimator needs a reward model."""
        return not self.names or not WITH_MODEL.isdisjoint(self.names)


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
    modelled: float | None = None
    """Share of the target's choices whose items the reward model tells apart; the rest has the mean of its place.
    None = there is no model."""


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
        RequestInvalid: A reward or an estimator is none; every fault is named.
        ConfigInvalid: Its settings cannot be used; every fault is named.
        LogDamaged: The log cannot be trusted.

    Cost: two readings of the log, a fold of it from the snapshot before the first slate, and 2 ms a slate.
    """
    if faults := tuple(_faults(config, wanted)):
        raise RequestInvalid(faults)
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
        rows = asyncio.run(_rows(folder, (target, wanted), found.slates, earned, left_out, notify))
    report, modelled = _report(rows, wanted)
    reason = impossible or report.reason
    if reason is not None and impossible is None and not rows and left_out:
        reason = f"{reason}: {_listed(left_out)}"
    return PlacementEstimate(wanted.placement, source, rewards, len(rows), left_out, report, reason, modelled)


def _faults(config: Config, wanted: EstimateWanted) -> Iterator[Fault]:
    """Yield what is wrong with the rewards and the estimators."""
    actions = (*config.events.types, IMPRESSION)
    for name, worth in wanted.rewards.items():
        yield from known(f"reward of {name!r}", name, actions, "an action", "One of", "/docs/feedback.md")
        if not abs(worth) <= WEIGHT_MAX:
            right = f"A number from {-WEIGHT_MAX:,.0f} to {WEIGHT_MAX:,.0f}."
            yield Fault(f"reward of {name!r}", f"{worth} came.", right, "/docs/feedback.md")
    for name in wanted.estimators:
        yield from known("estimator", name, (*ESTIMATORS, ALL), "an estimator", "One of", PAGE)


def _report(rows: Sequence["_Row"], wanted: EstimateWanted) -> tuple[OffPolicyReport, float | None]:
    """Return the report, and the share of the target's choices that its reward model tells apart."""
    log = _slate_log(rows, min(wanted.places, PLACES_MAX))
    shares = [row.shares for row in rows if row.shares is not None]
    if not shares:
        return estimate_slates(log, wanted.confidence, names=wanted.names), None
    items = slate_items([row.unit for row in rows], shares, log.places)
    report = estimate_slates(log, wanted.confidence, lambda cut: with_rewards(cut, items), wanted.names)
    if not report.places:
        return report, None
    kept = items.first(report.places)
    exists = (kept.chosen >= 0) & (log.weight_above[:, : report.places] > 0)
    return report, min(1.0, float(kept.share.sum(dtype=np.float64) / exists.sum()))


@dataclass(slots=True, eq=False)
class _Target:
    """The placement asked about, wired once for each layout of a state."""

    config: Config
    placement: str
    folder: Path
    settings: FoldSettings
    models: Models
    reason: str | None
    reader: UnitReader
    """Of the newest state, which knows of every merge."""
    units: dict[bytes, str]
    """Of users so far."""
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
        reason, reader = unknown_chances(made), UnitReader(fold.vocabulary)
        return cls(service.config, wanted.placement, folder, service.settings, models, reason, reader, {}, {})

    def unit(self, query: Query, slate: LoggedSlate) -> str:
        """Return the unit of a slate: of a user under several ids, that of the first one."""
        user = self.reader.unit(query.user_id, None)
        return slate.unit if user is None else self.units.setdefault(user, slate.unit)

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
    shares: SlateShares | None
    """Of the target, for the reward model; None = there is no model."""


@dataclass(frozen=True, slots=True, eq=False)
class _Limits:
    """How much of a slate is read."""

    places: int
    least: float
    """Probability below which an item could not be logged."""
    collector: ShareCollector | None


async def _rows(
    folder: Path,
    asked: tuple[_Target, EstimateWanted],
    slates: Sequence[LoggedSlate],
    earned: Mapping[LogPosition, Values],
    left_out: dict[str, int],
    notify: Notify,
) -> list[_Row]:
    """Return the slates that could be run again by both plans; counts the others by reason.

    All slates are one task: a runner that begins one for each spends more time on its signal handler than on a slate.
    """
    target, wanted = asked
    places = min(wanted.places, PLACES_MAX)
    longest = min(places, max(each.length for each in slates))
    collector = ShareCollector.of(len(slates), longest) if wanted.has_model else None
    limits = _Limits(places, 1 / len(slates), collector)
    reruns = Reruns(folder)
    found: list[_Row] = []
    for done, each in enumerate(slates):
        try:
            row = await _row(target, reruns.prepared(each.body), each, _earned(earned, each), limits)
        except (Gone, NoChances, NotFound, RequestInvalid, ScoresUnavailable) as error:
            reason = error.difference.field + " is gone" if isinstance(error, Gone) else str(error)
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            found.append(row)
        notify("running slates again", done + 1, len(slates))
        await asyncio.sleep(0)  # where an interrupt from the keyboard ends the task
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


async def _row(target: _Target, then: Then, slate: LoggedSlate, reward: Values, limits: _Limits) -> _Row:
    """Return one slate.

    Raises:
        NoChances: Another probability than the logged one comes out, or none can be told.
    """
    places = limits.places
    made = target.plan(then.fold.settings)
    logged = await placement_chances(then.plan, then.observe, then.record, as_logged=True, places=places)
    propensity = np.array([each.propensity for each in then.record.items[:places]], dtype=np.float64)
    if not np.allclose(logged.slate.chosen, propensity, rtol=REPRODUCED_WITHIN, atol=1e-12):
        message = "it was not drawn by the placement alone: another probability than the logged one comes out"
        raise NoChances(message)
    observe = partial(then.fold.moment, models=made.models)
    asked = await placement_chances(made, observe, then.record, as_logged=False, places=places)
    missing = mass_without_support(asked, logged, limits.least)
    shares = None
    if limits.collector is not None:
        chosen = [each.id for each in then.record.items[:places]]
        shares = limits.collector.collected(chosen, asked, then.fold.vocabulary.item_ids)
    return _Row(
        target.unit(then.record.query, slate), reward[:places], propensity,
        np.minimum(asked.slate.chosen, 1.0), np.minimum(missing, 1.0), shares,
    )  # fmt: skip


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
