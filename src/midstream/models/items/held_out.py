"""Held-out acts of a fit, for choosing options on data that no part of the model has learned.

Reference: a validation part of the training data, as in Hastie, Tibshirani and Friedman, "The Elements of Statistical
Learning", 2009, section 7.2.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from midstream.models.histories import Histories, Interactions

Manner = Literal["last", "random"]
"""Choice of the held-out acts of each history: the newest, as in time, or random ones, where the order has no
meaning."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutActs:
    """Histories of the choice, none of whose relevant acts was learned."""

    asked: Histories
    """Known acts of each; these items are not recommended."""
    wanted: Histories
    """Next acts of each, as many histories; items of ``asked`` are not among them."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Options of the held-out acts."""

    share: float
    """Of each history of two acts and more, rounded, at least one; more than 0, less than 1."""
    manner: Manner
    seed: int
    """Of what is drawn at random."""
    histories_max: int
    """Histories of the trial, evenly spread over all that want anything."""


def hold_out(data: Interactions, how: HeldOut) -> tuple[Interactions, HeldOutActs]:
    """Return what is learned, and what may be chosen by: the acts that are not in it.

    A history of one act is learned whole. Acts on items that the same history keeps are learned by nobody and wanted by
    nobody. The trial is empty where no history has two items.
    """
    histories = data.histories
    counts = np.diff(histories.start)
    wanted = np.where(counts > 1, np.clip(np.round(counts * how.share), 1, np.maximum(counts - 1, 1)), 0)
    is_held = _places(histories, how) >= np.repeat(counts - wanted, counts)
    kept, held = histories.where(~is_held), histories.where(is_held)
    asked: list[int] = []
    new: list[NDArray[np.int32]] = []
    for number in np.flatnonzero(wanted).tolist():
        rows = np.setdiff1d(held.part(number, number + 1).row, kept.part(number, number + 1).row)
        if len(rows):
            asked.append(number)
            new.append(rows)
    step = max(1, -(-len(asked) // how.histories_max))
    chosen = Histories.of([each.tolist() for each in new[::step]])
    trial = HeldOutActs(kept.take(np.array(asked[::step], dtype=np.intp)), chosen)
    return Interactions(data.vocabulary, kept, data.described), trial


def _places(histories: Histories, how: HeldOut) -> NDArray[np.int64]:
    """Return the place of each act in its history, by time or drawn, (acts,)."""
    counts = np.diff(histories.start)
    own = np.arange(len(histories.row)) - np.repeat(histories.start[:-1], counts)
    if how.manner == "last":
        return own
    drawn = np.random.default_rng(how.seed).random(len(own))
    found = np.empty(len(own), dtype=np.int64)
    found[np.lexsort((drawn, np.repeat(np.arange(len(counts)), counts)))] = own
    return found
