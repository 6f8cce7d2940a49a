"""Scorer of a fitted model: reads columns of the candidates by name, returns a number a row.

A model names its inputs. The order of the columns depends on the sources that answered, so it is computed once for each
set of columns and cached. The columns of a source are NaN for items that it did not propose, and for all items where it
did not answer.
"""

from functools import lru_cache
from typing import ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ModelUnavailable, ScoresUnavailable
from midstream.core.field_bounds import Name
from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import FeatureFrame, Models, Query, Score
from midstream.models.model import RowModel, is_row_model

OF_SOURCES = ("score.", "rank.")
"""Beginnings of the columns that sources give: they are not there when the source did not answer."""
_ORDERS_MAX = 1_024
"""Cached orders: a few of each plan, and one more for each set of sources that failed together."""


class ModelScorer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="model"):
    """Scores by a loaded row model, such as trees. Never waits."""

    traits: ClassVar[Traits] = BOUNDED
    name: Name
    """Of the model, and of this scorer in answers, served records and metrics."""

    @property
    def model_names(self) -> tuple[str, ...]:
        """The model that it reads."""
        return (self.name,)

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        """Return the model's number for each row.

        Raises:
            ModelUnavailable: No row model of that name is loaded.
            ScoresUnavailable: The features lack a column that the model reads.
        """
        model = row_model(models, self.name)
        return model.score(columns_of(model.inputs, features))


def row_model(models: Models, name: str) -> RowModel:
    """Return a loaded row model by name.

    ``Models.get`` looks for a class; a row model is known by its methods, whatever its class.

    Raises:
        ModelUnavailable: There is none.
    """
    found = models.by_name.get(name)
    if not is_row_model(found):
        raise ModelUnavailable(name)
    return found


def columns_of(inputs: tuple[str, ...], features: FeatureFrame) -> Score:
    """Return the columns that a model reads, (n, len(inputs)), NaN where a source did not answer.

    It is a view where they are adjacent, as for a model that was fitted on the placement's own features.

    Raises:
        ScoresUnavailable: The features lack one that is no source's.
    """
    by_column = features.values.T
    place = _place(inputs, features.names)
    if isinstance(place, slice):
        return by_column[place].T
    values = by_column[np.maximum(place, 0)]
    values[place < 0] = np.nan
    return values.T


@lru_cache(maxsize=_ORDERS_MAX)
def _place(inputs: tuple[str, ...], names: tuple[str, ...]) -> slice | NDArray[np.intp]:
    """Return the order of the columns; where they lie side by side, from which to which."""
    order = column_order(inputs, names)
    first = int(order[0]) if len(order) else 0
    is_run = first >= 0 and bool((np.diff(order) == 1).all())
    return slice(first, first + len(order)) if is_run else order


@lru_cache(maxsize=_ORDERS_MAX)
def column_order(inputs: tuple[str, ...], names: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the index of each input among the names, -1 = it belongs to a source that did not answer.

    Raises:
        ScoresUnavailable: One that is no source's is missing.
    """
    places = {name: place for place, name in enumerate(names)}
    if missing := [name for name in inputs if name not in places and not name.startswith(OF_SOURCES)]:
        message = f"the model reads {', '.join(missing)}, which the placement does not"
        raise ScoresUnavailable(message)
    order = np.array([places.get(name, -1) for name in inputs], dtype=np.intp)
    order.flags.writeable = False
    return order


def missing_inputs(model: RowModel, sources: tuple[str, ...], features: tuple[str, ...]) -> tuple[str, ...]:
    """Return the inputs of a model that neither the sources nor the features of a plan give."""
    given = {*features, *(f"{kind}{source}" for kind in OF_SOURCES for source in sources)}
    return tuple(name for name in model.inputs if name not in given)
