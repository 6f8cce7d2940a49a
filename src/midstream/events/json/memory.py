"""Memory at an address, for the kernels that parse: bytes, words of eight, and numbers of a scratch.

An array that is passed from one compiled function to another is counted as used and unused again, two writes that all
cores see: a kernel that asks a small function for each text of an event did little else. An address is a number.
Whoever calls a kernel holds the arrays until it returns, an array that is made in a kernel is none of them, and there
are as many bytes behind their ends as a word may read or write too many (``SLACK``).

Reference: H. S. Warren, Hacker's Delight, 2nd edition, 2013, chapter 6 (the first byte of a kind in a word).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from midstream.events.kernel import intrinsic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SLACK: Final = 8
"""Bytes behind the last one that is meant."""
_BYTE, _WORD = 8, 64
_UNSIGNED, _SIGNED, _FLOAT = "uint64", "int64", "float64"


def _llvm_ir() -> Any:  # noqa: ANN401  # llvmlite's own
    from llvmlite import ir  # type: ignore[import-untyped]  # the package brings no types

    return ir


def _read(bits: int, kind: str) -> Any:  # noqa: ANN401  # numba's own
    """Return what makes a read of so many bits, as a number of a type."""

    def made(_typing: Any, _address: Any) -> Any:  # noqa: ANN401
        from numba import types

        ir = _llvm_ir()
        found = getattr(types, kind)
        signature = found(types.int64)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
            result = context.get_value_type(signature.return_type)
            memory = ir.IntType(bits) if bits < _WORD else result
            loaded = builder.load(builder.inttoptr(arguments[0], memory.as_pointer()))
            loaded.align = 1
            return builder.zext(loaded, result) if bits < _WORD else loaded

        return signature, generate

    return made


def _write(bits: int, kind: str) -> Any:  # noqa: ANN401
    """Return what makes a write of so many bits."""

    def made(_typing: Any, _address: Any, _value: Any) -> Any:  # noqa: ANN401
        from numba import types

        ir = _llvm_ir()
        signature = types.void(types.int64, getattr(types, kind))

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
            place, value = arguments
            if bits < _WORD:
                value = builder.trunc(value, ir.IntType(bits))
            builder.store(value, builder.inttoptr(place, value.type.as_pointer())).align = 1
            return context.get_dummy_value()

        return signature, generate

    return made


def _first_byte(_typing: Any, _marks: Any) -> Any:  # noqa: ANN401
    from numba import types

    signature = types.int64(types.uint64)

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        zeros = builder.cttz(arguments[0], arguments[0].type.__class__(1)(0))
        return builder.lshr(zeros, zeros.type(3))

    return signature, generate


def _bytes_of(_typing: Any, _address: Any, _length: Any) -> Any:  # noqa: ANN401
    from numba import types

    signature = types.Array(types.uint8, 1, "C")(types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        arrays: Any = import_module("numba.np.arrayobj")
        place, length = arguments
        made = context.make_array(signature.return_type)(context, builder)
        one = length.type(1)
        data = builder.inttoptr(place, made.data.type)
        arrays.populate_array(made, data=data, shape=[length], strides=[one], itemsize=one, meminfo=None)
        return made._getvalue()  # noqa: SLF001  # as numba's own code has it

    return signature, generate


if TYPE_CHECKING:

    def byte_at(address: int) -> int:
        """Return the byte at an address."""
        ...

    def word_at(address: int) -> np.uint64:
        """Return the eight bytes from an address on, the first one lowest."""
        ...

    def int_at(address: int) -> int:
        """Return the int64 at an address."""
        ...

    def float_at(address: int) -> float:
        """Return the float64 at an address."""
        ...

    def put_byte(address: int, value: int) -> None:
        """Write a byte."""

    def put_word(address: int, word: np.uint64) -> None:
        """Write eight bytes, the lowest one first."""

    def put_int(address: int, value: int) -> None:
        """Write an int64."""

    def put_float(address: int, value: float) -> None:
        """Write a float64."""

    def first_byte(marks: np.uint64) -> int:
        """Return the number of the lowest byte of a word with a bit set, the word not being 0."""
        ...

    def bytes_of(address: int, length: int) -> NDArray[np.uint8]:
        """Return so many bytes from an address on as an array, which holds nothing alive."""
        ...
else:
    byte_at = intrinsic(_read(_BYTE, _SIGNED))
    word_at = intrinsic(_read(_WORD, _UNSIGNED))
    int_at = intrinsic(_read(_WORD, _SIGNED))
    float_at = intrinsic(_read(_WORD, _FLOAT))
    put_byte = intrinsic(_write(_BYTE, _SIGNED))
    put_word = intrinsic(_write(_WORD, _UNSIGNED))
    put_int = intrinsic(_write(_WORD, _SIGNED))
    put_float = intrinsic(_write(_WORD, _FLOAT))
    first_byte = intrinsic(_first_byte)
    bytes_of = intrinsic(_bytes_of)
