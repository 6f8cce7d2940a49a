"""A shared topic in memory, with what networks and brokers do: lost answers, late and doubled messages, partitions.

Several nodes use one ``FakeTopicServer``, each through a ``FakeTopic`` of its own.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from midstream.core.errors import Fault, MidstreamError
from midstream.engine.replication.shared_topic import (
    MESSAGE_BYTES_MAX,
    TopicFacts,
    TopicMessage,
    TopicRead,
    TopicRefused,
    TopicUnavailable,
    require_known,
)

START_MS = 1_750_000_000_000
Confirmed = Callable[[MidstreamError | None], None]


@dataclass(eq=False)
class FakeTopicServer:
    """The broker: an ordered list of messages that are never changed."""

    topic_id: str = "cluster/topic"
    """Empty = the topic is not there."""
    now_ms: int = START_MS
    """Append times go with it, and back where a test sets it back."""
    messages: list[TopicMessage] = field(default_factory=list[TopicMessage])
    first: int = 0
    """Oldest offset that retention left."""
    late: list[bytes] = field(default_factory=list[bytes])
    """On their way: appended by ``arrive``."""
    is_down: bool = False
    news: threading.Condition = field(default_factory=threading.Condition)

    def append(self, value: bytes) -> None:
        """Append a message."""
        with self.news:
            self.messages.append(TopicMessage(len(self.messages), self.now_ms, value))
            self.news.notify_all()

    def arrive(self) -> None:
        """Append what was on its way."""
        late, self.late = self.late, []
        for value in late:
            self.append(value)


@dataclass(eq=False)
class FakeTopic:
    """One node's connection."""

    server: FakeTopicServer
    fault: Callable[[], str] = str
    """Of the next append: empty, ``lost`` (the message), ``unheard`` (the answer), ``late``, ``twice``, ``full``."""
    is_cut: bool = False
    """The node does not reach the broker."""
    is_open: bool = True
    """Most tests begin behind the opening."""
    called: Callable[[str], None] = len  # type: ignore[assignment]  # a count of letters harms nobody
    """Told of each call, before it does anything; may raise."""
    appending: bytes = b""
    """Message of the newest append."""

    @property
    def name(self) -> str:
        """Name for messages to people."""
        return "shop-log at the fake"

    def open(self, known_id: str | None = None) -> TopicFacts:
        """Return the facts of the topic; one that is not there is created under a new identity."""
        self._reach("open")
        require_known(self.name, known_id, self.server.topic_id)
        self.server.topic_id = self.server.topic_id or "cluster/made"
        self.is_open = True
        return TopicFacts(self.server.topic_id)

    def append(self, value: bytes, confirmed: Confirmed) -> None:
        """Append a message, as well as the fault lets it."""
        self.appending = value
        self.called("append")
        self._require_open()
        fault = "lost" if self.is_cut or self.server.is_down else self.fault()
        if fault == "full":
            raise TopicUnavailable("the client's queue is full")
        if len(value) > MESSAGE_BYTES_MAX:
            confirmed(TopicUnavailable("the message is too large"))
            return
        if fault == "late":
            self.server.late.append(value)
        elif fault != "lost":
            for _ in range(2 if fault == "twice" else 1):
                self.server.append(value)
        self.called("appended")
        confirmed(None if fault in {"", "twice"} else TopicUnavailable("no answer came"))

    def read(self, offset: int, messages_max: int, wait_s: float) -> TopicRead:
        """Return what is there."""
        self._reach("read")
        self._require_open()
        server = self.server
        with server.news:
            if not server.first <= offset <= len(server.messages):
                came = f"The offset {offset} is not there: messages {server.first} to {len(server.messages)} are."
                raise TopicRefused((Fault(self.name, came, "Join by a snapshot.", "/docs/replicas.md"),))
            if offset == len(server.messages):
                server.news.wait(wait_s)
            found = server.messages[offset : offset + messages_max]
            return TopicRead(found, is_end=offset + len(found) == len(server.messages))

    def span(self) -> tuple[int, int]:
        """Return the oldest and the next offset."""
        self._reach("span")
        return self.server.first, len(self.server.messages)

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _require_open(self) -> None:
        if not self.is_open:
            raise TopicUnavailable("it is not open")

    def _reach(self, call: str) -> None:
        self.called(call)
        if self.is_cut or self.server.is_down:
            time.sleep(0)
            raise TopicUnavailable("the broker does not answer")
