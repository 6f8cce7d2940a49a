"""Placements set through the API: a fold of the control events that set one or gave it back to the file.

A row is one placement: its newest versions, oldest first, each with its content, who said it and why, and where in the
log. The table reads no content: the content of a placement is checked where the event is appended. Three bounds
keep it small, and are applied at each event, so that any batches give the same rows: versions of a placement, number
of placements, bytes of all texts. What makes room goes by its log position, the oldest first, and is never what a
placement says now; when nothing may go, the event is passed by and counted.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep
from midstream.events.schema import texts_of
from midstream.state.control.control_change import change_of

CHANGE = "placement"
"""What the body of a control event says that this table folds."""
PLACEMENTS_MAX = 1_000
"""As many as a file may have."""
VERSIONS_MAX = 20
"""Kept of a placement, the one of now among them: a change a day for three weeks."""
CONTENT_BYTES_MAX = 65_536
"""Of one version. As text within the body of an event it takes twice as much at most, half of what an event may."""
TEXT_BYTES_MAX = 1_024
"""Of a name, an author or a note."""
BYTES_MAX = 16 << 20
"""Of the texts of all versions: 1,000 placements with 10 versions of 1.6 kB."""
VERSION_BYTES = 700
"""Of a version beside its content, about: nine Python values and their tuple."""
TABLE_BYTES_MAX = BYTES_MAX + VERSION_BYTES * VERSIONS_MAX * PLACEMENTS_MAX
_BODY = 6


class PlacementVersion(NamedTuple):
    """One version of a placement."""

    name: str
    version: int
    """Counts up from 1; of one that was gone altogether it begins again."""
    content: str
    """The placement as JSON; empty = given back to the file."""
    sha256: str
    """64 hex digits of the content's hash."""
    author: str
    note: str
    position: int
    """Log position before the event that said so."""
    log_time_ms: int

    @property
    def text_bytes(self) -> int:
        """Bytes of what was said, in UTF-8."""
        return sum(len(each.encode()) for each in (self.name, self.content, self.author, self.note))


