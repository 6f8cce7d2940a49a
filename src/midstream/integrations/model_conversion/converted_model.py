"""Fitted model of another library, converted: what is published of it, and how the library itself scores."""

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, Invalid
from midstream.core.nearest import nearest
from midstream.core.types import Index, Score
from midstream.models.rows.trees import Trees

PAGE = "/docs/models.md#from-a-notebook"
Real = NDArray[np.float64]
TOLERANCE = 1e-6
"""Difference from the library's score, as a part of the largest score of a sample: float32 has 1.2e-7."""
NETWORK_TOLERANCE = 1e-5
"""The same of a network in float32: its library adds in an order of its own, which the processor decides too."""
FAILURES = (
    RuntimeError, ValueError, TypeError, NotImplementedError, LookupError, AttributeError, NameError, AssertionError,
    SystemError,
)  # fmt: skip
"""What libraries raise of a model that they cannot write or ask: they have no class in common."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""Of a terminal, which some put into what they say."""


@dataclass(frozen=True, slots=True, eq=False)
class ConvertedModel:
    """A model as it is published, and as it was."""

    library: str
    """Name and version of the library that fitted it."""
    columns: tuple[str, ...]
    """Features that it reads, in its own order."""
    content: bytes | Trees
    """An ONNX file, or trees of ours."""
    predict: Callable[[Score], Real]
    """Scores of the library itself for rows of the columns, (n, columns)."""
    tolerance: float = TOLERANCE
    """Difference that is taken for rounding, as a part of the largest score."""


@dataclass(frozen=True, slots=True, eq=False)
class ConvertedEncoder:
    """What makes a user's vector of a history, as it is published, and as it was."""

    library: str
    """Name and version of the library that trained it."""
    content: bytes
    """An ONNX file."""
    read: Callable[[Index], Real]
    """The vector of the user, (d,), by the library itself, for the rows of a history's items, oldest first."""


@contextmanager
def converting(what: str) -> Generator[None, None, None]:
    """Turn what a converter raises into a fault that names the model.

    Raises:
        Invalid: It cannot be converted.
    """
    try:
        yield
    except FAILURES as error:
        told = " ".join(_COLOURS.sub("", f"{type(error).__name__}: {error}").split())[:300]
        right = "A model that the converter knows, or an ONNX file of its own: midstream models import FILE.onnx."
        raise Invalid((Fault("model", f"{what} cannot be converted. {told}", right, PAGE),)) from error


def fitted_columns(model: Any, columns: Sequence[str]) -> tuple[tuple[str, ...], bool]:  # noqa: ANN401
    """Return the columns in the order of the fit, and whether the model knows their names.

    Raises:
        Invalid: It was fitted on others, which are named.
    """
    known = getattr(model, "feature_names_in_", None)
    if known is None:
        return tuple(columns), False
    names = tuple(str(each) for each in known)
    faults = [
        Fault("columns", f'The model was fitted on "{each}", which is not among the columns.{nearest(each, columns)}',
              "The names that it was fitted on, which are those of the features.", PAGE)
        for each in names
        if each not in columns
    ]  # fmt: skip
    faults += [
        Fault("columns", f'"{each}" came, and the model was not fitted on it.', f"One of {', '.join(names)}", PAGE)
        for each in columns
        if each not in names
    ]
    if faults:
        raise Invalid(tuple(faults))
    return names, True


def numbers_of(model: Any) -> Callable[[Any], Real]:  # noqa: ANN401
    """Return what gives a number a row: the probability of the second class, a decision value, or a prediction."""
    asked = (getattr(model, name, None) for name in ("predict_proba", "decision_function", "predict"))
    ask = next((each for each in asked if each is not None), None)
    if ask is not None:
        return lambda rows: last_of(ask(rows))
    right = "A fitted estimator with predict_proba, decision_function or predict."
    raise Invalid((Fault("model", f"{type(model).__name__} came.", right, PAGE),))


def last_of(told: Any) -> Real:  # noqa: ANN401
    """Return the number of each row of what a library gave, (n,), (n, 1), or (n, classes), of which the last counts.

    What has other axes is left as it is: its shape is not that of a number a row.
    """
    found: Real = np.asarray(told, dtype=np.float64)
    return found[:, -1] if found.ndim == 2 else found  # noqa: PLR2004
