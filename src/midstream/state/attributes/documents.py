"""Attributes of items and users: what is known of each field, and from which time.

Events may come late or out of order, so a document is not what came last but, field by field, what is newest
by event time; of equal times the later in the log wins. ``PUT`` at T replaces every field that is not newer
than T, ``PATCH`` at T is a JSON merge patch of the top level (``null`` removes a field and leaves a mark with
its time, so that an older value cannot bring it back), ``DELETE`` at T voids everything that is not newer. A
change without a time of its own is one of now: it has log time, or that of the newest before it when a
client's clock ran ahead, so that it wins. What lies before the last ``PUT`` or ``DELETE`` (the floor) can
thus never matter again.

A document rests as one JSON text ``[floor, changed, is_deleted, {field: [time, value]}]`` with sorted keys
and each value as it was sent, so equal events give equal bytes.

Reference: P. Hoffman, J. Snell, JSON Merge Patch, RFC 7396, 2014.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Operation
from midstream.core.types import Index

DOCUMENT_BYTES_MAX = 16_384
"""Bytes of one document: 4 times what one event may bring, so fields may come from several. Vectors come on top."""
OVERHEAD_BYTES = 160
"""Memory beside each text: 33 of the bytes object, 16 of malloc, about 100 of the dictionary."""
_NEVER = -(2**62)
_NULL = b"null"
_JOINED_MAX = 4_096
"""Texts: 3 MB of them at 670 B."""


class _Document(NamedTuple):
    floor_ms: int
    changed_ms: int
    is_deleted: bool
    fields: dict[str, tuple[int, msgspec.Raw]]


_EMPTY = _Document(_NEVER, _NEVER, is_deleted=False, fields={})
_STORED = msgspec.json.Decoder(_Document)
_BODY = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODE = msgspec.json.Encoder(order="deterministic").encode


class Change(NamedTuple):
    """One event's worth of a document."""

    operation: int
    time_ms: int
    body: bytes


class Documents:
    """Documents by index, within a maximum of bytes; what does not fit is refused and counted."""

    def __init__(self, bytes_max: int, document_bytes_max: int = DOCUMENT_BYTES_MAX) -> None:
        """Start empty; ``bytes_max`` is of the memory of all, ``document_bytes_max`` of the text of one."""
        self.bytes_max = bytes_max
        self._document_bytes_max = document_bytes_max
        self._texts: dict[int, bytes] = {}
        self._bytes_used = 0
        self._deleted: set[int] = set()
        """Indices of the deleted ones. No state of its own: the texts say it."""
        self.refused_count = 0
        """Changes that were not made: no JSON object, a document too long, or no room. Part of the state."""

    def __len__(self) -> int:
        """Return the number of documents, deleted ones that are remembered included."""
        return len(self._texts)

    def __contains__(self, index: int) -> bool:
        """Say whether anything was ever said about this index since it was dropped."""
        return index in self._texts

    @property
    def bytes_used(self) -> int:
        """Memory of all documents, by the sum that the maximum limits."""
        return self._bytes_used

    def apply(self, index: int, operation: int, body: bytes, time_ms: int, *, is_timed: bool) -> bool:
        """Change a document; say whether it was changed.

        Args:
            index: Whose document.
            operation: ``Operation`` of the event.
            body: JSON object of fields; empty counts as ``{}``.
            time_ms: Event time.
            is_timed: The client sent that time; else it is log time, and the change wins over all before it.

        Returns:
            False when the event lies before the floor, or was refused and counted.
        """
        sent = _sent(body)
        if sent is None:
            self.refused_count += 1
            return False
        before = self._texts.get(index)
        document = _EMPTY if before is None else _STORED.decode(before)
        if not is_timed:
            time_ms = max(time_ms, document.floor_ms, document.changed_ms)
        if time_ms < document.floor_ms:
            return False
        return self._put(index, before, _ENCODE(_changed(document, operation, sent, time_ms)))

    def merge(self, into: int, other: int) -> bool:
        """Fill what one document does not say with what another says; say whether anything changed.

        What the first says wins, a removed field included, whatever its time. A field of the other is taken when it
        is newer than the first's floor: a ``PUT`` or ``DELETE`` has said of it that it is not there. When that does
        not fit, nothing is taken, and counted.
        """
        text = self._texts.get(other)
        if text is None or (found := _STORED.decode(text)).is_deleted:
            return False
        before = self._texts.get(into)
        document = _EMPTY if before is None else _STORED.decode(before)
        new = {
            name: field
            for name, field in found.fields.items()
            if name not in document.fields and field[0] > document.floor_ms
        }
        if before is None:
            after = text
        elif new:
            changed_ms = max(document.changed_ms, found.changed_ms)
            after = _ENCODE(_Document(document.floor_ms, changed_ms, is_deleted=False, fields=document.fields | new))
        else:
            return False
        return self._put(into, before, after)

    def _put(self, index: int, before: bytes | None, after: bytes) -> bool:
        """Keep a document if there is room for it, else count it; say which."""
        grown = len(after) - (len(before) if before is not None else -OVERHEAD_BYTES)
        if len(after) > self._document_bytes_max or self._bytes_used + grown > self.bytes_max:
            self.refused_count += 1
            return False
        self._bytes_used += grown
        self._texts[index] = after
        if _says_deleted(after):
            self._deleted.add(index)
        else:
            self._deleted.discard(index)
        return True

    def text(self, index: int) -> bytes:
        """Return all that is known of an index as one text, empty = nothing: equal texts say the same."""
        return self._texts.get(index, b"")

    def get(self, index: int) -> dict[str, object]:
        """Return the fields that are known, by name; empty when there are none or it is deleted."""
        text = self._texts.get(index)
        if text is None:
            return {}
        fields = _STORED.decode(text).fields
        return {name: _value(raw) for name, (_, raw) in fields.items() if bytes(raw) != _NULL}

    def value(self, index: int, name: str) -> object:
        """Return one field, None when it is not known. Cost: reading the document's outline, about 1 µs."""
        text = self._texts.get(index)
        field = None if text is None else _STORED.decode(text).fields.get(name)
        return None if field is None else _value(field[1])

    def is_deleted(self, index: int) -> bool:
        """Say whether the newest that was said is that it is gone."""
        return index in self._deleted

    @property
    def deleted_count(self) -> int:
        """Number of documents that are deleted."""
        return len(self._deleted)

    def deleted(self) -> Index:
        """Return the indices of the deleted ones, ascending."""
        return np.sort(np.fromiter(self._deleted, dtype=np.int32, count=len(self._deleted)))

    def changes(self, index: int) -> list[Change]:
        """Return changes, oldest first, that make this document out of nothing.

        There are at most as many as there were events about the index.
        """
        text = self._texts.get(index)
        return [] if text is None else _changes(_STORED.decode(text))

    def indices(self) -> list[int]:
        """Return the indices that have a document, deleted ones that are remembered included, ascending."""
        return sorted(self._texts)

    def drop(self, index: int) -> None:
        """Forget everything about an index."""
        self._deleted.discard(index)
        text = self._texts.pop(index, None)
        if text is not None:
            self._bytes_used -= len(text) + OVERHEAD_BYTES

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return all documents in index order: ``index`` and ``length`` (n,), their ``text`` end to end."""
        order = sorted(self._texts)
        texts = [self._texts[index] for index in order]
        return {
            "index": np.array(order, dtype=np.int32),
            "length": np.array([len(text) for text in texts], dtype=np.int32),
            "text": _joined(texts),
            "refused": np.array([self.refused_count], dtype=np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the documents by what ``arrays`` returned."""
        text = np.ascontiguousarray(arrays["text"]).data  # copied one by one: at once it stops every thread
        stops = np.cumsum(arrays["length"], dtype=np.int64).tolist()
        starts = [0, *stops[:-1]]
        order: list[int] = arrays["index"].tolist()
        self._texts = {index: bytes(text[start:stop]) for index, start, stop in zip(order, starts, stops, strict=False)}
        self._deleted = {index for index, each in self._texts.items() if _says_deleted(each)}
        self._bytes_used = len(text) + OVERHEAD_BYTES * len(self._texts)
        self.refused_count = int(arrays["refused"].tolist()[0])


