"""Types of a kernel's arguments as JSON, so that a list of them can be read, compared and kept beside the sources.

A number is its name, ``"int64"``, and so is ``"bytes"``; all else a list that begins with a word: ``["array", of,
dimensions, layout, writable, aligned]``, ``["record", fields, formats, offsets, bytes, aligned]``,
``["tuple", class or "", of]``, ``["struct", class, fields]``, ``["kernel", name]``.
"""

from importlib import import_module
from typing import Any

import numpy as np

types: Any = import_module("numba.core.types")
"""numba's own; most of it has no types."""
_numpy: Any = import_module("numba.np.numpy_support")
_PLAIN = (types.Integer, types.Float, types.Boolean, types.NoneType, types.Bytes)
_BYTES, _BYTES_TYPE = "bytes", types.Bytes(types.uint8, 1, "C", readonly=True)


def encoded(kind: Any) -> object:  # noqa: ANN401  # numba's own
    """Return a type as JSON.

    Raises:
        ValueError: It is of none of the forms above.
    """
    found = _encoded(kind)
    if decoded(found) != kind:
        raise ValueError(str(kind))
    return found


def _encoded(kind: Any) -> object:  # noqa: ANN401  # numba's own
    match kind:
        case types.Literal():
            raise ValueError(str(kind))
        case types.Integer() | types.Float() | types.Boolean() | types.NoneType() | types.Bytes():
            return _BYTES if kind == _BYTES_TYPE else str(kind)
        case types.Array():
            return ["array", _encoded(kind.dtype), kind.ndim, kind.layout, kind.mutable, kind.aligned]
        case types.Record():
            return _record(kind)
        case types.BaseTuple():
            made = getattr(kind, "instance_class", None)
            return ["tuple", "" if made is None else _name_of(made), [_encoded(each) for each in kind.types]]
        case types.StructRef():
            return ["struct", _name_of(type(kind)), [[name, _encoded(each)] for name, each in kind._fields]]
        case types.Dispatcher():
            return ["kernel", _name_of(kind.dispatcher.py_func)]
        case _:
            raise ValueError(str(kind))


def _record(kind: Any) -> list[object]:  # noqa: ANN401  # numba's own
    dtype: Any = _numpy.as_dtype(kind)
    names = list(dtype.names)
    formats = [_format(dtype.fields[name][0]) for name in names]
    offsets = [dtype.fields[name][1] for name in names]
    return ["record", names, formats, offsets, dtype.itemsize, kind.aligned]


def _format(dtype: Any) -> object:  # noqa: ANN401  # of a field
    return [dtype.base.str, list(dtype.shape)] if dtype.shape else dtype.str


def decoded(told: Any) -> Any:  # noqa: ANN401  # JSON, and a type of numba
    """Return the type that JSON tells.

    Raises:
        ValueError: It tells none.
        ImportError, AttributeError: The class or the kernel that it names is not there.
    """
    match told:
        case str():
            found = _BYTES_TYPE if told == _BYTES else getattr(types, told, None)
            if not isinstance(found, _PLAIN):
                raise ValueError(told)  # noqa: TRY004  # what came is a text of no type
            return found
        case ["array", of, dimensions, layout, writable, aligned]:
            return types.Array(decoded(of), dimensions, layout, readonly=not writable, aligned=aligned)
        case ["record", names, formats, offsets, size, aligned]:
            each: Any = [one if isinstance(one, str) else tuple(one) for one in formats]
            given: Any = {"names": names, "formats": each, "offsets": offsets, "itemsize": size}
            return _numpy.from_dtype(np.dtype(given, align=aligned))
        case ["tuple", name, of]:
            fields = [decoded(each) for each in of]
            return types.BaseTuple.from_types(fields, _named(name) if name else None)
        case ["struct", name, fields]:
            return _named(name)([(field, decoded(each)) for field, each in fields])
        case ["kernel", name]:
            return _named(name)._numba_type_
        case _:
            raise ValueError(str(told))


def _name_of(kind: Any) -> str:  # noqa: ANN401  # a class or a function
    return f"{kind.__module__}:{kind.__qualname__}"


def _named(name: str) -> Any:  # noqa: ANN401  # a class or a kernel
    module, _, found = name.partition(":")
    return getattr(import_module(module), found)
