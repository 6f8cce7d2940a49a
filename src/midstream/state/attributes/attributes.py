"""Declared item attributes as columns: what filters, rules and features read of many items at once.

A value that has not the declared kind counts as not known, and so does what is missing: NaN in a number and in a
vector, -1 in the others. The values of a category or tags attribute get codes by first appearance in the log. Codes are
never taken back, so what a code means never changes; at ``attribute_values_max`` new values count as not known, and are
counted.
"""

import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from midstream.core.errors import NotFound
from midstream.core.types import Index
from midstream.events.wire import AttributeKind, vector_length
from midstream.state.attributes.vectors import Vectors
from midstream.state.settings import StateLimits

VALUE_BYTES_MAX = 256
"""Bytes of a category or tag; a longer one counts as not known. So 65,536 values have 16 MiB of text at most."""

Json = object
"""What a JSON document may hold."""


class ValueCodes:
    """The values of one category or tags attribute, numbered from 0 by first appearance."""

    def __init__(self, values_max: int) -> None:
        self._codes: dict[str, int] = {}
        self._texts: list[str] = []
        self._values_max = values_max
        self.hashes = np.zeros(values_max, dtype=np.uint64)
        """``value_hash`` of each value by its code. No state of its own: it follows from the texts."""

    def __len__(self) -> int:
        """Return how many values have a code."""
        return len(self._texts)

    def find(self, text: str) -> int:
        """Return the code of a value, -1 = never seen."""
        return self._codes.get(text, -1)

    def text(self, code: int) -> str | None:
        """Return the value of a code, None = no such code."""
        return self._texts[code] if 0 <= code < len(self._texts) else None

    def admit(self, text: str) -> int:
        """Return the code of a value, a new one if need be, -1 = too long or no codes left."""
        code = self._codes.get(text, -1)
        if (
            code < 0
            and len(self._texts) < self._values_max
            and len(text.encode("utf-8", "surrogatepass")) <= VALUE_BYTES_MAX
        ):
            code = self._codes[text] = len(self._texts)
            self._texts.append(text)
            self.hashes[code] = value_hash(text)
        return code

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Return the texts in the order of their codes, end to end as UTF-8, and the bytes of each."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in self._texts]
        lengths = np.array([len(each) for each in encoded], dtype=np.int32)
        return np.frombuffer(b"".join(encoded), dtype=np.uint8), lengths

    def restore(self, texts: NDArray[np.uint8], lengths: NDArray[np.int32]) -> None:
        """Replace the codes by what ``arrays`` returned."""
        whole = texts.tobytes()
        stops = np.cumsum(lengths, dtype=np.int64)
        starts = stops - lengths
        self._texts = [
            whole[start:stop].decode("utf-8", "surrogatepass")
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        ]
        self._codes = {text: code for code, text in enumerate(self._texts)}
        self.hashes[: len(self._texts)] = [value_hash(text) for text in self._texts]


