"""Probes of a version: made-up questions to it, for what the gates need to know of any model.

The questions are drawn from a seed around the model's own thresholds or over its vocabulary, as golden questions are,
so that no user's acts are needed. Invariants that hold for every model are asked beside: the same question has the same
answer twice, and a question alone has the answer that it has among others.
"""

from collections.abc import Callable, Sequence

import numpy as np

from midstream.core.types import Score
from midstream.models.artifact.artifact import Manifest
from midstream.models.artifact.golden import TOLERANCE, made_histories, made_rows
from midstream.models.model import ItemModel, RowModel, is_item_model
from midstream.training.gates.evidence import MeasuredVersion

ROUNDS = 5
"""Of a measurement; the least is taken, since others only add to it."""
BEST_K = 100
TIMED_ROWS = 500
"""As many as a placement scores at most."""
COVERED = 50
"""Most popular items that a model should know: what a source of popular items proposes."""
_TO_MS = 1_000.0


def measured(
    model: ItemModel | RowModel,
    manifest: Manifest,
    version: str,
    popular: Sequence[str],
    worked_s: Callable[[], float],
) -> MeasuredVersion:
    """Return what a version answers to made-up questions.

    Args:
        model: Loaded.
        manifest: Of the version.
        version: Its name.
        popular: Ids of the most popular items now.
        worked_s: Processor time so far, in seconds.

    Cost: 16 histories over all items twice, or 256 rows; then seven answers.
    """
    ask = _item_probe if is_item_model(model) else _row_probe
    found, faults, cpu_ms = ask(model, manifest.window.end, worked_s)  # type: ignore[arg-type]  # as the guard told
    vocabulary = model.vocabulary if is_item_model(model) else None
    apart = [float(np.ptp(each) > 0) for each in found if len(each) and np.isfinite(each).all()]
    known = set[str]() if vocabulary is None else set(vocabulary.ids)
    asked = popular[:COVERED]
    return MeasuredVersion(
        version=version,
        faults=faults,
        end_ms=manifest.window.end_ms,
        bytes=manifest.bytes,
        items=None if vocabulary is None else len(vocabulary),
        coverage=sum(each in known for each in asked) / len(asked) if vocabulary is not None and asked else None,
        scores=sum(each.size for each in found),
        not_finite=sum(int(np.count_nonzero(~np.isfinite(each))) for each in found),
        apart=float(np.mean(apart)) if apart else 0.0,
        cpu_ms=cpu_ms,
    )


def unreadable(version: str, reason: str) -> MeasuredVersion:
    """Return what is known of a version that cannot be read."""
    return MeasuredVersion(version=version, faults=(reason,))


def _item_probe(
    model: ItemModel, seed: int, worked_s: Callable[[], float]
) -> tuple[list[Score], tuple[str, ...], float | None]:
    """Return the scores of each history, broken invariants, and the least time of one answer."""
    if not len(model.vocabulary):
        return [], (), None
    asked = made_histories(len(model.vocabulary), seed)
    scores = model.scores(asked)
    alone = model.scores(asked.part(0, 1))[0]
    faults = _differences(scores, model.scores(asked), "a question asked twice has two answers")
    faults += _differences(scores[0], alone, "a history alone has another answer than among others")
    spent = [_spent(lambda: model.best(asked.part(0, 1), BEST_K), worked_s) for _ in range(ROUNDS)]
    return list(scores), faults, min(spent) * _TO_MS


def _row_probe(
    model: RowModel, seed: int, worked_s: Callable[[], float]
) -> tuple[list[Score], tuple[str, ...], float | None]:
    """Return the scores of rows, broken invariants, and the least time of one answer."""
    rows = made_rows(model, seed)
    scores = model.score(rows)
    faults = _differences(scores, model.score(rows), "a question asked twice has two answers")
    faults += _differences(scores[:1], model.score(rows[:1]), "a row alone has another answer than among others")
    many = np.ascontiguousarray(np.resize(rows, (TIMED_ROWS, rows.shape[1])))
    spent = [_spent(lambda: model.score(many), worked_s) for _ in range(ROUNDS)]
    return [scores], faults, min(spent) * _TO_MS


def _differences(first: Score, second: Score, text: str) -> tuple[str, ...]:
    """Return a fault where two answers to one question differ by more than sums in another order do."""
    largest = float(np.nanmax(np.abs(first), initial=0.0))
    is_same = first.shape == second.shape and np.allclose(
        first, second, rtol=0.0, atol=TOLERANCE * largest, equal_nan=True
    )
    return () if is_same else (text,)


def _spent(work: Callable[[], object], worked_s: Callable[[], float]) -> float:
    began = worked_s()
    work()
    return worked_s() - began
