"""Numbers of model servers as arrays: bytes of little-endian floats, lists of JSON, and the one score a row.

Everything that came is checked before it is an array: the bytes are as many as the shape says, and the shape has a row
for each candidate.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Score
from midstream.integrations.model_servers.exchange import TOLD_CHARACTERS_MAX, AnswerInvalid, json_of

Numbers = NDArray[Any]
FLOATS: Mapping[str, str] = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
"""Types of numbers that scores may have, by their names in the Open Inference Protocol."""
DIMENSIONS_MAX = 2
DIMENSION_MAX = 1 << 31


def require_float(datatype: str, known: Mapping[str, str] = FLOATS) -> str:
    """Return the type of numbers of a name.

    Raises:
        AnswerInvalid: They are no floats.
    """
    found = known.get(datatype)
    if found is None:
        raise AnswerInvalid(f"numbers of type {datatype[:32]} came where {', '.join(known)} are right")
    return found


def of_bytes(content: bytes | memoryview, kind: str, shape: Sequence[int]) -> Numbers:
    """Return the array of some bytes, which is a view of them.

    Raises:
        AnswerInvalid: They are more or fewer than the shape says.
    """
    _require_shape(shape)
    right = math.prod(shape) * np.dtype(kind).itemsize
    if len(content) != right:
        raise AnswerInvalid(f"{len(content)} bytes came where shape {_shown(shape)} has {right}")
    return np.frombuffer(content, dtype=kind).reshape(tuple(shape))


def reshaped(numbers: Numbers, shape: Sequence[int]) -> Numbers:
    """Return numbers in the shape that came with them.

    Raises:
        AnswerInvalid: They are more or fewer than the shape says.
    """
    _require_shape(shape)
    if numbers.size != math.prod(shape):
        raise AnswerInvalid(f"{numbers.size} numbers came where shape {_shown(shape)} has {math.prod(shape)}")
    return numbers.reshape(tuple(shape))


def of_json(content: msgspec.Raw) -> Numbers:
    """Return the array of a list of numbers, or of equally long lists of them.

    Raises:
        AnswerInvalid: It is none.
    """
    text = bytes(content)
    if text.lstrip()[1:].lstrip()[:1] != b"[":
        return np.array(json_of(text, list[float]), dtype=np.float64)
    rows = json_of(text, list[list[float]])
    lengths = set(map(len, rows))
    if len(lengths) > 1:
        raise AnswerInvalid(f"rows of {min(lengths)} and of {max(lengths)} numbers came")
    return np.array(rows, dtype=np.float64)


def scores_of(numbers: Numbers, count: int, column: int | None) -> Score:
    """Return the score of each row.

    Args:
        numbers: As a server gave them.
        count: Of the rows that were sent.
        column: Which number of a row is its score, where there are several; None = there is one.

    Raises:
        AnswerInvalid: The shape is another one, or a score is no number that float32 holds.
    """
    shape = numbers.shape
    if shape in {(count,), (count, 1)} and not column:
        told = numbers.reshape(count)
    elif len(shape) == DIMENSIONS_MAX and shape[0] == count and column is not None and column < shape[1]:
        told = numbers[:, column]
    else:
        right = f"({count},)" if column is None else f"({count}, more than {column})"
        raise AnswerInvalid(f"scores of shape {_shown(shape)} came where {right} is right")
    with np.errstate(over="ignore"):  # what is beyond it is no number
        score = told.astype(np.float32)
    if lost := count - int(np.count_nonzero(np.isfinite(score))):
        raise AnswerInvalid(f"{lost} of {count} scores are no numbers")
    return score


def _require_shape(shape: Sequence[int]) -> None:
    if len(shape) > DIMENSIONS_MAX or not all(0 <= each < DIMENSION_MAX for each in shape):
        raise AnswerInvalid(f"shape {_shown(shape)} came where at most {DIMENSIONS_MAX} dimensions are right")


def _shown(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape[:4]))}{', …' if len(shape) > 4 else ''})"[:TOLD_CHARACTERS_MAX]  # noqa: PLR2004  so many are enough to see
