"""Admission control of connections: a maximum for all, one for each client address, a reserve for operators.

A connection holds its place whether it sends a request or not, so places are the first resource to run out. Where there
is none left, the connection that has been idle for longest is closed: HTTP lets a server close one between two requests
at any time, and a client's pool opens another. A connection without a place even so may send one request, which is
answered if it is for health or metrics. The newest such connections are kept, as an operator does not hold one open.

Reference: RFC 9112, 9.5 and 9.8 (closing idle connections); OpenBSD, sshd_config, ``MaxStartups`` (early drop).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from midstream.serving.options import ServerOptions

SHARE_MAX = 0.9
"""Default share of one address of all connections: a load test from one machine can fill nearly all places, and
others still find some."""


class Holder(Protocol):
    """A connection that holds a place, or would like to."""

    @property
    def address(self) -> str:
        """Of its client."""
        ...

    @property
    def spare_since(self) -> float | None:
        """Since when nothing of it is being answered, in seconds of one clock; None = something is."""
        ...

    def close(self) -> None:
        """End: another connection has the place."""
        ...


@dataclass(frozen=True, slots=True)
class PlaceLimits:
    """Maxima of connections."""

    total: int
    """Of all together, the reserve not counted."""
    per_client: int
    """Of one address."""
    reserved: int
    """Connections that may send one request for health or metrics."""


def place_limits(options: ServerOptions) -> PlaceLimits:
    """Return the maxima that the configuration asks for."""
    total = max(1, options.connections_max - options.connections_reserved)
    per_client = options.connections_per_client_max or max(1, int(SHARE_MAX * options.connections_max))
    return PlaceLimits(total, min(total, per_client), options.connections_max - total)


@dataclass(slots=True, eq=False)
class Places:
    """Open connections by address. Costs nothing a request; a connection beyond a maximum costs one pass over all."""

    limits: PlaceLimits
    count: Callable[[str], None]
    """Counts closed and refused connections by reason."""
    _of: dict[str, set[Holder]] = field(default_factory=dict[str, set[Holder]])
    """Connections with a place, by address."""
    _held: int = 0
    _heard: OrderedDict[Holder, None] = field(default_factory=OrderedDict[Holder, None])
    """Connections without a place, the oldest first."""

    def __len__(self) -> int:
        """Return the number of connections, with and without a place."""
        return self._held + len(self._heard)

    def enter(self, holder: Holder) -> bool:
        """Give a new connection a place, or hear it without one.

        Returns:
            Whether it has a place.
        """
        if self._place(holder):
            return True
        if len(self._heard) >= self.limits.reserved:
            oldest = next((each for each in self._heard if each.spare_since is not None), None)
            self.count("not_heard")
            if oldest is None:
                holder.close()
                return False
            del self._heard[oldest]
            oldest.close()
        self._heard[holder] = None
        return False

    def place_after_all(self, holder: Holder) -> bool:
        """Return whether a connection that had no place when it was made has one now."""
        if holder not in self._heard or not self._place(holder):
            return False
        del self._heard[holder]
        return True

    def leave(self, holder: Holder) -> None:
        """Remove a connection that is closed; one that was evicted is removed already."""
        mine = self._of.get(holder.address)
        if mine is not None and holder in mine:
            mine.discard(holder)
            self._held -= 1
            if not mine:
                del self._of[holder.address]
        self._heard.pop(holder, None)

    def _place(self, holder: Holder) -> bool:
        mine = self._of.get(holder.address, ())
        if len(mine) >= self.limits.per_client:
            return self._make_room(mine, "client_full") and self._hold(holder)
        if self._held >= self.limits.total:
            return any(self._make_room(each, "full") for each in self._greediest_first()) and self._hold(holder)
        return self._hold(holder)

    def _hold(self, holder: Holder) -> bool:
        self._of.setdefault(holder.address, set()).add(holder)
        self._held += 1
        return True

    def _greediest_first(self) -> list[set[Holder]]:
        return sorted(self._of.values(), key=len, reverse=True)

    def _make_room(self, among: "set[Holder] | tuple[()]", reason: str) -> bool:
        """Have the one give up that has been spare for longest; return whether there was one."""
        found = [(since, id(each), each) for each in among if (since := each.spare_since) is not None]
        if not found:
            return False
        _, _, longest = min(found)
        self.leave(longest)
        self.count(reason)
        longest.close()
        return True
