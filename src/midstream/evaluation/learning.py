"""Value of online learning: one method with a frozen state, with periodic updates, and with every update.

The questions are the second half of the acts, in windows of equally many. *Frozen*: the state has the first half alone.
*Rolling*: it learns all earlier acts at the start of each window. *Test then learn*: it learns each act after its
prediction. All answer the same questions, and each question includes its session so far.
"""

import asyncio
from dataclasses import dataclass, replace

import numpy as np

from midstream.evaluation.data.importing import fitted, room_for
from midstream.evaluation.data.interactions import InteractionTable
from midstream.evaluation.metrics.metrics import Ranks, hit, reciprocal_rank
from midstream.evaluation.metrics.statistics import Estimate, PairedDifference, difference, estimate, holm_fields
from midstream.evaluation.replay import Method, ReplayOptions, replay_ranks, rows_asked
from midstream.state.fold import Fold


@dataclass(frozen=True, slots=True)
class Schedule:
    """Figures of one way of learning."""

    name: str
    hit_rate: Estimate
    mrr: Estimate
    hit_rate_by_window: tuple[float, ...]
    hit_rate_gain: PairedDifference
    """Less the frozen state."""
    mrr_gain: PairedDifference


@dataclass(frozen=True, slots=True)
class LearningReport:
    """The figures of one data set."""

    data: str
    k: int
    repeat: bool
    """The last item may be recommended."""
    validation_learned: bool | None
    """None: nothing was chosen on these data."""
    rows: int
    asked_from: int
    questions: int
    windows: int
    schedules: tuple[Schedule, ...]
    """Frozen, rolling, test then learn."""


def run_learning(
    name: str, rows: InteractionTable, method: Method, windows: int = 5, options: ReplayOptions | None = None
) -> LearningReport:
    """Predict the second half of a data set with one method, three times.

    Args:
        name: Of the data set, for the report.
        rows: By time, with sessions.
        method: The method.
        windows: Number of windows of the second half.
        options: List length, fold settings, number of rows, resampling; the times of learning are set here.

    Cost: three replays.
    """
    used = options or ReplayOptions()
    rows = rows if used.rows_max is None else rows.take(slice(0, used.rows_max))
    half = len(rows) // 2
    asked = rows_asked(rows, half)
    edges = (half, *(int(part[0]) for part in np.array_split(asked, windows)[1:] if len(part)))
    schedules: dict[str, tuple[int, ...] | None] = {"frozen": (half,), "rolling": edges, "test then learn": None}
    ranks: dict[str, Ranks] = {}
    for each, learned_at in schedules.items():
        fold = Fold(fitted(used.fold, room_for(rows)))
        told = replace(used, learned_at=learned_at)
        ranks[each] = asyncio.run(replay_ranks(rows, asked, {each: method}, fold, told))[each]
    session = np.unique(rows.session_id, return_inverse=True)[1][asked]
    frozen = ranks["frozen"]

    def schedule(each: str, rank: Ranks) -> Schedule:
        hits, places = hit(rank, used.k), reciprocal_rank(rank, used.k)
        return Schedule(
            each,
            estimate(hits, session, used.resampling),
            estimate(places, session, used.resampling),
            tuple(float(part.mean()) for part in np.array_split(hits, windows) if len(part)),
            difference(hits, hit(frozen, used.k), session, used.resampling),
            difference(places, reciprocal_rank(frozen, used.k), session, used.resampling),
        )

    first, *others = (schedule(each, rank) for each, rank in ranks.items())
    return LearningReport(
        name,
        used.k,
        used.repeat,
        None,
        len(rows),
        half,
        len(asked),
        windows,
        (first, *holm_fields(others, "hit_rate_gain", "mrr_gain")),
    )