class PlacementControl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a control event that sets a placement or gives it back to the file."""

    change: str
    name: str
    version: int
    """One above the version that it was written after."""
    content: str
    sha256: str
    author: str
    note: str


class Placements:
    """Versions of placements."""

    def __init__(self) -> None:
        """Start with none."""
        self._rows: dict[str, tuple[PlacementVersion, ...]] = {}
        self._bytes = 0
        self.refused_count = 0
        """Control events about placements that cannot be read, came too late, or found no place."""

    def __len__(self) -> int:
        """Return the number of placements."""
        return len(self._rows)

    @property
    def bytes_now(self) -> int:
        """Memory of all rows, about."""
        return self._bytes + VERSION_BYTES * sum(len(each) for each in self._rows.values())

    @property
    def bytes_max(self) -> int:
        """Memory of as many as may be, about."""
        return TABLE_BYTES_MAX

    @property
    def current(self) -> Sequence[PlacementVersion]:
        """What is said now of each placement, by name; content is empty where that is left to the file."""
        return [self._rows[name][-1] for name in sorted(self._rows)]

    @property
    def rows(self) -> Sequence[PlacementVersion]:
        """Every version that is kept, by name and version."""
        return [each for name in sorted(self._rows) for each in self._rows[name]]

    def versions(self, name: str) -> Sequence[PlacementVersion]:
        """Return what was said of a placement, oldest first; empty = nothing ever, or it is forgotten."""
        return self._rows.get(name, ())

    def takes(self, body: PlacementControl) -> bool:
        """Return whether an event with this body would be folded: it says the next version, and finds a place."""
        before = self.versions(body.name)
        is_next = not before or body.version > before[-1].version
        return is_next and self._leaving(_version_of(body, 0, 0)) is not None

    def apply(self, step: FoldStep) -> None:
        """Fold a step. Nothing is about placements in nearly every one."""
        batch = step.events
        for index in step.controls():
            told = texts_of(batch.source, index)[_BODY]
            if change_of(told) != CHANGE:
                continue
            body = placement_of(told)
            if body is None or not self.takes(body):
                self.refused_count += 1
                continue
            self._add(_version_of(body, int(batch.first) + index, int(batch.log_time_ms[index])))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the rows as JSON, by name and version, and the counter."""
        return {
            "rows": np.frombuffer(msgspec.json.encode(self.rows), dtype=np.uint8),
            "refused": np.array([self.refused_count], dtype=np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned."""
        rows = msgspec.json.decode(arrays["rows"].tobytes(), type=list[PlacementVersion])
        found: dict[str, list[PlacementVersion]] = {}
        for row in rows:
            found.setdefault(row.name, []).append(row)
        self._rows = {name: tuple(versions) for name, versions in found.items()}
        self._bytes = sum(row.text_bytes for row in rows)
        self.refused_count = int(cast("list[int]", arrays["refused"].tolist())[0])

    def _add(self, added: PlacementVersion) -> None:
        for gone in self._leaving(added) or ():
            kept = tuple(each for each in self._rows[gone.name] if each.version != gone.version)
            self._bytes -= gone.text_bytes
            if kept:
                self._rows[gone.name] = kept
            else:
                del self._rows[gone.name]
        self._rows[added.name] = (*self._rows.get(added.name, ()), added)
        self._bytes += added.text_bytes

    def _leaving(self, added: PlacementVersion) -> Sequence[PlacementVersion] | None:
        """Return the versions that go when one is added; None = there is no place even then."""
        before = self.versions(added.name)
        gone = list(before[: max(0, len(before) + 1 - VERSIONS_MAX)])
        if not before and len(self._rows) >= PLACEMENTS_MAX:
            removed = [each[-1] for each in self._rows.values() if not each[-1].content]
            if not removed:
                return None
            gone.extend(self._rows[min(removed, key=_position).name])
        room = BYTES_MAX - self._bytes - added.text_bytes + sum(each.text_bytes for each in gone)
        if room < 0:
            named = {each.name for each in gone if each.name != added.name}
            for each in sorted(self._old(added.name, named), key=_position):
                if room >= 0:
                    break
                if each not in gone:
                    gone.append(each)
                    room += each.text_bytes
        return gone if room >= 0 else None

    def _old(self, changed: str, named: set[str]) -> list[PlacementVersion]:
        """Return the versions that are not what a placement says now; all of the one that is being changed."""
        return [
            each
            for name, versions in self._rows.items()
            if name not in named
            for each in (versions if name == changed else versions[:-1])
        ]


def _position(version: PlacementVersion) -> tuple[int, str, int]:
    return version.position, version.name, version.version


def _version_of(body: PlacementControl, position: int, log_time_ms: int) -> PlacementVersion:
    return PlacementVersion(
        body.name, body.version, body.content, body.sha256, body.author, body.note, position, log_time_ms
    )


def placement_of(body: bytes) -> PlacementControl | None:
    """Return what the body of a control event says of a placement; None = something else, or more than may be."""
    try:
        found = msgspec.json.decode(body, type=PlacementControl)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    is_short = all(len(each.encode()) <= TEXT_BYTES_MAX for each in (found.name, found.author, found.note))
    is_right = found.change == CHANGE and found.name and found.version > 0 and found.sha256 == hash_of(found.content)
    return found if is_right and is_short and len(found.content.encode()) <= CONTENT_BYTES_MAX else None


def placement_body(name: str, version: int, content: str, author: str, note: str) -> PlacementControl:
    """Return the body of a control event; an empty content gives the placement back to the file."""
    return PlacementControl(CHANGE, name, version, content, hash_of(content), author, note)


def encode_placement(body: PlacementControl) -> bytes:
    """Return a body as it stands in the log."""
    return msgspec.json.encode(body)


def hash_of(content: str) -> str:
    """Return 64 hex digits of the SHA-256 of a content."""
    return sha256(content.encode()).hexdigest()
