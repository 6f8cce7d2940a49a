"""What a fit is worth on acts that are newer than all that it was fitted on: every item ranked, none sampled."""

from collections.abc import Mapping

import numpy as np

from midstream.evaluation.list_metrics import ACCURACY, Wanted, hits_of
from midstream.models.histories import Histories
from midstream.models.model import ItemModel
from midstream.models.popular import PopularOptions, fit
from midstream.models.top_n import top_n
from midstream.training.datasets import Acts

K = 20
QUESTIONS_MAX = 10_000
"""Histories asked, evenly spread over all: figures of so many differ by 1 % of the metric's spread."""
METRICS = ("HR", "recall", "NDCG", "MRR")


def validation_of(model: ItemModel, acts: Acts, first: int, history_acts_max: int) -> Mapping[str, float | None]:
    """Return the metrics of a fit on the acts before a log position, for those from there on.

    Asked is each history that has acts on both sides; right are the items that come after and that it had not before,
    which may not be recommended. ``popular.…`` are those of the most popular items, for the same questions.

    Args:
        model: Fitted on the acts before ``first``.
        acts: All.
        first: Log position at which the questions begin.
        history_acts_max: Newest acts of each history.

    Returns:
        Metric to value, ``questions`` among them; None = there is no question.
    """
    asked, wanted = questions(acts, first, history_acts_max)
    found: dict[str, float | None] = {"questions": float(len(asked))}
    popular = fit(acts.interactions(history_acts_max, first), PopularOptions())
    for prefix, each in (("", model), ("popular.", popular)):
        hits = hits_of(top_n(each, asked, K, asked), wanted) if len(asked) else None
        for name in METRICS:
            value = None if hits is None else float(np.mean(ACCURACY[name](hits, wanted.counts, K)))
            found[f"{prefix}{name}@{K}"] = value
    return found


def questions(acts: Acts, first: int, history_acts_max: int) -> tuple[Histories, Wanted]:
    """Return what is asked, and the new items that are right for each; at least one is."""
    before, whose = acts.histories(history_acts_max, stop=first)
    after, later = acts.histories(history_acts_max, first=first)
    place = np.minimum(np.searchsorted(whose, later), max(len(whose) - 1, 0))
    asked: list[list[int]] = []
    weights: list[list[float]] = []
    right: list[list[int]] = []
    known = np.flatnonzero(whose[place] == later) if len(whose) else np.empty(0, dtype=np.intp)
    for number in known[:: max(1, -(-len(known) // QUESTIONS_MAX))].tolist():
        own = before.part(int(place[number]), int(place[number]) + 1)
        items: list[int] = own.row.tolist()
        new = sorted(set(after.part(number, number + 1).row.tolist()).difference(items))
        if new:
            asked.append(items)
            weights.append(own.weight.tolist())
            right.append(new)
    made = Histories.of(asked)
    flat = np.array([each for row in weights for each in row], dtype=np.float32)
    return Histories(made.row, flat, made.start), Wanted.of(right)
