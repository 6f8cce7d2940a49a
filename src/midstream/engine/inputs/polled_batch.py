"""Result of one poll: nothing, or the events of its messages on their way to the log."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from midstream.engine.ingest.admitted_batch import AdmittedBatch
from midstream.engine.inputs.message_decoding import MESSAGE_ROWS_MAX, DecodedMessages
from midstream.engine.inputs.polled_messages import PolledMessages

if TYPE_CHECKING:
    from midstream.events.json.decode import Rejected

BYTES_AIM, BYTES_MAX = 400_000, 800_000
"""Of one append, aimed at and at most: with its positions it is one message of a shared log, which has 900,000, so none
of it is there without the rest. Half of the maximum, as the next messages may be twice as large."""


class IdlePoll(NamedTuple):
    """A poll without messages."""

    lag: Mapping[str, int]


class PolledBatch(NamedTuple):
    """Messages of one poll on their way to the log."""

    messages: PolledMessages
    admitted: AdmittedBatch
    decoded: DecodedMessages
    lag: Mapping[str, int]
    """Messages behind them, by partition, as far as the client knew then."""

    def fits(self, *, in_message: bool) -> bool:
        """Return whether one frame takes all of it, or one message of a shared log; else fewer are read again."""
        is_small = len(self.admitted.batch) <= MESSAGE_ROWS_MAX and (self.bytes <= BYTES_MAX or not in_message)
        return is_small or len(self.messages) == 1

    @property
    def bytes(self) -> int:
        """Bytes of its rows and their texts."""
        return self.admitted.batch.rows.nbytes + len(self.admitted.batch.text)

    def place(self, rejected: "Rejected") -> tuple[str, str, int, int]:
        """Return the partition, the position and the row of an event that became a dead letter, and its item."""
        number, row = int(self.decoded.message[rejected.index]), int(self.decoded.row[rejected.index])
        return (*self.messages.place(number), row, rejected.item)

    def origin(self, event: int) -> Mapping[str, str]:
        """Return where an event came from, for its dead letter."""
        return self.messages.origin(int(self.decoded.message[event]), int(self.decoded.row[event]))
