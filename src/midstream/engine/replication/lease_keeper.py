"""Lease keeper: claims, renews and gives up the leases of one node's inputs, outputs and sinks.

One message a renewal has all of them. A lease counts here from the moment at which its claim was sent, so it ends here
before it is free by the clock of the topic, on whatever the process was held up in between. A node that cannot read the
topic cannot hear its own renewal, so it loses its leases to one that can.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from midstream.engine.background_service import BackgroundService
from midstream.engine.replication.lease_table import NO_POSITION, Claimed, LeaseRow, LeaseTable, claim, encode_claim

LOOK_S = 0.25
"""Between two looks at the leases."""
RENEW_S = 1.5
"""Between two renewals: 58,000 messages of 250 bytes a day, of the owner alone."""
LISTEN_S = 2.0
"""A node that has read to the end waits so long, a renewal and more, before a lease that it never heard of is free."""
TTL_S = 6.0
"""A node that is gone is followed by another after so long, a look and an append: four renewals may be late or lost."""
CLAIM_LAG_MS_MAX = 2_000
"""A node further behind claims nothing: it has not read what is owned."""
STOP_S_MAX = 2.0
"""How long a stop waits until its leases are given up; after that they run out."""


class LeasedLog(Protocol):
    """The shared log as the keeper sees it."""

    @property
    def leases(self) -> LeaseTable:
        """Leases, as far as the topic was read."""
        ...

    @property
    def lag_ms(self) -> int | None:
        """How far this node is behind the topic; None = nothing is known yet."""
        ...

    def say(self, message: bytes) -> None:
        """Append a message without events."""
        ...


@dataclass(frozen=True, slots=True)
class LeaseNames:
    """Names under which a node claims."""

    key: str
    """Fingerprint of the log."""
    process: bytes
    """16 random bytes."""
    node: str


@dataclass(slots=True)
class _Seen:
    """A lease of another node as this one saw it last."""

    row: LeaseRow
    since_s: float


class LeaseKeeper:
    """Leases of one node. A service that runs beside its engine; all of it on the event loop's thread."""

    def __init__(
        self,
        log: LeasedLog,
        names: LeaseNames,
        monotonic: Callable[[], float],
        supervise: Callable[..., BackgroundService],
    ) -> None:
        """Claim nothing until a lease is asked for."""
        self._log = log
        self._names = names
        self._monotonic = monotonic
        self._mine = names.process.hex()
        self._positions: dict[str, int] = {}
        """Of all that this node would run, with what it told."""
        self._seen: dict[str, _Seen] = {}
        self._listens_s: float | None = None
        """Since when this node has read to the end."""
        self._sent_ms = -1
        """When the last claim was sent."""
        self._service = supervise("leases", self._round, LOOK_S, first_s=0.0)

    def lease(self, name: str) -> "NodeLease":
        """Return the lease of one thing, which is claimed from now on."""
        self._positions.setdefault(name, NO_POSITION)
        return NodeLease(self, name)

    def start(self) -> None:
        """Begin on the running event loop."""
        self._service.start()

    async def stop(self) -> None:
        """Give up what is held, so that another node takes over at once."""
        await self._service.stop()
        held = [name for name in self._positions if self.is_held(name)]
        self._positions = dict.fromkeys(self._positions, NO_POSITION)
        if not held:
            return
        self._send(held, 0)
        until_s = self._monotonic() + STOP_S_MAX
        while self._is_waiting() and self._monotonic() < until_s:  # noqa: ASYNC110  the topic has no event of its own
            await asyncio.sleep(0.01)

    @property
    def held_count(self) -> int:
        """Number of leases that this node has now."""
        return sum(map(self.is_held, self._positions))

    def is_held(self, name: str) -> bool:
        """Return whether this node has a lease that did not run out."""
        row = self.row(name)
        return row is not None and row.process == self._mine and self._now_ms() < row.sent_ms + TTL_S * 1_000

    def owner(self, name: str) -> str:
        """Return the node that has a lease, empty = none has it."""
        row = self.row(name)
        return "" if row is None or self._is_free(name) else row.node

    def row(self, name: str) -> LeaseRow | None:
        """Return a lease as the topic has it."""
        return self._log.leases.rows.get(name)

    def tell(self, name: str, position: int) -> None:
        """Say with the next renewal how far this node has come."""
        self._positions[name] = position

    def _now_ms(self) -> int:
        return int(self._monotonic() * 1_000)

    async def _round(self) -> None:
        """Claim what is free, renew what is held, at most one message under way."""
        self._look()
        lag_ms = self._log.lag_ms
        if not self._positions or lag_ms is None or lag_ms > CLAIM_LAG_MS_MAX or self._is_waiting():
            return
        self._listens_s = self._monotonic() if self._listens_s is None else self._listens_s
        free = [name for name in self._positions if self._is_free(name)]
        held = [name for name in self._positions if self.is_held(name)]
        if free or (held and self._now_ms() >= self._sent_ms + RENEW_S * 1_000):
            self._send((*held, *free), int(TTL_S * 1_000))

    def _look(self) -> None:
        """Note since when each lease is as it is."""
        now_s = self._monotonic()
        for name, row in self._log.leases.rows.items():
            seen = self._seen.get(name)
            if seen is None or seen.row != row:
                self._seen[name] = _Seen(row, now_s)

    def _is_free(self, name: str) -> bool:
        """Return whether nobody has a lease, as far as this node can tell; the topic has the last word."""
        row = self.row(name)
        if row is None:
            return self._listens_s is not None and self._monotonic() >= self._listens_s + LISTEN_S
        if row.process == self._mine:
            return not self.is_held(name)
        seen = self._seen.get(name)
        return seen is not None and seen.row == row and self._monotonic() >= seen.since_s + TTL_S

    def _is_waiting(self) -> bool:
        """Return whether the last message was not read back, and may yet be in time."""
        heard_ms = self._log.leases.heard_ms.get(self._mine, -1)
        return self._sent_ms > heard_ms and self._now_ms() < self._sent_ms + TTL_S * 1_000

    def _send(self, names: Sequence[str], ttl_ms: int) -> None:
        self._sent_ms = max(self._now_ms(), self._sent_ms + 1)
        told, claimed = self._names, {name: Claimed(self._since(name), self._positions[name]) for name in names}
        self._log.say(encode_claim(claim(told.key, told.process, told.node, self._sent_ms, ttl_ms, claimed)))

    def _since(self, name: str) -> int:
        row = self.row(name)
        return NO_POSITION if row is None or not self.is_held(name) else row.since


@dataclass(frozen=True, slots=True)
class NodeLease:
    """The ``Lease`` of one thing at one node."""

    keeper: LeaseKeeper
    name: str
    """Kind and name, such as ``input clicks``."""
    is_shared: bool = True

    @property
    def is_held(self) -> bool:
        """Whether this node is to run it now."""
        return self.keeper.is_held(self.name)

    @property
    def owner(self) -> str:
        """Name of the node that runs it; empty = none does."""
        return self.keeper.owner(self.name)

    @property
    def position(self) -> int:
        """Log position that the owner has told, -1 = none."""
        row = self.keeper.row(self.name)
        return NO_POSITION if row is None else row.position

    def tell(self, position: int) -> None:
        """Let other nodes know how far this one has come."""
        self.keeper.tell(self.name, position)
