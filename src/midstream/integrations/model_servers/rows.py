"""Rows of candidates as the tensors of a question: one of all columns, or one a column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from midstream.core.types import Score
from midstream.integrations.model_servers.target import Target


@dataclass(frozen=True, slots=True, eq=False)
class SentTensor:
    """A named input."""

    name: str
    rows: Score
    """Little-endian float32, row by row, shape (n, columns)."""


def tensors_of(target: Target, names: Sequence[str], rows: Score) -> list[SentTensor]:
    """Return the inputs of a question.

    Args:
        target: Says how they are laid out.
        names: Of the columns.
        rows: Of the candidates, (n, columns).
    """
    if target.layout == "matrix":
        return [SentTensor(target.input, np.ascontiguousarray(rows, dtype="<f4"))]
    return [
        SentTensor(name, np.ascontiguousarray(rows[:, place : place + 1], dtype="<f4"))
        for place, name in enumerate(names)
    ]


def json_numbers(values: Score) -> Any:  # noqa: ANN401  lists in lists
    """Return numbers as JSON has them, which read back as the same float32."""
    return np.asarray(values, dtype=np.float64).tolist()
