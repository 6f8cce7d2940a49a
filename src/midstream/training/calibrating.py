"""Calibration of a published ranker, and its quality, both from the rows of its validation.

The line is fitted on all of these rows. Its quality is that of another line, fitted on their earlier half and evaluated
on the later one, so that no row evaluates its own probability. The published model was fitted on these rows too; the
line is that of its twin, which was not, since every model is overconfident on its training rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from midstream.core.types import Calibration
from midstream.evaluation.metrics.click_metrics import Bin, calibration_error, log_losses, reliability
from midstream.models.model import RowModel
from midstream.models.rows.calibration import fit_calibration, probabilities
from midstream.models.rows.examples import Examples

LATER = 0.5
"""Share of the rows on which a line that was fitted on the others is judged."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration line, and its quality."""

    calibration: Calibration | None
    """None = all rows came out the same, or there are none."""
    metrics: Mapping[str, float | None]
    """``calibrated.ECE`` and ``calibrated.log_loss`` of the later half; None = undefined."""
    bins: tuple[Bin, ...]
    """Of the later half; empty where undefined."""


def calibrated(model: RowModel, later: Examples, *, is_probability: bool) -> Calibrated:
    """Return the calibration of a model by rows that are not in its training.

    Args:
        model: Fitted on earlier rows.
        later: Rows of its validation.
        is_probability: Whether its scores are probabilities already.
    """
    if not len(later):
        return Calibrated(None, _nothing(), ())
    line = _line(model, later, is_probability=is_probability)
    first, second = later.split(LATER)
    halved = _line(model, first, is_probability=is_probability) if len(first) and len(second) else None
    if halved is None:
        return Calibrated(line, _nothing(), ())
    told = probabilities(halved, model.score(second.values)).astype(np.float32)
    is_good = second.label > 0
    bins = reliability(is_good, told, weight=second.weight)
    losses = float(np.average(log_losses(is_good, told), weights=second.weight))
    return Calibrated(line, {"calibrated.log_loss": losses, "calibrated.ECE": calibration_error(bins)}, bins)


def _line(model: RowModel, rows: Examples, *, is_probability: bool) -> Calibration | None:
    score = model.score(rows.values)
    return fit_calibration(score, rows.label > 0, rows.weight, is_probability=is_probability)


def _nothing() -> Mapping[str, float | None]:
    return {"calibrated.log_loss": None, "calibrated.ECE": None}
