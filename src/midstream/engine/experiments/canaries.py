"""Canaries: experiments of two versions of one model on a placement, ended by the watch when the new one does harm."""

from collections.abc import Callable
from typing import Literal

import msgspec

from midstream.core.errors import ConfigInvalid, Fault
from midstream.engine.experiments.experimenting import Experimenting
from midstream.engine.experiments.views import STATES, ExperimentView, StartOrder, VariantOrder
from midstream.engine.experiments.watch import ExperimentLook, ExperimentWatch
from midstream.engine.placements.control_changes import Said
from midstream.evaluation.experiments.guardrails import GuardrailVerdict
from midstream.experiments.documents import PAGE
from midstream.experiments.metrics import ExperimentMetric

CHAMPION, CANDIDATE = "champion", "candidate"
"""Names of the variants; the first is the control."""


class CanaryOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A canary that is to start."""

    name: str
    """Of the experiment; used once."""
    placement: str
    """Configured; its plan reads the model."""
    model: str
    champion: str
    """Version that is the control; empty = the placement as it is, which has none of the model."""
    candidate: str
    share: float = 0.1
    """Of the layer: of all units, where no other experiment has the placement."""
    weights: tuple[float, float] = (1.0, 1.0)
    """Of champion and candidate within that share."""
    metrics: tuple[ExperimentMetric, ...] = ()
    """What it is judged by; none = the default ones, guardrails among them."""


class CanaryStanding(msgspec.Struct, frozen=True):
    """How a canary stands."""

    name: str
    state: STATES
    stopped_by: Literal["", "watch", "person"]
    """Empty = it runs."""
    reason: str
    """Why it stopped, with its figures; empty = it runs."""
    verdicts: tuple[GuardrailVerdict, ...]
    """Of the candidate against the champion, at the last look of this process; empty = none yet, or not valid."""
    units: tuple[int, ...]
    """Champion's, candidate's."""
    slates: tuple[int, ...]
    """The same."""
    is_valid: bool
    """False = the sample ratio is wrong: nothing may be claimed, and nothing is stopped by itself."""
    began_ms: int
    ended_ms: int | None
    seen_position: int
    """Log position up to which the last look read; 0 = none yet."""


class Canaries:
    """Canaries of an engine, on its event loop."""

    def __init__(self, experimenting: Experimenting, watch: ExperimentWatch) -> None:
        """Start experiments by ``experimenting``; ``watch`` sees them."""
        self._experimenting = experimenting
        self._watch = watch

    async def start(self, order: CanaryOrder, said: Said) -> CanaryStanding:
        """Start a canary; it is in force when this returns.

        Raises:
            ConfigInvalid: It cannot start; every fault is named, and nothing was changed. So with all that follow.
            RebuildRunning: A change of the configuration is running.
            Overloaded: The maximum of placements or experiments is kept, or too many events wait.
            StoreUnavailable: The configuration could not be stored.
            AppendFailed: The log could not be made durable.
        """
        if order.champion == order.candidate:
            came = f"{order.candidate} came for both."
            raise ConfigInvalid((Fault("/candidate", came, "Another version than the champion's.", PAGE),))
        versions = (CHAMPION, order.champion), (CANDIDATE, order.candidate)
        variants = tuple(
            VariantOrder(name, models={order.model: version} if version else None, weight=weight)
            for (name, version), weight in zip(versions, order.weights, strict=True)
        )
        wanted = StartOrder(order.placement, variants, share=order.share, metrics=order.metrics)
        await self._experimenting.start(order.name, wanted, said)
        return self.standing(order.name)

    def standing(self, name: str) -> CanaryStanding:
        """Return how a canary stands, as far as it was looked at.

        Raises:
            NotFound: There is none of that name.
        """
        return _standing(self._experimenting.view(name), self._watch.seen(name))

    async def stop(self, name: str, reason: str, said: Said) -> CanaryStanding:
        """Stop a canary: its placement answers all units again, with the champion in service.

        Raises:
            NotFound: There is none of that name.
            ConfigInvalid: It was stopped before.
            MidstreamError: As ``start`` does.
        """
        await self._experimenting.stop(name, reason, said)
        return self.standing(name)

    def listen(self, stopped: Callable[[CanaryStanding], None]) -> None:
        """Call ``stopped`` for each experiment that the watch of this process stopped, once, when that is in force.

        A start calls nothing for what was stopped before: ask ``standing``.
        """
        self._watch.listen(lambda name: stopped(self.standing(name)))


def _standing(view: ExperimentView, look: ExperimentLook | None) -> CanaryStanding:
    none = (0,) * len(view.variants)
    return CanaryStanding(
        name=view.name,
        state=view.state,
        stopped_by=view.stopped_by,
        reason=view.reason,
        verdicts=() if look is None else look.verdicts.get(CANDIDATE, ()),
        units=none if look is None else look.units,
        slates=none if look is None else look.slates,
        is_valid=look is None or not look.invalid,
        began_ms=view.began_ms,
        ended_ms=view.ended_ms,
        seen_position=0 if look is None else look.log_position,
    )