class Attributes:
    """One column for each declared attribute, by item index, reserved at ``items_max``."""

    def __init__(self, kinds: Mapping[str, AttributeKind], limits: StateLimits) -> None:
        self._kinds = dict(sorted(kinds.items()))
        lengths = {name: vector_length(kind) for name, kind in self._kinds.items()}
        self._vectors = {name: Vectors(limits.items_max, length) for name, length in lengths.items() if length}
        self._columns = {
            name: _empty_column(kind, limits) for name, kind in self._kinds.items() if name not in self._vectors
        }
        self._codes = {
            name: ValueCodes(limits.attribute_values_max)
            for name, kind in self._kinds.items()
            if kind in {"category", "tags"}
        }
        self._refused_count = 0

    @property
    def refused_count(self) -> int:
        """Values that got no code because they were too long or no code was left, each time they came."""
        return self._refused_count

    @property
    def declared(self) -> tuple[tuple[str, AttributeKind], ...]:
        """Name and kind of each attribute, by name."""
        return tuple(self._kinds.items())

    def kind(self, name: str) -> AttributeKind:
        """Return the declared kind of an attribute, or raise ``NotFound``."""
        if name not in self._kinds:
            raise NotFound(f"{name!r} is not a declared item attribute; these are: {', '.join(self._kinds) or 'none'}")
        return self._kinds[name]

    def column(self, name: str, kind: AttributeKind) -> NDArray[np.generic]:
        """Return the column of an attribute of that kind, read-only, or raise ``NotFound``."""
        if self.kind(name) != kind:
            raise NotFound(f"item attribute {name!r} is a {self.kind(name)}, not a {kind}")
        column = self._columns[name].view()
        column.flags.writeable = False
        return column

    def vectors(self, name: str) -> Vectors:
        """Return the vectors of an attribute, or raise ``NotFound``."""
        kind = self.kind(name)
        if name not in self._vectors:
            raise NotFound(f"item attribute {name!r} is a {kind}, not a vector")
        return self._vectors[name]

    def codes(self, name: str) -> ValueCodes:
        """Return the values of a category or tags attribute, or raise ``NotFound``."""
        kind = self.kind(name)
        if name not in self._codes:
            raise NotFound(f"item attribute {name!r} is a {kind} and has no value codes")
        return self._codes[name]

    def set(self, index: int, document: Mapping[str, Json]) -> None:
        """Set every attribute of an item from its document; what is missing becomes not known."""
        for name, column in self._columns.items():
            column[index] = self._read(name, self._kinds[name], document.get(name))
        for name, vectors in self._vectors.items():
            vectors.set(index, document.get(name))

    def _read(self, name: str, kind: AttributeKind, value: Json) -> float | int | Index:
        """Return what the column holds for a value."""
        if kind == "number":
            return number_of(value)
        if kind == "boolean":
            return int(value) if isinstance(value, bool) else -1
        if kind == "category":
            text = text_of(value)
            return -1 if text is None else self._code(name, text)
        return self._tags(name, value)

    def _code(self, name: str, text: str) -> int:
        """Return the code of a value, and count it if it gets none."""
        code = self._codes[name].admit(text)
        self._refused_count += code < 0
        return code

    def _tags(self, name: str, value: Json) -> Index:
        """Return the codes of the first distinct tags, -1-padded, in the order they were sent."""
        sent = cast("Sequence[Json]", value) if isinstance(value, list) else [value]
        texts = [text for text in map(text_of, sent) if text is not None]
        width = self._columns[name].shape[1]
        row = np.full(width, -1, dtype=np.int32)
        found = 0
        for text in dict.fromkeys(texts):
            if found == width:
                break
            code = self._code(name, text)
            if code >= 0:
                row[found] = code
                found += 1
        return row

    def arrays(self, count: int) -> dict[str, NDArray[np.generic]]:
        """Return the columns of the first ``count`` items, and the values behind the codes."""
        found: dict[str, NDArray[np.generic]] = {"refused_count": np.array([self._refused_count], dtype=np.int64)}
        for name, column in self._columns.items():
            found[f"{name}.column"] = column[:count].copy()
        for name, vectors in self._vectors.items():
            found[f"{name}.items"], found[f"{name}.vectors"] = vectors.arrays(count)
        for name, codes in self._codes.items():
            found[f"{name}.texts"], found[f"{name}.text_lengths"] = codes.arrays()
        return found

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the attributes by what ``arrays`` returned."""
        self._refused_count = int(cast("NDArray[np.int64]", arrays["refused_count"])[0])
        for name, column in self._columns.items():
            kept = arrays[f"{name}.column"]
            column[: len(kept)] = kept
            column[len(kept) :] = np.nan if self._kinds[name] == "number" else -1
        for name, vectors in self._vectors.items():
            items, values = arrays[f"{name}.items"], arrays[f"{name}.vectors"]
            vectors.restore(items.astype(np.uint32), values.astype(np.float32))
        for name, codes in self._codes.items():
            texts, lengths = arrays[f"{name}.texts"], arrays[f"{name}.text_lengths"]
            codes.restore(texts.astype(np.uint8), lengths.astype(np.int32))

    def byte_count(self) -> int:
        """Return the bytes reserved for columns and for the hashes of values."""
        columns = sum(column.nbytes for column in self._columns.values())
        columns += sum(vectors.byte_count() for vectors in self._vectors.values())
        return columns + sum(codes.hashes.nbytes for codes in self._codes.values())


def value_hash(text: str) -> int:
    """Return the 64-bit hash of a value: XXH64 of its UTF-8."""
    return xxhash.xxh64_intdigest(text.encode("utf-8", "surrogatepass"))


def number_of(value: Json) -> float:
    """Return a JSON number, NaN for all else and for what float64 cannot hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    number = float(value) if abs(value) < 1e308 else math.nan  # noqa: PLR2004  # float64 ends at 1.8e308
    return number if math.isfinite(number) else math.nan


def text_of(value: Json) -> str | None:
    """Return the text of a category or tag: a string as it is, a number or truth value as in JSON, None for all else.

    A number that is whole is written without a fraction, so 7 and 7.0, which JSON takes for equal, are one value.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and math.isfinite(number_of(value)):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))  # noqa: PLR2004
    return None


def _empty_column(
    kind: AttributeKind, limits: StateLimits
) -> NDArray[np.float64] | NDArray[np.int32] | NDArray[np.int8]:
    """Return a column of another kind than a vector, in which no item has a value."""
    if kind == "number":
        return np.full(limits.items_max, np.nan, dtype=np.float64)
    if kind == "boolean":
        return np.full(limits.items_max, -1, dtype=np.int8)
    if kind == "category":
        return np.full(limits.items_max, -1, dtype=np.int32)
    return np.full((limits.items_max, limits.item_tags_max), -1, dtype=np.int32)
