"""Options of gates: the bounds that a candidate has to keep, each with its default."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from midstream.core.durations import Duration
from midstream.core.field_bounds import Between, Length

Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
WORSE_MAX = 0.05
"""Default of ``worse_max`` where all users get what passes."""
WORSE_MAX_BEFORE_CANARY = 0.1
"""Default where a canary follows. Acts on served slates favour the champion, whose order they have: at 0.05 most
rankers that are better are held back, and the canary judges what passes."""


class GateOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``gates`` of ``[[trainings]]``."""

    coverage_min: Share = 0.5
    """Share of the 50 most popular items now that an item model has to know."""
    golden: Annotated[str, Length(0, 512, "characters")] = ""
    """File beside this one with questions whose answers every version has to give; "" = none."""
    plausible_max: Share = 0.98
    """NDCG or AUC above which the candidate is taken to know the answers from elsewhere; so is one column alone."""
    jump_max: Annotated[float, msgspec.Meta(gt=1, le=1_000)] = 3.0
    """Times the champion's figure on the same questions above which that is taken too."""
    worse_max: Share | None = None
    """Relative loss against the champion that the lower end of the 95 % interval may show; None = 0.1 where a canary
    follows, else 0.05."""
    questions_min: Annotated[int, msgspec.Meta(ge=30, le=1_000_000)] = 30
    """Questions of fewer say nothing, of either of the two gates above."""
    baseline: bool = True
    """Whether an item model has to be better than the most popular items, and a ranker than chance."""
    unjudged: Literal["pass", "refuse"] = "refuse"
    """Of a candidate that no newest act could judge offline."""
    age_max: Annotated[Duration, Between("1m", "365d")] = Duration("7d")
    """Log time between the newest act that it learned and now."""
    off_policy: Literal["off", "report", "refuse"] = "off"
    """Whether the logged slates are run again with it: off, report, where a value that cannot be estimated passes, or
    refuse, where it does not."""
    value_loss_max: Share = 0.1
    """Relative loss of value against the champion that the lower end of the estimate may show."""
    slates: Annotated[int, msgspec.Meta(ge=100, le=20_000)] = 2_000
    """Newest slates that the estimate and the shadow read."""
    cpu_ms_max: Annotated[float, msgspec.Meta(gt=0, le=10_000)] = 20.0
    """Processor time of one answer: the best 100 items of a history, or the scores of 500 rows."""
    cpu_times_max: Annotated[float, msgspec.Meta(ge=1, le=1_000)] = 4.0
    """Times that of the champion; a millisecond is always allowed."""
    bytes_max: Annotated[int, msgspec.Meta(ge=1 << 10, le=1 << 40)] = 1 << 30
    """Bytes of the version."""
    bytes_times_max: Annotated[float, msgspec.Meta(ge=1, le=1_000)] = 4.0
    """Times those of the champion; a mebibyte is always allowed."""
    shadow: bool = True
    """Whether requests of now are answered with it beside the champion, off the path, before anyone sees it."""
    shadow_wait: Annotated[Duration, Between("1m", "30d")] = Duration("24h")
    """How long a candidate waits where no request can be run again; then it is refused."""
    requests_min: Annotated[int, msgspec.Meta(ge=1, le=100)] = 100
    """Requests that have to be run again; a share of failures of 3 % is seen in 100 of them with a probability of 95 %.
    No more than the least of ``slates``, so that the newest ones can be enough."""
    failures_max: Share = 0.001
    """Share of those that may fail with it and not with the champion."""
    agreement_min: Share = 0.0
    """Share of the champion's items that it has to propose as well; 0 = it may be another shop altogether."""

    @property
    def loss_max(self) -> float:
        """``worse_max``, or its default where nothing is known of a canary."""
        return WORSE_MAX if self.worse_max is None else self.worse_max


def before_canary(gates: GateOptions) -> GateOptions:
    """Return the bounds where a canary follows."""
    return gates if gates.worse_max is not None else replace(gates, worse_max=WORSE_MAX_BEFORE_CANARY)


DEFAULTS = GateOptions()
