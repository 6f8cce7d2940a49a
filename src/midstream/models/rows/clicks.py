"""Click labels of a fit: the clicked rows, and the weight of each."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, Invalid
from midstream.models.rows.examples import Examples

Debias = Literal["none", "propensity"]


def clicks_of(examples: Examples, debias: Debias, weight_max: float) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return whether each row was clicked, a label above 0, and its weight, 1 on average, (rows,) each.

    Args:
        examples: Rows.
        debias: With ``propensity`` rows count by 1 / propensity.
        weight_max: Maximum of that weight.

    Raises:
        Invalid: All rows that count were clicked, or none.
    """
    weight = examples.by_propensity(weight_max) if debias == "propensity" else examples.weight
    clicked, counted = examples.label > 0, weight > 0
    if not clicked[counted].any() or clicked[counted].all():
        came = f"Nothing was learned of {len(examples):,} rows: {np.count_nonzero(clicked[counted]):,} were clicked."
        raise Invalid((Fault("$.examples", came, "Rows that were clicked and rows that were not.", "/docs/models.md"),))
    found: NDArray[np.float64] = weight / weight.mean(dtype=np.float64)
    return clicked, found
