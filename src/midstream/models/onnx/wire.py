"""Protocol buffers wire format: the fields of a message, read in place and written, without generated classes.

A message is read as every other reader of the format reads it, or not at all. Readers merge a message that comes twice,
leave out a field that they do not know or that has another wire type, and cut numbers to the width of their field:
where two of them could differ, the file is refused.

Reference: https://protobuf.dev/programming-guides/encoding/ (varints, tags, length-delimited fields).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from midstream.core.errors import ArtifactInvalid, Fault, Invalid

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types; groups (3, 4) are in no file of ONNX."""
_VARINT_BYTES_MAX = 10
_SIZES = {FIXED64: 8, FIXED32: 4}
Field = tuple[int, int, int | memoryview]
"""Number, wire type, and the value: a number of a varint, else its bytes."""


FIELDS_MAX = 2_000_000
"""Fields of a file: 1,700 trees of 64 leaves, which take 60 ms for 500 rows, or 4 s of reading."""
MESSAGE_FIELDS = 10
"""A message within another takes the time of so many fields."""
_TAG_MAX = 1 << 32


class Budget:
    """What may still be read of a file, in fields."""

    __slots__ = ("left",)

    def __init__(self, fields_max: int = FIELDS_MAX) -> None:
        """Begin with the maximum."""
        self.left = fields_max

    def spend(self, count: int) -> None:
        """Take some fields.

        Raises:
            Invalid: There are none left.
        """
        self.left -= count
        if self.left < 0:
            raise Invalid((Fault("graph", f"It has more than {FIELDS_MAX:,} fields.", "Fewer trees.", _PAGE),))


_PAGE = "/docs/models.md"


@dataclass(frozen=True, slots=True)
class MessageForm:
    """What a message may have: the wire types of each field, by its number."""

    name: str
    """As errors call it."""
    one: Mapping[int, tuple[int, ...]]
    """Fields that come once."""
    many: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    """Fields that may come again."""
    choice: frozenset[int] = frozenset()
    """Those of ``one`` of which one alone may come."""


def read(content: memoryview, form: MessageForm, budget: Budget) -> Iterator[Field]:
    """Yield the fields of a message of a form. Cost: 1 µs each.

    Raises:
        ArtifactInvalid: It is no message, or a field is unknown, has another wire type, or comes twice.
        Invalid: The budget is spent.
    """
    budget.spend(MESSAGE_FIELDS)
    seen = set[int]()
    many = form.many
    for number, kind, value in fields(content):
        budget.left -= 1
        if budget.left < 0:
            budget.spend(0)
        right = many.get(number)
        if right is None:
            right = form.one.get(number)
            if right is None:
                raise ArtifactInvalid(f"field {number} came in {form.name}, which none that is known has")
            place = -1 if number in form.choice else number
            if place in seen:
                raise ArtifactInvalid(f"field {number} came twice in {form.name}: readers make different things of it")
            seen.add(place)
        if kind not in right:
            raise ArtifactInvalid(f"field {number} of {form.name} came with wire type {kind}, and {right} is right")
        yield number, kind, value


def fields(content: memoryview) -> Iterator[Field]:
    """Yield the fields of a message in their order. Cost: 1 µs each.

    Raises:
        ArtifactInvalid: It is no message, or it is cut short.
    """
    place, end = 0, len(content)
    while place < end:
        tag, place = _varint(content, place)
        number, kind = tag >> 3, tag & 7
        if tag >= _TAG_MAX or not number:
            raise ArtifactInvalid(f"a field of number {number} came: this is no message of protocol buffers")
        if kind == VARINT:
            value, place = _varint(content, place)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, place = _varint(content, place)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise ArtifactInvalid(f"a field of wire type {kind} came where a message of protocol buffers is right")
        if size > end - place:
            raise ArtifactInvalid(f"a field of {size} bytes came where {end - place} are left: the file is cut short")
        yield number, kind, content[place : place + size]
        place += size


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    """Return a number of at most 64 bits in its shortest form, and the place behind it."""
    value = 0
    for at in range(min(_VARINT_BYTES_MAX, len(content) - place)):
        byte = content[place + at]
        value |= (byte & 0x7F) << (7 * at)
        if byte < 0x80:
            if value >> 64 or (at and not byte):
                raise ArtifactInvalid("a number of more than 64 bits, or longer than it has to be, came")
            return value, place + at + 1
    raise ArtifactInvalid("a number without an end came: the file is cut short, or is no message of protocol buffers")


def signed(value: int) -> int:
    """Return a number as int64, as protocol buffers write one below 0."""
    return value - (1 << 64) if value >> 63 else value


def numbers(kind: int, value: int | memoryview) -> Iterator[int]:
    """Yield the numbers of a repeated int64 field, packed or one by one."""
    if isinstance(value, int):
        yield signed(value)
        return
    if kind != BYTES:
        raise ArtifactInvalid(f"a field of wire type {kind} came where whole numbers are right")
    place = 0
    while place < len(value):
        found, place = _varint(value, place)
        yield signed(found)


def bytes_of(value: int | memoryview) -> memoryview:
    """Return the bytes of a field.

    Raises:
        ArtifactInvalid: It is a number.
    """
    if isinstance(value, int):
        raise ArtifactInvalid("a number came where bytes of a message of protocol buffers are right")
    return value


def number_of(value: int | memoryview) -> int:
    """Return the number of a field.

    Raises:
        ArtifactInvalid: It is bytes.
    """
    if isinstance(value, int):
        return signed(value)
    raise ArtifactInvalid("bytes came where a number of a message of protocol buffers is right")


def number32_of(value: int | memoryview) -> int:
    """Return the number of a field of 32 bits, to which other readers cut what comes.

    Raises:
        ArtifactInvalid: It has more of them, or is bytes.
    """
    found = number_of(value)
    if not -(1 << 31) <= found < 1 << 31:
        raise ArtifactInvalid(f"{found} came where a number of 32 bits is right")
    return found


def text_of(value: int | memoryview) -> str:
    """Return the text of a field.

    Raises:
        ArtifactInvalid: It is none.
    """
    try:
        return bytes_of(value).tobytes().decode()
    except UnicodeDecodeError as error:
        raise ArtifactInvalid("a name of the file is no UTF-8") from error


def written(parts: Iterable[Field]) -> bytes:
    """Return a message of some fields."""
    found = bytearray()
    for number, kind, value in parts:
        found += _digits(number << 3 | kind)
        if isinstance(value, int):
            found += _digits(value & 0xFFFF_FFFF_FFFF_FFFF)
        elif kind == BYTES:
            found += _digits(len(value))
            found += value
        else:
            found += value
    return bytes(found)


def number_field(number: int, value: int) -> Field:
    """Return a field of a whole number."""
    return number, VARINT, value


def bytes_field(number: int, value: bytes | str) -> Field:
    """Return a field of bytes: a text, or a message."""
    return number, BYTES, memoryview(value.encode() if isinstance(value, str) else value)


def _digits(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
