"""Options of continuous training: when a model is trained, and what a new version has to pass."""

from typing import Annotated, Literal

import msgspec

from midstream.core.durations import parse_duration_ms
from midstream.core.field_bounds import Name
from midstream.training.gates.options import GateOptions
from midstream.training.schedule import TrainingRule

PAGE = "/docs/continuous-training.md"
TRAININGS_MAX = 32
"""As many as there may be models: one training runs at a time."""
EVENTS_MIN = 1_000
EVERY_MS_MIN, EVERY_MS_MAX = 60_000, 365 * 86_400_000
"""A minute to a year."""
SHARE_MAX = 0.5


class CanaryOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``canary`` of ``[[trainings]]``."""

    share: Annotated[float, msgspec.Meta(ge=0, le=SHARE_MAX)] = 0.1
    """Of a placement's users that are in the experiment, half of them with each version; 0 = no canary."""
    at_least: str = "24h"
    """How long it runs in any case."""
    at_most: str = "7d"
    """How long it waits for enough users; then the candidate is refused."""
    units_min: Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)] = 200
    """Users, else sessions, of each version, before anything is claimed."""
    harm_max: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    """Relative loss of users with the heaviest interaction, and with the lightest ones, that guardrails tolerate."""
    placement: str = ""
    """Placement of the experiment; "" = the first one that reads the model."""


class TrainingTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[[trainings]]``: a model that the server trains by itself."""

    model: Name
    """Of ``[[models]]``; each once."""
    every: str = ""
    """Time from the end of one training to the next, such as "6h"; "" = not by time."""
    events: Annotated[int, msgspec.Meta(ge=0, le=1 << 50)] = 0
    """Events of the log from one to the next; 0 = not by volume."""
    drift: bool = False
    """Whether it is trained when a feature drifts from ``[monitoring] baseline``."""
    calibration: bool = False
    """Whether it is trained when acts are others than the champion predicts; of a ranker."""
    rest: str = "1h"
    """Least time between two."""
    warm_start: bool = False
    """Whether a fit begins with what the champion has learned; kinds als and ftrl."""
    whole_every: str = ""
    """Of warm starts: time from one fit of all data to the next, such as "24h"; "" = only where there is no champion.
    """
    promote: Literal["auto", "ask"] = "auto"
    """auto, or ask: a version that passed waits for ``midstream models promote``."""
    watch: str = "24h"
    """How long the version before still answers some users after a promotion, so that harm is seen; "" = not."""
    gates: GateOptions = GateOptions()
    canary: CanaryOptions = CanaryOptions()

    @property
    def rule(self) -> TrainingRule:
        """When it is trained."""
        return TrainingRule(
            every_ms=_ms(self.every),
            events=self.events,
            on_drift=self.drift,
            on_calibration=self.calibration,
            rest_ms=_ms(self.rest),
            is_warm=self.warm_start,
            whole_every_ms=_ms(self.whole_every),
        )

    @property
    def watch_ms(self) -> int:
        """How long the version before answers some users; 0 = not."""
        return _ms(self.watch)

    @property
    def canary_ms(self) -> tuple[int, int]:
        """Shortest and longest time of a canary."""
        return _ms(self.canary.at_least), _ms(self.canary.at_most)


def _ms(text: str) -> int:
    return parse_duration_ms(text) if text else 0
