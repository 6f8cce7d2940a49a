"""Champion comparison: the evaluated fit of a training against the version in service, on the same newest questions.

The questions are those that neither of the two has learned, so they begin where the knowledge of the champion ends. The
difference has an interval from a paired bootstrap over users or sessions: the questions of one are alike. Without such
questions, or if the champion cannot answer them, the comparison has the reason.
"""

from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import MidstreamError
from midstream.core.types import Index
from midstream.evaluation.metrics.list_metrics import ACCURACY, hits_of
from midstream.evaluation.metrics.statistics import Resampling, difference
from midstream.events.segments.log_identity import LogIdentity
from midstream.models.histories import Histories
from midstream.models.kernels.top_n import top_n
from midstream.models.model import ItemModel, RowModel, is_item_model, is_row_model
from midstream.models.rows.examples import Examples
from midstream.training.datasets import Acts
from midstream.training.registry import LoadedVersion, Registry
from midstream.training.validation import ROW_K, K, ndcg_values, next_items, questions

OWNERS_MIN = 6
"""Users, else sessions, of whom an interval can be told: of two equal models all of n prefer the same one with
probability 2^(1 - n), which is below the 5 % of the interval from six on."""
NO_ROOM = "there is no room for it in the memory_bytes_max of the training"
QUESTIONS_MIN = 30
"""Of fewer an interval of the bootstrap is too narrow to say which is better: beside one of Student's t at 95 % it is
6 % shorter at 30 questions (1.96/2.045 · √(29/30)), 18 % at 10, and at one it is a point."""
P_MAX = 0.05
"""The level of the interval: a random exchange of the two answers is as far apart less often."""
_OTHER_KIND = "the version in service answers other questions: one of both is a ranker"


