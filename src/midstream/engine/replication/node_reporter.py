"""Node reporter: writes this node's heartbeat to the board and compares the marks of all nodes.

The comparison runs on every node, so a state that differs is seen in the health of each.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np

from midstream.engine.engine import Engine
from midstream.engine.folder import DataFolder
from midstream.engine.listeners import Concern, Listener
from midstream.engine.log_readers import open_reader
from midstream.engine.replication.node_board import (
    MARKS_MAX,
    Heartbeat,
    Mark,
    NodeBoard,
    disagreements,
    heartbeats_of,
)
from midstream.engine.snapshots import snapshots

HEARTBEAT_S = 5.0
"""A node that is gone is seen within half a minute, and three nodes write 50,000 small messages a day."""
DIFFERS = "nodes_differ"
_ERASURE_COLUMNS = ("position", "user_hash", "is_pending")
_ERASED_BYTES = 8


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a heartbeat has beside the state: from the writer of the shared log and from the wiring."""

    node: str
    log: str
    """Public name of the log."""
    release: str
    since_ms: int
    url: Callable[[], str]
    """Address of the server; empty before it listens."""
    lag_ms: Callable[[], int | None]
    unreachable_since_ms: Callable[[], int | None]
    counts_from: Callable[[], int]


class NodeReporter:
    """Background service of one node."""

    def __init__(self, engine: Engine, data: DataFolder, board: NodeBoard, facts: NodeFacts) -> None:
        """Report the state of ``engine``, whose snapshots are in ``data``."""
        self._engine = engine
        self._data = data
        self._board = board
        self._facts = facts
        self._difference = ""
        self._service = engine.supervise("nodes", self.report, HEARTBEAT_S, first_s=0.5)
        self._service.back_off_s_max = HEARTBEAT_S  # a broker that is back is told by the next heartbeat
        engine.listeners.add(Listener(name="nodes", concern=lambda: Concern(DIFFERS, self._difference)))

    def start(self) -> None:
        """Begin to report while serving."""
        self._service.start()

    async def stop(self) -> None:
        """Report no more; the last heartbeat gets old."""
        await self._service.stop()
        await asyncio.to_thread(self._board.close)

    async def report(self) -> None:
        """Write one heartbeat, read those of all nodes and compare their marks.

        Raises:
            TopicUnavailable: The board does not answer now.
        """
        fold, facts = self._engine.fold, self._facts
        version, position = fold.settings.version(), int(fold.log_position)
        marks = await asyncio.to_thread(_marks, self._data, version)
        counts_from = await asyncio.to_thread(facts.counts_from)
        said = Heartbeat(
            node=facts.node,
            url=facts.url(),
            log=facts.log,
            log_position=position,
            fold_version=version,
            lag_ms=facts.lag_ms(),
            unreachable_since_ms=facts.unreachable_since_ms(),
            since_ms=facts.since_ms,
            said_ms=self._engine.clock(),
            counts_from=counts_from,
            marks=marks,
            release=facts.release,
        )
        messages = await asyncio.to_thread(self._exchange, msgspec.json.encode(said))
        found = disagreements(heartbeats_of(messages, facts.log))
        self._difference = "; ".join(str(each) for each in found)

    def _exchange(self, message: bytes) -> dict[str, bytes]:
        self._board.write(self._facts.node, message)
        return dict(self._board.read())


def _marks(data: DataFolder, version: str) -> tuple[Mark, ...]:
    """Return the digests of this node's newest snapshots of a fold version."""
    names: Sequence[str] = [name for name in snapshots.names(data.snapshots) if snapshots.version_of(name) == version]
    if not names:
        return ()
    known, begin = dict(snapshots.manifests(data.snapshots)), int(open_reader(data).begin)
    found: list[Mark] = []
    for name in names[:MARKS_MAX]:
        erased = _erased(data.snapshots / name, begin)
        if name in known and erased is not None:
            found.append(Mark(known[name].log_position, known[name].digest, erased))
    return tuple(found)


def _erased(snapshot: Path, begin: int) -> str | None:
    """Return the digest of the erasures that a snapshot lists; None = the snapshot gave way to a newer one.

    A log that begins elsewhere has other events blanked, so its beginning counts for as long as there are any: a day,
    in which states remember ids of events.
    """
    try:
        columns = [np.load(snapshot / f"erasures.{each}.npy", allow_pickle=False) for each in _ERASURE_COLUMNS]
    except FileNotFoundError:
        return None
    if not len(columns[0]):
        return ""
    rows = sorted(zip(*(column.tolist() for column in columns), strict=True))
    return blake2b(msgspec.json.encode((begin, rows)), digest_size=_ERASED_BYTES).hexdigest()
