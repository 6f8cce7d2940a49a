"""Lease of a background service that one node of several runs: an input, an output or a sink.

A node without the lease stands by. The lease only saves work and keeps two nodes from taking over from each other for
ever; what is exact is so without it.
"""

from typing import Protocol


class Lease(Protocol):
    """Right to run one service, as one node sees it."""

    @property
    def is_shared(self) -> bool:
        """Whether other nodes may run the service as well."""
        ...

    @property
    def is_held(self) -> bool:
        """Whether this node is to run the service now."""
        ...

    @property
    def owner(self) -> str:
        """Name of the node that runs it, as far as is known here; empty = none does, or there is one node only."""
        ...

    @property
    def position(self) -> int:
        """Log position that the owner has told, -1 = none."""
        ...

    def tell(self, position: int) -> None:
        """Let other nodes know how far this one has come."""
        ...


class OwnLease:
    """The ``Lease`` of a log of one process: always held."""

    is_shared = False
    is_held = True
    owner = ""
    position = -1

    def tell(self, position: int) -> None:
        """Do nothing: no other node is there."""


OWN = OwnLease()
"""Of every service until a group is told of the leases of a shared log."""
