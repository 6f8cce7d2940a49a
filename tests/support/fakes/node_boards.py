"""Node board in memory, which can be cut off."""

from midstream.engine.replication.shared_topic import TopicUnavailable


class MemoryBoard:
    """A ``NodeBoard`` that several reporters of one test share."""

    def __init__(self) -> None:
        """Begin without messages."""
        self.messages: dict[str, bytes] = {}
        self.is_down = False
        self.is_closed = False

    def write(self, node: str, message: bytes) -> None:
        """Replace the message of a node."""
        self._require_up()
        self.messages[node] = message

    def read(self) -> dict[str, bytes]:
        """Return the messages."""
        self._require_up()
        return dict(self.messages)

    def close(self) -> None:
        """Be closed."""
        self.is_closed = True

    def _require_up(self) -> None:
        if self.is_down:
            message = "the board is down"
            raise TopicUnavailable(message)
