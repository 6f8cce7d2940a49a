"""Conformance checks of models: the promises of item models and of row models that a type cannot state."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Score
from midstream.models.histories import Histories
from midstream.models.model import Arrays, ItemModel, RowModel, best_of
from midstream.testing.conformance import require

Item = TypeVar("Item", bound=ItemModel)
Row = TypeVar("Row", bound=RowModel)


Silent = Callable[[Histories], NDArray[np.bool_]]
"""Of one history, which items it says nothing of, (items,)."""


def check_item_model(
    model: Item, histories: Histories, read: Callable[[Arrays], Item], silent: Silent | None = None
) -> None:
    """Check an item model over some histories, an empty one among them.

    Promised: a finite score for each history and item; one history alone gets what it gets among others, to the bit;
    ``best`` is what sorting says, at most k and without repeats, less exactly those items that the history says nothing
    of, which are all of an empty one; an empty history prefers nothing; what is written and read again scores the same,
    to the bit; asking changes nothing.

    Args:
        model: What is checked.
        histories: At least three, one of them empty.
        read: Makes the same model of its ``arrays``.
        silent: Says which items are left out; None = those of score 0, or none.
    """
    empty = [number for number in range(len(histories)) if histories.start[number] == histories.start[number + 1]]
    require(len(histories) > 2 and bool(empty), "the check is given three histories, one of them empty")  # noqa: PLR2004
    before = {name: np.array(array) for name, array in model.arrays().items()}
    scores = model.scores(histories)
    require(scores.dtype == np.float32, f"scores are float32, not {scores.dtype}")
    require(scores.shape == (len(histories), len(model.vocabulary)), f"one score an item, not {scores.shape}")
    require(bool(np.isfinite(scores).all()), "every score is finite")
    for number in empty:
        require(bool((scores[number] == scores[number, 0]).all()), "an empty history prefers nothing")
    again = read(model.arrays())
    require(bool((again.scores(histories) == scores).all()), "what is read again scores the same")
    for number in range(len(histories)):
        one = histories.part(number, number + 1)
        require(bool((model.scores(one)[0] == scores[number]).all()), "one history alone scores as among others")
        _check_best(model, one, scores[number], silent)
    require(_same(before, model.arrays()), "asking changes nothing")


def check_row_model(model: Row, values: Score, read: Callable[[Arrays], Row]) -> None:
    """Check a row model over some rows, NaN among their values.

    Promised: one finite number a row; a row alone gets what it gets among others, to the bit; what is written and
    read again scores the same, to the bit; asking changes neither the model nor the values.
    """
    require(bool(np.isnan(values).any()) and len(values) > 1, "the check is given rows with something unknown")
    before, kept = {name: np.array(array) for name, array in model.arrays().items()}, values.copy()
    scores = model.score(values)
    require(scores.dtype == np.float32, f"scores are float32, not {scores.dtype}")
    require(scores.shape == (len(values),), f"one score a row, not {scores.shape}")
    require(bool(np.isfinite(scores).all()), "every score is finite")
    require(model.score(values[:0]).shape == (0,), "no rows give no scores")
    require(bool((read(model.arrays()).score(values) == scores).all()), "what is read again scores the same")
    alone = np.concatenate([model.score(values[row : row + 1]) for row in range(len(values))])
    require(bool((alone == scores).all()), "a row alone scores as among others")
    require(bool(np.array_equal(kept, values, equal_nan=True)), "the values stay as they are")
    require(_same(before, model.arrays()), "asking changes nothing")


def _check_best(model: ItemModel, one: Histories, scores: Score, silent: Silent | None) -> None:
    """Check that the best items of a history are those of the highest scores."""
    left_out = np.ones(len(scores), dtype=np.bool_)
    every, _ = model.best(one, len(scores))
    left_out[every] = False
    if not len(one.row):
        require(bool(left_out.all()), "an empty history says nothing of any item")
    elif silent is not None:
        require(bool((left_out == silent(one)).all()), "best leaves out exactly what the history says nothing of")
    else:
        fits = not left_out.any() or bool((left_out == (scores == 0.0)).all())
        require(fits, "best leaves out exactly what the history says nothing of, which is scored 0, or nothing")
    said = np.where(left_out, np.float32(-np.inf), scores)
    for k in (1, min(5, len(scores)), len(scores) + 1):
        rows, found = model.best(one, k)
        require(rows.dtype == np.int32 and found.dtype == np.float32, "best gives int32 and float32")
        require(len(rows) <= k and len(np.unique(rows)) == len(rows), "best gives at most k, each once")
        require(bool(np.array_equal(rows, best_of(said, k))), "best is what sorting says")
        require(bool((found == scores[rows]).all()), "best gives the scores of its rows")


def _same(before: Arrays, after: Arrays) -> bool:
    return before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
