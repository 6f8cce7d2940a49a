"""A calibration for a ranker that is published, and what it is worth, both from rows that the ranker was judged by.

The line is fitted on all of them. What it is worth is asked of another line: one fitted on their earlier half, judged
on the later one, so that no row says how true its own probability is. The model that is published has learned these
rows too; the line is that of its twin, which had not, since of rows that were learned every model is too sure.
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
    """A line, and how true what it says is."""

    calibration: Calibration | None
    """None = all rows came out the same, or there are none."""
    metrics: Mapping[str, float | None]
    """``calibrated.ECE`` and ``calibrated.log_loss`` of the later half; None = it says nothing."""
    bins: tuple[Bin, ...]
    """Of the later half; none where nothing is said."""


def calibrated(model: RowModel, later: Examples, *, is_probability: bool) -> Calibrated:
    """Return the calibration of a model by rows that it has not learned.

    Args:
        model: Fitted on earlier rows.
        later: What it is judged by.
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
