"""Numbers around which the columns of a graph lie: thresholds of its trees, and what it takes off and divides by.

A graph without trees says where a column's values lie as far as it standardises them: by a ``Scaler``, or by adding,
subtracting, multiplying or dividing with constants. Each such result is the column times a factor plus a shift; where
that is 0, 1 and -1 are mean and deviations of what the model was fitted on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from midstream.models.onnx.graph import DOUBLE, FLOAT, INT64, ML, Node, OnnxGraph, Tensor, attribute_values
from midstream.models.onnx.wire import bytes_of, fields, numbers

Real = NDArray[np.float64]
_TYPES = {FLOAT: "<f4", DOUBLE: "<f8", INT64: "<i8"}
_NUMBERS = {FLOAT: 4, DOUBLE: 10, INT64: 7}
"""Fields of a constant that hold its numbers, where these are not one run of bytes (9)."""
_SAME = {("", "Identity"), ("", "Cast"), ("", "Clip"), ("", "Dropout"), (ML, "Imputer")}
_JOINED = {("", "Concat"), (ML, "FeatureVectorizer")}
_PARTS = ("column", "factor", "shift")
_CALCULATED, _PAIR = {"Add", "Sub", "Mul", "Div"}, 2


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A result whose numbers are those of columns, times a factor, plus a shift."""

    column: NDArray[np.int64]
    factor: Real
    shift: Real


def column_marks(graph: OnnxGraph, inputs: Sequence[str], columns: int) -> list[Real]:
    """Return numbers around which the values of each column lie, some perhaps infinite; none where it says none.

    Args:
        graph: Read.
        inputs: Of it: one for all columns, or one for each, in their order.
        columns: How many there are.
    """
    found: list[list[float]] = [[] for _ in range(columns)]
    if len(inputs) == 1:
        known = {inputs[0]: _plain(np.arange(columns))}
    else:
        known = {name: _plain(np.array([at])) for at, name in enumerate(inputs)}
    constants = {name: constant_numbers(each, columns) for name, each in graph.constants.items()}
    carried = set[str]()
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node.kind == "Constant" and node.tensors and node.outputs:
                constants[node.outputs[0]] = constant_numbers(node.tensors[0], columns)
            for column, mark in _thresholds(node, known.get(node.inputs[0]) if node.inputs else None):
                carried.add(node.inputs[0])
                if 0 <= column < columns:
                    found[column].append(mark)
            result = _result(node, known, constants)
            if result is not None and node.outputs:
                known[node.outputs[0]] = result
                carried.update(node.inputs)
        for name, scaled in known.items():
            if name not in carried:
                for column, factor, shift in zip(scaled.column, scaled.factor, scaled.shift, strict=True):
                    if not (factor == 1.0 and shift == 0.0) and factor:
                        found[column] += [(each - shift) / factor for each in (-1.0, 0.0, 1.0)]
    return [np.array(each, dtype=np.float64) for each in found]


def _plain(column: NDArray[np.int64]) -> _Scaled:
    return _Scaled(column, np.ones(len(column)), np.zeros(len(column)))


def _thresholds(node: Node, source: _Scaled | None) -> Iterator[tuple[int, float]]:
    """Yield what trees compare columns with, as numbers of the columns."""
    if node.domain != ML or not {"nodes_featureids", "nodes_values"} <= node.attributes.keys():
        return
    ids = [each for each in attribute_values(node.attributes["nodes_featureids"]) if isinstance(each, int)]
    for at, value in zip(ids, _floats(node, "nodes_values").tolist(), strict=False):
        if source is None:
            yield at, value
        elif 0 <= at < len(source.column) and source.factor[at]:
            yield int(source.column[at]), float((value - source.shift[at]) / source.factor[at])


def _result(node: Node, known: Mapping[str, _Scaled], constants: Mapping[str, Real | None]) -> _Scaled | None:
    """Return the result of a call as columns with factor and shift; None = it is anything else."""
    kind, given = (node.domain, node.kind), [known.get(each) for each in node.inputs]
    there = [each for each in given if each is not None]
    found: _Scaled | None = None
    if not there:
        return None
    if kind in _SAME:
        found = given[0]
    elif kind == ("", "Where") and len(there) == 1:
        found = there[0]
    elif kind in _JOINED and len(there) == len(given):
        found = _Scaled(*(np.concatenate([getattr(each, part) for each in there]) for part in _PARTS))
    elif kind == (ML, "ArrayFeatureExtractor") and given[0] is not None:
        found = _picked(given[0], constants.get(node.inputs[-1]))
    elif kind == (ML, "Scaler"):
        found = _times(_plus(there[0], -_floats(node, "offset")), _floats(node, "scale"))
    elif not node.domain and node.kind in _CALCULATED and len(given) == _PAIR and len(there) == 1:
        is_first = given[0] is not None
        found = _calculated(node.kind, there[0], constants.get(node.inputs[is_first]), is_first=is_first)
    return found


def _picked(source: _Scaled, places: Real | None) -> _Scaled | None:
    """Return some columns of several."""
    if places is None or not ((places >= 0) & (places < len(source.column))).all():
        return None
    return _Scaled(*(getattr(source, part)[places.astype(np.int64)] for part in _PARTS))


def _calculated(kind: str, source: _Scaled, number: Real | None, *, is_first: bool) -> _Scaled | None:
    """Return a sum, difference, product or part of columns and a constant."""
    if number is None or (kind == "Div" and not is_first):
        return None
    if kind in {"Mul", "Div"}:
        return _times(source, number if kind == "Mul" else 1.0 / number)
    sign = np.array([1.0 if kind == "Add" else -1.0])
    return _plus(source, number * sign) if is_first else _plus(_times(source, sign), number)


def _plus(source: _Scaled | None, number: Real) -> _Scaled | None:
    if source is None or len(number) not in {1, len(source.column)}:
        return None
    return _Scaled(source.column, source.factor, source.shift + number)


def _times(source: _Scaled | None, number: Real) -> _Scaled | None:
    if source is None or len(number) not in {1, len(source.column)}:
        return None
    return _Scaled(source.column, source.factor * number, source.shift * number)


def constant_numbers(tensor: Tensor, most: int) -> Real | None:
    """Return the numbers of a constant of at most so many; None = it has more, is of another type, or is damaged."""
    if tensor.element not in _TYPES or not 0 < prod(tensor.shape) <= most:
        return None
    own, raw, whole = list[memoryview](), list[memoryview](), list[int]()
    for number, kind, value in fields(tensor.content):
        if number == _NUMBERS[tensor.element]:
            if tensor.element == INT64:
                whole += numbers(kind, value)
            else:
                own.append(bytes_of(value))
        elif number == 9:
            raw.append(bytes_of(value))
    if whole:
        return np.array(whole, dtype=np.float64) if len(whole) == prod(tensor.shape) else None
    element, told = np.dtype(_TYPES[tensor.element]), raw or own
    if sum(each.nbytes for each in told) != prod(tensor.shape) * element.itemsize:
        return None
    return np.frombuffer(b"".join(told), dtype=element).astype(np.float64)


def _floats(node: Node, name: str) -> Real:
    """Return an attribute of floats; none where it has none."""
    attribute = node.attributes.get(name)
    texts = [] if attribute is None else [e for e in attribute_values(attribute) if not isinstance(e, int)]
    return np.frombuffer(b"".join(texts), dtype="<f4").astype(np.float64)
