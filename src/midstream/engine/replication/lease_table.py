"""Lease table: owners of inputs, outputs and sinks among the nodes of a shared log, by the clock of the topic.

A claim is a message of the topic that holds no event, so it takes no log position and stands in no node's log. Claims
count in the order of the topic, and their time is the time at which the broker appended them: of two nodes that claim
one thing the first in the topic has it. A lease that is not renewed in time is free.

A node that began to read later does not know older claims, and may take a lease for free that is not. So a renewal
names the offset of the claim that began it, and where two processes renew one lease the older one has it: tables that
began anywhere agree after one renewal.

A lease saves work; nothing is exact because of it. Inputs are exact by the guard of their messages, outputs by the
fence of the broker's transactions, sinks by the version of each row.

Reference: C. Gray, D. Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency",
SOSP 1989.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

LEASES_MAX = 256
"""Of one shop: 64 inputs, as many outputs and sinks, and names that an older configuration had."""
PROCESSES_MAX = 256
"""Of which the newest claim is known: all nodes of a shop, each started some times."""
NAME_BYTES_MAX = 600
"""Of a lease: a kind and a name of 512 bytes."""
TTL_MS_MAX = 60_000
"""A claim for longer counts for so long."""
NO_POSITION = -1
"""Told by an owner without a position."""
_FORM = 1
_CLAIM = b'{"lease":'


class Claimed(NamedTuple):
    """One thing in a claim."""

    since: int
    """Offset of the claim by which the process has it; ``NO_POSITION`` = it has not."""
    position: int
    """Log position that it has come to; ``NO_POSITION`` = none."""


class Claim(msgspec.Struct, frozen=True):
    """Message of one process: what it claims, renews or gives up."""

    lease: int
    """Version of this form."""
    key: str
    """Fingerprint of the log's id: claims of another shop mean nothing."""
    process: str
    """16 random bytes as hex digits, which name the process."""
    node: str
    """Its node, for people."""
    sent_ms: int
    """On the clock of the process alone."""
    ttl_ms: int
    """How long it counts after its append; 0 = it gives up what it has."""
    names: dict[str, Claimed]


class LeaseRow(NamedTuple):
    """One lease."""

    process: str
    node: str
    until_ms: int
    """Time of the topic from which on it is free."""
    sent_ms: int
    """Of the claim, on the clock of its process."""
    position: int
    """As the owner told it; ``NO_POSITION`` = none."""
    since: int
    """Offset of the claim that began it."""


class LeaseTable:
    """Leases as the topic has them. One thread changes it; ``rows`` is replaced whole, so any thread reads it."""

    def __init__(self, key: str) -> None:
        """Take claims with the key ``key`` alone."""
        self.rows: Mapping[str, LeaseRow] = {}
        self.heard_ms: Mapping[str, int] = {}
        """When the newest claim of each process was sent, by its own clock; in the order of the topic."""
        self._key = key
        self._now_ms = 0

    def take(self, value: bytes, offset: int, appended_ms: int) -> bool:
        """Take a message that holds no event; return whether it is a claim of this log."""
        claim = claim_of(value)
        if claim is None or claim.key != self._key:
            return False
        self._now_ms = max(self._now_ms, appended_ms)
        rows = dict(self.rows)
        for name, claimed in claim.names.items():
            self._apply(rows, name, claimed, claim, offset)
        self.rows = rows
        others = [(process, at) for process, at in self.heard_ms.items() if process != claim.process]
        self.heard_ms = dict((*others[1 - PROCESSES_MAX :], (claim.process, claim.sent_ms)))
        return True

    def _apply(self, rows: dict[str, LeaseRow], name: str, claimed: Claimed, claim: Claim, offset: int) -> None:
        row = rows.get(name)
        since = offset if claimed.since < 0 else claimed.since
        is_held = row is not None and row.process != claim.process and self._now_ms < row.until_ms
        if row is not None and is_held and since >= row.since:
            return
        if claim.ttl_ms <= 0:
            if row is not None and row.process == claim.process:
                del rows[name]
        elif row is not None or len(rows) < LEASES_MAX:
            until_ms = self._now_ms + min(claim.ttl_ms, TTL_MS_MAX)
            rows[name] = LeaseRow(claim.process, claim.node, until_ms, claim.sent_ms, claimed.position, since)


def encode_claim(claim: Claim) -> bytes:
    """Return a claim as a message."""
    return msgspec.json.encode(claim)


def claim_of(value: bytes) -> Claim | None:
    """Return the claim in a message; None = it is another message, or one of a form that is not known here."""
    if not value.startswith(_CLAIM):
        return None
    try:
        claim = msgspec.json.decode(value, type=Claim)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    is_short = all(len(each.encode()) <= NAME_BYTES_MAX for each in claim.names)
    return claim if claim.lease == _FORM and is_short and len(claim.names) <= LEASES_MAX else None


def claim(key: str, process: bytes, node: str, sent_ms: int, ttl_ms: int, names: Mapping[str, Claimed]) -> Claim:
    """Return a claim of this form."""
    return Claim(_FORM, key, process.hex(), node, sent_ms, ttl_ms, dict(names))
