"""An item model that is as small as one can be, to test with what works with any."""

from dataclasses import dataclass

import msgspec
import numpy as np

from midstream.core.errors import ArtifactInvalid
from midstream.core.types import Index, Score
from midstream.models.histories import Histories, Interactions
from midstream.models.kinds import ItemKind
from midstream.models.model import QUIET, Arrays, ItemModel, Watch, best_said
from midstream.models.vocabulary import ItemVocabulary


class BesideOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of ``fit_beside``."""

    power: float = 1.0
    """Of the counts."""
    noise: float = 0.0
    """How much a seeded number is added to each count, as a method with random beginnings has it."""
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class CoOccurrence:
    """Scores an item by how often it stands in the same histories as those of the asking one."""

    vocabulary: ItemVocabulary
    beside: Score
    """How many histories have both items, by row of the first and of the second; 0 for an item with itself."""

    def scores(self, histories: Histories) -> Score:
        """Return the weighted counts, each item of a history added in turn."""
        found = np.zeros((len(histories), len(self.vocabulary)), dtype=np.float32)
        for number in range(len(histories)):
            one = histories.part(number, number + 1)
            for row, weight in zip(one.row.tolist(), one.weight.tolist(), strict=True):
                found[number] += np.float32(weight) * self.beside[row]
        return found

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k best by sorting; items that were never beside one of the history are left out."""
        scores = self.scores(history)[0]
        return best_said(scores, k)

    def arrays(self) -> Arrays:
        """Return the counts."""
        return {"beside": self.beside}


def fit_beside(data: Interactions, options: BesideOptions, watch: Watch = QUIET) -> CoOccurrence:
    """Count pairs, each history once a pair, in two steps. Cost: the square of the items."""
    watch.step("counting", 0.0)
    has = (data.histories.matrix(len(data.vocabulary)).toarray() > 0).astype(np.float32)
    watch.step("weighing", 0.5)
    beside = (has.T @ has) ** np.float32(options.power)
    noise = np.random.default_rng(options.seed).random(beside.shape, dtype=np.float32)
    beside = beside + np.float32(options.noise) * noise
    np.fill_diagonal(beside, 0.0)
    watch.step("weighing", 1.0)
    return CoOccurrence(data.vocabulary, beside.astype(np.float32))


def restore_beside(vocabulary: ItemVocabulary, arrays: Arrays) -> CoOccurrence:
    """Return the model of these ``arrays``.

    Raises:
        ArtifactInvalid: They are not of a model of this vocabulary.
    """
    found = arrays.get("beside")
    if found is None or found.shape != (len(vocabulary), len(vocabulary)):
        message = "no count for each pair of items"
        raise ArtifactInvalid(message)
    return CoOccurrence(vocabulary, found.astype(np.float32))


def _fit(data: Interactions, options: msgspec.Struct, watch: Watch) -> ItemModel:
    return fit_beside(data, msgspec.convert(options, BesideOptions, from_attributes=True), watch)


BESIDE = ItemKind(BesideOptions, _fit, restore_beside)
"""As a kind that a configuration may name."""
