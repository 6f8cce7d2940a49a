"""Shared topic: one ordered, replicated, append-only sequence of messages, which several nodes write and all read.

A broker has it; here is what a node needs of it. An implementation lives in ``integrations``, a fake with faults in the
tests, and one suite of checks holds for both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from midstream.core.errors import Fault, Invalid, MidstreamError
from midstream.engine.replication.topic_position import PAGE

MESSAGE_BYTES_MAX = 900_000
"""Of one message; a broker takes 1 MiB unless told otherwise, with headers and its own fields."""


class TopicUnavailable(MidstreamError):
    """The broker does not answer, or not in time; asked again later it may."""


class TopicRefused(Invalid):
    """The topic cannot be used as it is: an operator has to act."""


class TopicMessage(NamedTuple):
    """One message as it stands in the topic."""

    offset: int
    appended_ms: int
    """Time at which the broker appended it."""
    value: bytes


class TopicRead(NamedTuple):
    """Result of one read."""

    messages: Sequence[TopicMessage]
    """Oldest first; empty where none came in time."""
    is_end: bool
    """Whether the broker had nothing behind them; False = that is not known."""


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """Identity and promises of an opened topic."""

    topic_id: str
    """Identity, such as the ids of cluster and topic: a topic that was deleted and made again has another."""
    replicas: int = 1
    in_sync_min: int = 1
    """Replicas that have a message when its append is confirmed."""
    retention_ms: int | None = None
    """How long a message stays; None = for ever."""
    segment_ms: int = 0
    """How much later the broker may remove it, for it removes messages in groups of that span at most."""
    is_new: bool = False
    """Whether it was created by this call."""


def require_known(name: str, known_id: str | None, found_id: str) -> None:
    """Require that a topic is the one that a node has a copy of.

    Args:
        name: Of the topic, for messages to people.
        known_id: Of the topic that was copied; None = none was.
        found_id: Of the topic of this name; empty = there is none.

    Raises:
        TopicRefused: It is another, or gone.
    """
    if known_id is not None and known_id != found_id:
        now = f"the one of this name is now {found_id}" if found_id else "none of this name is there now"
        right = "The topic as it was. Where it is gone for good: export, and import into an empty folder."
        raise TopicRefused((Fault(name, f"This folder copies the topic {known_id}; {now}.", right, PAGE),))


class SharedTopic(Protocol):
    """One topic of one partition. Methods block, each for a bounded time, and raise ``TopicUnavailable`` after it."""

    @property
    def name(self) -> str:
        """Name for messages to people, such as ``shop-log at kafka-1:9092``."""
        ...

    def open(self, known_id: str | None = None) -> TopicFacts:
        """Create the topic if there is none, check its settings, and be ready to append and read.

        Args:
            known_id: Identity of the topic that the caller has a copy of. Nothing is created then, and nothing can be
                appended before the identity was compared.

        Raises:
            TopicRefused: Its settings would break a promise, each named; or the topic of ``known_id`` is gone.
            TopicUnavailable: The broker does not answer.
        """
        ...

    def append(self, value: bytes, confirmed: Callable[[MidstreamError | None], None]) -> None:
        """Append one message behind all that this node appended before; return before it is there.

        Args:
            value: At most ``MESSAGE_BYTES_MAX`` bytes.
            confirmed: Called from any thread, once: with None when all in-sync replicas have the message, with an
                error when that is not known in time. It may be there, or come to be there, even then; it is there at
                most once.

        Raises:
            TopicUnavailable: Nothing was taken.
        """
        ...

    def read(self, offset: int, messages_max: int, wait_s: float) -> TopicRead:
        """Return the messages at and after an offset, oldest first; wait a while for the first of them.

        Args:
            offset: ``first`` to the end. Consecutive reads continue cheaply where the last one ended.
            messages_max: At least 1.
            wait_s: Time for the first message. The others are those that are there.

        Raises:
            TopicUnavailable: The broker does not answer; nothing is known.
            TopicRefused: The offset lies before the first one, or behind the end; both are named.
        """
        ...

    def span(self) -> tuple[int, int]:
        """Return the offset of the oldest message, and the one that the next message gets.

        Raises:
            TopicUnavailable: The broker does not answer.
        """
        ...

    def close(self) -> None:
        """Release connections and threads; what was appended and not confirmed may be there or not."""
        ...