def _joined(texts: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return texts end to end, joined some thousand at a time: all at once, 128 MiB stop every thread for 0.1 s."""
    parts = [b"".join(texts[start : start + _JOINED_MAX]) for start in range(0, len(texts), _JOINED_MAX)]
    return np.concatenate([np.frombuffer(part, dtype=np.uint8) for part in parts] or [np.empty(0, dtype=np.uint8)])


def _says_deleted(text: bytes) -> bool:
    """Return whether a document as it rests is deleted, without reading its fields."""
    return text.split(b",", 3)[2] == b"true"


def _sent(body: bytes) -> dict[str, msgspec.Raw] | None:
    """Return the fields of a body, or None when it is not a JSON object whose every value can be read again."""
    if not body:
        return {}
    try:
        msgspec.json.decode(body)  # Values stay raw below, which would let through a number such as 1e400.
        return _BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _value(raw: msgspec.Raw) -> object:
    return msgspec.json.decode(raw)


def _changed(document: _Document, operation: int, sent: Mapping[str, msgspec.Raw], time_ms: int) -> _Document:
    """Return the document after one event at or above its floor."""
    if operation == Operation.DELETE:
        newer = {name: field for name, field in document.fields.items() if field[0] > time_ms}
        is_deleted = document.is_deleted or time_ms >= document.changed_ms
        return _Document(time_ms, document.changed_ms, is_deleted, newer)
    replaces = operation == Operation.PUT
    fields = dict(document.fields)
    if replaces:
        fields = {name: field for name, field in fields.items() if field[0] > time_ms}
    for name, raw in sent.items():
        if replaces and bytes(raw) == _NULL:
            continue
        if name not in fields or time_ms >= fields[name][0]:
            fields[name] = (time_ms, raw)
    floor = time_ms if replaces else document.floor_ms
    return _Document(floor, max(document.changed_ms, time_ms), is_deleted=False, fields=fields)


def _changes(document: _Document) -> list[Change]:
    fields_at: dict[int, dict[str, msgspec.Raw]] = {}
    for name, (time_ms, raw) in document.fields.items():
        fields_at.setdefault(time_ms, {})[name] = raw
    floor, changed = document.floor_ms, document.changed_ms
    found: list[Change] = []
    if document.is_deleted:
        # What nobody has heard of cannot be deleted; an item known from interactions alone has no change before it.
        known_ms = changed if changed > _NEVER else floor
        return [Change(Operation.PATCH, known_ms, b"{}"), Change(Operation.DELETE, floor, b"")]
    if floor > _NEVER:
        at_floor = fields_at.pop(floor, {})
        said = {name: raw for name, raw in at_floor.items() if bytes(raw) != _NULL}
        found.append(Change(Operation.PUT, floor, _ENCODE(said)))
        if removed := {name: raw for name, raw in at_floor.items() if name not in said}:
            fields_at[floor] = removed  # a PUT does not remember what it removes
    found.extend(Change(Operation.PATCH, time_ms, _ENCODE(fields_at[time_ms])) for time_ms in sorted(fields_at))
    if changed > max((floor, *fields_at)):
        found.append(Change(Operation.PATCH, changed, b"{}"))
    return found