class ChampionComparison(msgspec.Struct, frozen=True):
    """Difference of the new fit to the version in service."""

    champion: str
    """Version that it was compared with; empty = none is in service."""
    metric: str = ""
    questions: int = 0
    """Questions of both: requests for a ranker, histories for an item model."""
    mean: float | None = None
    """Of the new one minus the champion's; None = nothing was compared."""
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    """Two-sided, of random exchanges of both answers."""
    why_not: str = ""
    """Why nothing was compared; empty where something was."""
    theirs: float | None = None
    """Mean of the champion on these questions; None = nothing was compared."""

    def __str__(self) -> str:
        """Return metric, difference, interval and number of questions; or the reason why nothing was compared."""
        if self.mean is None:
            return self.why_not
        interval = f"{self.mean:+.4f} ({self.low:+.4f} to {self.high:+.4f})"
        noun = "question" if self.questions == 1 else "questions"
        few = "" if self.questions >= QUESTIONS_MIN else f", too few to tell ({QUESTIONS_MIN} are needed)"
        return f"{self.metric} {interval} on {self.questions:,} {noun} that neither has learned{few}"

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` by interval, p and enough questions, else ``open``; ``unknown`` without questions."""
        if self.low is None or self.high is None or self.p_value is None:
            return "unknown"
        if self.questions < QUESTIONS_MIN or self.p_value >= P_MAX:
            return "open"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "open"


@dataclass(frozen=True, slots=True)
class Champion:
    """The version in service, or the reason why it cannot be loaded."""

    version: str
    loaded: LoadedVersion | None = None
    why_not: str = ""

    def cannot(self, why_not: str = "") -> ChampionComparison:
        """Return a comparison that was not made."""
        return ChampionComparison(self.version, why_not=why_not or self.why_not)


def champion_of(registry: Registry, name: str, version: str, log: LogIdentity) -> Champion:
    """Return the version in service, loaded where it can be compared on this log."""
    if not version:
        return Champion("", why_not="no version is in service")
    try:
        found = registry.load(name, version)
    except (MidstreamError, OSError) as error:
        return Champion(version, why_not=f"the version in service cannot be loaded: {error}")
    except MemoryError:
        return Champion(version, why_not=f"the version in service cannot be loaded: {NO_ROOM}")
    if found.manifest.window.log_name != log.public_name:
        return Champion(
            version, why_not="the version in service was not fitted on this log, so what it knows is unknown"
        )
    if found.manifest.window.generation != log.generation:
        return Champion(version, why_not="the log was rewritten since the version in service was fitted")
    return Champion(version, found)


def compare_rows(
    champion: Champion, judged: RowModel, later: Examples, *, is_sampled: bool = False
) -> ChampionComparison:
    """Return how two rankers order the requests that neither has learned.

    Args:
        champion: In service.
        judged: Fitted on earlier rows.
        later: Rows that judge it.
        is_sampled: As in ``row_validation_of``.
    """
    loaded = champion.loaded
    if loaded is None:
        return champion.cannot()
    if not is_row_model(loaded.model):
        return champion.cannot(_OTHER_KIND)
    missing = sorted(set(loaded.model.inputs).difference(later.names))
    if missing:
        return champion.cannot(f"the version in service reads {', '.join(missing)}, which these rows have not")
    newer = later.take(np.flatnonzero(later.time_ms > loaded.manifest.window.end_ms))
    columns = [later.names.index(name) for name in loaded.model.inputs]
    if not len(newer):
        return champion.cannot("the version in service has learned all requests that judge")
    own = ndcg_values(newer, judged.score(newer.values))
    others = ndcg_values(newer, loaded.model.score(np.ascontiguousarray(newer.values[:, columns])))
    owner = np.arange(len(own), dtype=np.uint64) if newer.owner is None else newer.owner
    return _compared(champion, f"{'sampled.' if is_sampled else ''}NDCG@{ROW_K}", (own, others), owner)


def compare_items(
    champion: Champion, judged: ItemModel, acts: Acts, first: int, history_acts_max: int, *, by_session: bool
) -> ChampionComparison:
    """Compare two item models on the part of the log that neither has learned.

    Args:
        champion: In service.
        judged: Fitted on the acts before ``first``, over the vocabulary of the acts.
        acts: All.
        first: Log position at which the evaluation begins.
        history_acts_max: Newest acts of each history.
        by_session: As in ``validation_of``.
    """
    loaded = champion.loaded
    if loaded is None:
        return champion.cannot()
    if not is_item_model(loaded.model):
        return champion.cannot(_OTHER_KIND)
    window = loaded.manifest.window
    begin = max(first, window.end, window.known_end)
    asked, wanted, owner = (next_items if by_session else questions)(acts, begin, history_acts_max)
    if not len(asked):
        return champion.cannot("the version in service has learned all acts that judge")
    known = loaded.model.vocabulary.rows_in(acts.vocabulary)
    told = _translated(asked, acts.vocabulary.rows_in(loaded.model.vocabulary))
    lists = top_n(loaded.model, told, K, told)
    theirs: Index = np.where(lists >= 0, known[lists], -1).astype(np.int32)
    own, others = (
        ACCURACY["NDCG"](hits_of(each, wanted), wanted.counts, K) for each in (top_n(judged, asked, K, asked), theirs)
    )
    return _compared(champion, f"NDCG@{K}", (own, others), owner)


def _translated(histories: Histories, rows: Index) -> Histories:
    """Return histories by the rows of another vocabulary, without acts on what that has not."""
    row = rows[histories.row] if len(histories.row) else histories.row
    return replace(histories, row=row).where(row >= 0)


def _compared(
    champion: Champion,
    metric: str,
    values: tuple[NDArray[np.float64], NDArray[np.float64]],
    owner: NDArray[np.uint64],
) -> ChampionComparison:
    """Return the mean difference of two values a question, NaN = nothing to answer, drawn by those who asked."""
    own, others = values
    known = ~(np.isnan(own) | np.isnan(others))
    count = int(np.count_nonzero(known))
    if not count:
        return champion.cannot("nothing of the newest part was of worth, so there is nothing to order")
    groups = np.unique(owner[known], return_inverse=True)[1]
    if groups.max() + 1 < OWNERS_MIN:
        return champion.cannot(f"fewer than {OWNERS_MIN} users or sessions asked what neither has learned")
    found = difference(own[known], others[known], groups, Resampling())
    theirs = float(np.mean(others[known]))
    interval = (found.mean, found.low, found.high, found.p_value)
    return ChampionComparison(champion.version, metric, count, *interval, theirs=theirs)
