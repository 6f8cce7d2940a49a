"""Messages of protocol buffers of model servers: fields written and read by their numbers, without generated classes.

A model server's answer may have fields that are not known here, so these are passed over, as every reader does.

Reference: https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from midstream.core.errors import ArtifactInvalid, Invalid
from midstream.integrations.model_servers.exchange import AnswerInvalid
from midstream.integrations.model_servers.tensors import Numbers
from midstream.models.onnx import wire
from midstream.models.onnx.wire import (
    BYTES,
    FIXED32,
    FIXED64,
    MESSAGE_FIELDS,
    VARINT,
    Budget,
    Field,
    bytes_field,
    number_field,
    written,
)

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "Budget", "Field", "bytes_field", "number_field", "written"]
FIELDS_MAX = 10_000
"""Of one answer with all messages in it: 1,500 numbers that are not packed, some times over. Each takes 1 to 2 µs."""
METADATA_FIELDS_MAX = 100_000
"""Of what a model says of itself, which a check alone asks for: 1,024 inputs."""
OUTPUTS_MAX = 64
DIMENSIONS_READ_MAX = 8
_VARINT_BYTES_MAX = 10


def read(content: bytes | memoryview, budget: Budget) -> Iterator[Field]:
    """Yield the fields of a message in their order.

    Args:
        content: The message, which may be in another.
        budget: Of the whole answer.

    Raises:
        AnswerInvalid: It is none, or the answer has too many.
    """
    try:
        budget.spend(MESSAGE_FIELDS)
        for each in wire.fields(memoryview(content)):
            budget.spend(1)
            yield each
    except Invalid as error:
        raise AnswerInvalid("an answer of too many fields came") from error
    except ArtifactInvalid as error:
        raise AnswerInvalid("what came is no message of the protocol") from error


def bytes_of(field: Field) -> memoryview:
    """Return the bytes of a field: a text, a message, packed numbers.

    Raises:
        AnswerInvalid: It is a number.
    """
    _, kind, value = field
    if kind != BYTES or isinstance(value, int):
        raise AnswerInvalid(f"field {field[0]} came as a number where bytes are right")
    return value


def text_of(field: Field) -> str:
    """Return the text of a field; what is no UTF-8 is replaced."""
    return bytes(bytes_of(field)).decode("utf-8", "replace")


def number_of(field: Field) -> int:
    """Return the whole number of a field.

    Raises:
        AnswerInvalid: It is another value.
    """
    value = field[2]
    if not isinstance(value, int):
        raise AnswerInvalid(f"field {field[0]} came as bytes where a number is right")
    return wire.signed(value)


def dimensions_of(field: Field) -> list[int]:
    """Return the whole numbers of a field of a shape, packed or one.

    Raises:
        AnswerInvalid: They are others, or too many.
    """
    number, kind, value = field
    if isinstance(value, memoryview) and len(value) > _VARINT_BYTES_MAX * DIMENSIONS_READ_MAX:
        raise AnswerInvalid(f"a shape of {len(value)} bytes came")
    try:
        return list(wire.numbers(kind, value))
    except ArtifactInvalid as error:
        raise AnswerInvalid(f"field {number} has no whole numbers") from error


def floats_of(found: Iterable[Field], kind: str) -> Numbers:
    """Return the floats of a repeated field, packed, one by one, or both in turn.

    Raises:
        AnswerInvalid: The bytes are no such floats.
    """
    size = np.dtype(kind).itemsize
    pieces = list[memoryview]()
    for number, _, value in found:
        if isinstance(value, int) or len(value) % size:
            raise AnswerInvalid(f"field {number} has no numbers of {size} bytes")
        pieces.append(value)
    return np.frombuffer(b"".join(pieces), dtype=kind)
