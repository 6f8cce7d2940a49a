"""Temporal splits of interactions for item models.

*temporal*: predicts the acts after a moment from those before. *rolling*: the same for several moments one after
another. Neither samples negatives.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, Invalid
from midstream.evaluation.data.interactions import InteractionTable, by_time
from midstream.evaluation.data.tables import PAGE
from midstream.evaluation.full_ranking import ItemData, Removed, Task
from midstream.evaluation.metrics.list_metrics import RelevantItems
from midstream.models.histories import Histories
from midstream.models.histories import Interactions as Learned
from midstream.models.vocabulary import ItemVocabulary


def temporal(name: str, rows: Callable[[], InteractionTable], *, removed: Removed = "seen") -> ItemData:
    """Return acts split by time: the last tenth is the test part, the tenth before it the validation part.

    Args:
        name: Of the data set.
        rows: Reads the acts. A history is that of a user, or of a session where no user is known.
        removed: Items that may not be recommended.
    """
    return ItemData(
        name,
        "temporal",
        lambda: (time_task(rows(), 0.8, 0.9, removed=removed),),
        lambda: (time_task(rows(), 0.9, 1.0, removed=removed),),
        removed,
        validation_learned=True,
    )


def rolling(
    name: str, rows: Callable[[], InteractionTable], windows: int = 5, *, removed: Removed = "seen"
) -> ItemData:
    """Return acts split into windows of time: the acts before each window are learned, then its acts are predicted.

    The second half of the acts is cut into windows of equally many; settings are chosen in the first half, on its last
    quarter.

    Args:
        name: Of the data set.
        rows: As ``temporal``.
        windows: Number of windows.
        removed: Items that may not be recommended.
    """

    def reporting() -> Sequence[Task]:
        edges = np.linspace(0.5, 1.0, windows + 1).tolist()
        return tuple(time_task(rows(), low, high, removed=removed) for low, high in pairwise(edges))

    return ItemData(
        name,
        "rolling",
        lambda: (time_task(rows(), 0.375, 0.5, removed=removed),),
        reporting,
        removed,
        validation_learned=True,
    )


def time_task(interactions: InteractionTable, low: float, high: float, *, removed: Removed = "seen") -> Task:
    """Return the task of predicting the acts between two shares of the acts from all before the first.

    The vocabulary has the items of the earlier acts; other items are relevant too and cannot be found. Each user with
    an act in between has one question, with an empty history where nothing came before. Items that may not be
    recommended are not relevant.

    Raises:
        Invalid: There is nothing to learn, or no question.
    """
    rows = by_time(interactions)
    cut, end = round(len(rows) * low), round(len(rows) * high)
    # Acts of one moment are on one side.
    moments: list[int] = rows.time_ms.tolist()
    cut, end = (bisect_left(moments, moments[at]) if at < len(rows) else at for at in (cut, end))
    if cut in {0, end}:
        raise Invalid((Fault("acts", f"{len(rows)} acts, {cut} before the cut", "some before it and after", PAGE),))
    # No user's id begins like this one of a session.
    owner = np.where(rows.user_id != "", rows.user_id, np.char.add("\0", rows.session_id))
    who = np.unique(owner, return_inverse=True)[1]
    ids, learned = np.unique(rows.item_id[:cut], return_inverse=True)
    place = np.minimum(np.searchsorted(ids, rows.item_id[cut:end]), len(ids) - 1)
    item = np.where(ids[place] == rows.item_id[cut:end], place, -1)
    everyone = _grouped(who[:cut], learned, rows.time_ms[:cut], int(who.max()) + 1)
    asked = np.unique(who[cut:end])
    later = _later(who[cut:end], rows.item_id[cut:end].tolist(), item.tolist())
    barred = {"seen": slice(None), "last": slice(-1, None), "nothing": slice(0, 0)}[removed]
    seen = [set(everyone.part(each, each + 1).row[barred].tolist()) for each in asked.tolist()]
    wanted = [
        [at for at in later[each] if at < 0 or at not in known]
        for each, known in zip(asked.tolist(), seen, strict=True)
    ]
    kept = np.array([len(each) > 0 for each in wanted])
    active = np.flatnonzero(np.diff(everyone.start) > 0)
    return Task(
        Learned(ItemVocabulary.of(ids.tolist()), everyone.take(active)),
        everyone.take(asked[kept]),
        RelevantItems.of([each for each in wanted if each]),
        asked[kept],
    )


def _later(who: NDArray[np.intp], ids: Sequence[str], item: Sequence[int]) -> dict[int, list[int]]:
    """Return the distinct later items of each user, in order; -1 for each that is not in the vocabulary."""
    found: dict[int, dict[str, int]] = {}
    for each, text, row in zip(who.tolist(), ids, item, strict=True):
        found.setdefault(each, {}).setdefault(text, row)
    return {each: list(items.values()) for each, items in found.items()}


def _grouped(who: NDArray[np.intp], item: NDArray[np.intp], time_ms: NDArray[np.int64], count: int) -> Histories:
    """Return a history for each of so many, by time."""
    order = np.argsort(who, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(who, minlength=count))]).astype(np.int64)
    return Histories(item[order].astype(np.int32), np.ones(len(item), dtype=np.float32), start, time_ms[order])
