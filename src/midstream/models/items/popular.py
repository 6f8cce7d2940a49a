"""Popularity baseline: the items with the most acts, which every other model has to beat.

The content of a history changes nothing; an empty one gets 0 for all, as from every item model.

Reference: P. Cremonesi, Y. Koren, R. Turrin, "Performance of Recommender Algorithms on Top-N Recommendation Tasks",
RecSys 2010, section 3.1 (TopPop).
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from midstream.core.types import Index, Score
from midstream.models.histories import Histories, Interactions
from midstream.models.model import QUIET, Arrays, Watch, best_of, checked
from midstream.models.vocabulary import ItemVocabulary


class PopularOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counting of acts."""

    once: bool = True
    """A user counts once for an item; else each act counts by its weight."""


@dataclass(frozen=True, slots=True, eq=False)
class PopularModel:
    """Scores each item by its number of users or acts."""

    vocabulary: ItemVocabulary
    score: Score
    """(items,)."""

    def scores(self, histories: Histories) -> Score:
        """Return the score of each item for every history, 0 for an empty one, (histories, items)."""
        is_any = np.diff(histories.start) > 0
        return np.where(is_any[:, None], self.score, np.float32(0.0))

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k items with the highest count, whatever the history; none for an empty one."""
        rows = best_of(self.score, k if len(history.row) else 0)
        return rows, self.score[rows]

    def arrays(self) -> Arrays:
        """Return the scores."""
        return {"score": self.score}


def fit(interactions: Interactions, options: PopularOptions, watch: Watch = QUIET) -> PopularModel:
    """Count who acted on each item.

    Cost: one pass over the acts.

    Raises:
        FitStopped: The watch says so.
    """
    watch.step("counting", 0.0)
    matrix = interactions.histories.matrix(len(interactions.vocabulary))
    weight = np.ones_like(matrix.data) if options.once else matrix.data
    score = np.bincount(matrix.indices, weight, minlength=len(interactions.vocabulary))
    return PopularModel(interactions.vocabulary, score.astype(np.float32))


def restore(vocabulary: ItemVocabulary, arrays: Arrays) -> PopularModel:
    """Return the model that these ``arrays`` are of.

    Raises:
        ArtifactInvalid: They are not those of such a model over this vocabulary.
    """
    checked(arrays, "a popular model", {"score": ("<f4", (len(vocabulary),))})
    return PopularModel(vocabulary, arrays["score"].astype(np.float32))
