"""Writer of ONNX files: nodes, constants and values as messages, without a library.

What is written is read by any program that reads ONNX; opset 17 and ``ai.onnx.ml`` 3 in format 8, as runtimes since
2022 read them.

Reference: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from midstream.models.onnx.graph import BOOL, DOUBLE, FLOAT, INT32, INT64, ML, STRING
from midstream.models.onnx.wire import FIXED32, Field, bytes_field, number_field, written

IR_VERSION = 8
OPSETS: Mapping[str, int] = {"": 17, ML: 3}
Attribute = int | float | str | Sequence[int] | Sequence[float] | Sequence[str] | NDArray[np.generic]
_ELEMENTS = {"<f4": FLOAT, "<f8": DOUBLE, "<i4": INT32, "<i8": INT64, "|b1": BOOL}


def onnx_file(
    nodes: Iterable[bytes],
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
    constants: Mapping[str, NDArray[np.generic]],
    notes: Mapping[str, str] | None = None,
) -> bytes:
    """Return a file of one graph.

    Args:
        nodes: Of ``node``, each after those whose outputs it takes.
        inputs: Of ``value``.
        outputs: Likewise.
        constants: By name.
        notes: Properties of the file, by name.
    """
    graph = [bytes_field(1, each) for each in nodes]
    graph.append(bytes_field(2, "midstream"))
    graph += [bytes_field(5, tensor(name, array)) for name, array in constants.items()]
    graph += [bytes_field(11, each) for each in inputs]
    graph += [bytes_field(12, each) for each in outputs]
    head = [number_field(1, IR_VERSION), bytes_field(2, "midstream"), bytes_field(7, written(graph))]
    head += [
        bytes_field(8, written([bytes_field(1, domain), number_field(2, version)]))
        for domain, version in OPSETS.items()
    ]
    told = (notes or {}).items()
    head += [bytes_field(14, written([bytes_field(1, name), bytes_field(2, text)])) for name, text in told]
    return written(head)


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Attribute) -> bytes:
    """Return a call of an operator; float attributes are kept as float32."""
    parts = [bytes_field(1, each) for each in inputs]
    parts += [bytes_field(2, each) for each in outputs]
    parts += [bytes_field(4, kind), bytes_field(7, domain)]
    parts += [bytes_field(5, _attribute(name, value)) for name, value in attributes.items()]
    return written(parts)


def tensor(name: str, array: NDArray[np.generic]) -> bytes:
    """Return a constant of float32, float64, int32, int64, bool or text."""
    parts = [number_field(1, each) for each in array.shape]
    if array.dtype.kind == "U":
        parts += [number_field(2, STRING), bytes_field(8, name)]
        return written([*parts, *(bytes_field(6, str(each)) for each in array.ravel().tolist())])
    parts += [number_field(2, _ELEMENTS[array.dtype.str]), bytes_field(8, name)]
    parts.append(bytes_field(9, np.ascontiguousarray(array).tobytes()))
    return written(parts)


def value(name: str, shape: Sequence[int | str], element: int = FLOAT) -> bytes:
    """Return an input or an output.

    Args:
        name: Of it.
        shape: Length of each axis, or the name of a free one.
        element: Of ``graph.ELEMENTS``.
    """
    lengths = [number_field(1, each) if isinstance(each, int) else bytes_field(2, each) for each in shape]
    axes = written([bytes_field(1, written([each])) for each in lengths])
    told = written([number_field(1, element), bytes_field(2, axes)])
    return written([bytes_field(1, name), bytes_field(2, written([bytes_field(1, told)]))])


def _attribute(name: str, value: Attribute) -> bytes:
    return written([bytes_field(1, name), *_content(value)])


def _content(told: Attribute) -> list[Field]:
    """Return the fields of an attribute's value, and of its type."""
    if isinstance(told, np.ndarray):
        return [bytes_field(5, tensor("", told)), number_field(20, 4)]
    if isinstance(told, int | float | str):
        return _one(told)
    whole = [each for each in told if isinstance(each, int)]
    texts = [each for each in told if isinstance(each, str)]
    if len(whole) == len(told):
        return [*(number_field(8, each) for each in whole), number_field(20, 7)]
    if len(texts) == len(told):
        return [*(bytes_field(9, each) for each in texts), number_field(20, 8)]
    return [*(_real(7, float(each)) for each in told), number_field(20, 6)]


def _one(told: float | str) -> list[Field]:
    if isinstance(told, str):
        return [bytes_field(4, told), number_field(20, 3)]
    if isinstance(told, int):
        return [number_field(3, told), number_field(20, 2)]
    return [_real(2, told), number_field(20, 1)]


def _real(number: int, told: float) -> Field:
    return number, FIXED32, memoryview(struct.pack("<f", told))
