"""Trials of two versions by experiments: guardrails beside the default metrics, and what the watch says of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from midstream.core.errors import NotFound
from midstream.engine.engine import Engine
from midstream.engine.experiments.canaries import CANDIDATE, CHAMPION, Canaries, CanaryOrder, CanaryStanding
from midstream.engine.models.standing_models import pins_said
from midstream.engine.placements.control_changes import Said
from midstream.engine.trainings.candidates import TrialOrder, TrialStanding
from midstream.engine.trainings.journal import AUTHOR
from midstream.experiments.metrics import BUILT_IN, METRICS_MAX, ExperimentMetric, default_metrics
from midstream.experiments.names import is_name, variant_placement
from midstream.state.control.placements import PlacementVersion
from midstream.state.settings import EventType

GUARDED_MAX = 4
"""Acts that guardrails are on: the heaviest, and those of the least weight, of which there are most and by which harm
is seen soonest. Each takes power from the others."""


@dataclass(frozen=True, slots=True)
class ExperimentTrials:
    """The ``VersionTrials`` of an engine with experiments."""

    engine: Engine
    canaries: Canaries

    async def start(self, order: TrialOrder) -> None:
        """Start one; it is in force when this returns.

        Raises:
            ConfigInvalid: It cannot run: no share is free, or the placement cannot be under an experiment.
            MidstreamError: Not now.
        """
        wanted = CanaryOrder(
            name=order.name,
            placement=order.placement,
            model=order.model,
            champion=order.control,
            candidate=order.candidate,
            share=order.share,
            metrics=trial_metrics(self.engine.fold.settings.types, order.harm_max),
        )
        await self.canaries.start(wanted, Said(AUTHOR, f"trial of {order.candidate} of {order.model}"))

    def standing(self, name: str) -> TrialStanding:
        """Return how one is.

        Raises:
            NotFound: There is none of that name.
        """
        found = self.canaries.standing(name)
        # The last guardrail of a trial is on an act of the least weight: of these there are most.
        harms = [each.harm for each in found.verdicts[-1:] if math.isfinite(each.harm)]
        return TrialStanding(
            state=found.state,
            by_watch=found.stopped_by == "watch",
            reason=found.reason,
            is_valid=found.is_valid,
            units=found.units,
            text=_seen(found),
            harm=harms[0] if harms else None,
            seen_position=found.seen_position,
        )

    def is_running(self, order: TrialOrder) -> bool:
        """Return whether an experiment of this name, placement and versions runs."""
        try:
            state = self.canaries.standing(order.name).state
        except NotFound:
            return False
        versions = (CHAMPION, order.control), (CANDIDATE, order.candidate)
        return state != "stopped" and all(
            self._pinned(variant_placement(order.placement, order.name, name), order.model) == version
            for name, version in versions
        )

    def _pinned(self, placement: str, model: str) -> str:
        """Return the version of a model that a placement pins; empty = none."""
        return dict(pins_said(self._contents(placement))).get(model, "")

    def _contents(self, placement: str) -> Sequence[PlacementVersion]:
        """Return what a placement was set to last; none = it was never set."""
        return self.engine.fold.placements.versions(placement)[-1:]

    async def stop(self, name: str, reason: str) -> None:
        """Stop one; one that was stopped stays as it is."""
        if self.canaries.standing(name).state != "stopped":
            await self.canaries.stop(name, reason, Said(AUTHOR))


def trial_metrics(types: Mapping[str, EventType], harm_max: float) -> tuple[ExperimentMetric, ...]:
    """Return the default metrics of an experiment, with guardrails on the heaviest and the lightest interactions.

    Args:
        types: Configured interactions.
        harm_max: Relative harm that these guardrails tolerate.
    """
    told = [_named(each, each.name, f"metric-{number}") for number, each in enumerate(default_metrics(types))]
    weights = {name: each.weight for name, each in types.items() if each.weight > 0 and name not in BUILT_IN}
    lightest = sorted(name for name, weight in weights.items() if weight == min(weights.values()))
    heaviest = sorted(weights, key=lambda name: (-weights[name], name))[:1]
    acts = list(dict.fromkeys((*heaviest, *lightest)))[: min(GUARDED_MAX, METRICS_MAX - len(told))]
    guards = (
        _named(ExperimentMetric("", act, role="guardrail", harm_max=harm_max), f"fewer-{act}", f"guard-{number}")
        for number, act in enumerate(acts)
    )
    return (*told, *guards)


def _named(metric: ExperimentMetric, name: str, otherwise: str) -> ExperimentMetric:
    """Return a metric with a name that an experiment takes: interactions may have any."""
    return replace(metric, name=name if is_name(name) else otherwise)


def _seen(found: CanaryStanding) -> str:
    """Return units and verdicts in words."""
    verdicts = "; ".join(f"{each.metric} {each.verdict}" for each in found.verdicts) or "nothing was judged"
    return f"{' and '.join(f'{each:,}' for each in found.units)} users, {verdicts}"
