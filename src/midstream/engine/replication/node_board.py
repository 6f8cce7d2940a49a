"""Node board: what each node of a shared log says of itself every few seconds, where all of them read it.

A message a node, the newest one counts. A compacted topic beside that of the log is a board; tests have one in memory.
Nothing depends on it but people and alerts: a node answers and records without a board.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import msgspec

MARKS_MAX = 8
"""Newest marks of a node: a node that is seven intervals behind is still compared."""
NODES_MAX = 256
"""Nodes that are shown; a shop has a few."""
HEARTBEAT_BYTES_MAX = 16_384
"""Eight marks of 150 bytes, and the rest."""
GONE_MS = 30_000
"""Six heartbeats: a node that was not heard of for so long is taken for gone."""


class Mark(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Digest of a state at a mark."""

    log_position: int
    digest: str
    erased: str = ""
    """Digest of the erasures that the state lists, and of where the log begins; empty = it lists none."""


class Heartbeat(msgspec.Struct, frozen=True):
    """Message of one node about itself. Fields that a later release adds are passed by."""

    node: str
    """Stable name of the node, such as 16 hex digits."""
    url: str
    """Address of its server; empty = it has none."""
    log: str
    """Public name of the log."""
    log_position: int
    """Of its state."""
    fold_version: str
    lag_ms: int | None
    """Log time that it is behind the topic; None = not known."""
    unreachable_since_ms: int | None
    """Since when the topic does not answer it; None = it does."""
    since_ms: int
    """Start of the process."""
    said_ms: int
    """Time of this message, by the node's clock."""
    counts_from: int = 0
    """Log position at which its counts begin: above 0 where its log begins with documents of another fold version."""
    marks: tuple[Mark, ...] = ()
    """Newest first."""
    release: str = ""


class NodeBoard(Protocol):
    """A place of messages by node. Methods block for a bounded time and raise ``TopicUnavailable`` after it."""

    def write(self, node: str, message: bytes) -> None:
        """Replace the message of a node."""
        ...

    def read(self) -> Mapping[str, bytes]:
        """Return the newest message of each node."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two nodes of one fold version have other digests at the same log position."""

    log_position: int
    fold_version: str
    digests: Mapping[str, str]
    """Digest by node."""

    def __str__(self) -> str:
        """Return it in words, for health and for people."""
        each = ", ".join(f"{node} has {digest[:16]}" for node, digest in sorted(self.digests.items()))
        return f"states of fold version {self.fold_version} differ at log position {self.log_position}: {each}"


def heartbeats_of(messages: Mapping[str, bytes], log: str) -> Sequence[Heartbeat]:
    """Return the readable heartbeats of a log by node; other messages are left out.

    Args:
        messages: By node.
        log: Public name of the log.
    """
    found: list[Heartbeat] = []
    for node, message in sorted(messages.items())[:NODES_MAX]:
        if len(message) > HEARTBEAT_BYTES_MAX:
            continue
        try:
            said = msgspec.json.decode(message, type=Heartbeat)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if said.log == log and said.node == node:
            found.append(said)
    return found


def disagreements(nodes: Iterable[Heartbeat]) -> Sequence[Disagreement]:
    """Return where nodes of one fold version differ, the newest log position of each pair first.

    Nodes whose counts begin elsewhere are not compared: their states differ rightly. Nor are marks with other erasures:
    a state from a log that was rewritten has none pending, and remembers ids of blanked events by other names.
    """
    found: dict[tuple[int, str], dict[str, str]] = {}
    for one, other in combinations(nodes, 2):
        if (one.log, one.fold_version, one.counts_from) != (other.log, other.fold_version, other.counts_from):
            continue
        for position, first, second in _common(one, other):
            if first != second:
                at = found.setdefault((position, one.fold_version), {})
                at[one.node], at[other.node] = first, second
                break
    return [Disagreement(position, version, digests) for (position, version), digests in sorted(found.items())]


def compared(nodes: Sequence[Heartbeat]) -> int:
    """Return how many pairs of nodes have a mark in common."""
    return sum(
        one.fold_version == other.fold_version and any(True for _ in _common(one, other))
        for one, other in combinations(nodes, 2)
    )


def is_gone(said: Heartbeat, now_ms: int) -> bool:
    """Return whether a node was not heard of for so long that it is taken for gone."""
    return now_ms - said.said_ms > GONE_MS


def _common(one: Heartbeat, other: Heartbeat) -> Iterator[tuple[int, str, str]]:
    """Yield the log positions of marks that can be compared, with both digests, newest first."""
    theirs = {(mark.log_position, mark.erased): mark.digest for mark in other.marks}
    for mark in sorted(one.marks, key=lambda mark: mark.log_position, reverse=True):
        if (digest := theirs.get((mark.log_position, mark.erased))) is not None:
            yield mark.log_position, mark.digest, digest
