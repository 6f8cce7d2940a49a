"""Input positions: how far each input has read its broker, a fold of the control events in the frames of its events.

A consumer appends the events of one poll and one control event with the position after them in the same frame, so both
are durable or neither is. A start reads from here where to go on; what the broker itself keeps of a group's progress
is never read. That is exactly once by position, and holds after a restore, a rebuild and on a follower.

A position is opaque text that the broker's client made: an offset of Kafka, a message id of Pulsar. The newest one in
log order holds. The identity of a topic is part of a row: a topic that was deleted and made again has another one, and
positions of the first say nothing about it.

Reference: "Storing Offsets Outside Kafka", javadoc of ``org.apache.kafka.clients.consumer.KafkaConsumer``.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep
from midstream.events.schema import texts_of
from midstream.state.control.control_change import change_of

CHANGE = "input_position"
"""The field ``change`` of such a control event."""
INPUTS_MAX = 64
"""Inputs that have a position; a configuration may name as many."""
PARTITIONS_MAX = 10_000
"""Partitions of all inputs: ten topics of a thousand."""
TEXT_BYTES_MAX = 512
"""Of a name, the identity of a topic and a position. A topic of Kafka has 249 bytes, an id of a Pulsar message about
40."""
PARTITION_BYTES = 250
"""Of a partition's position in memory, about: two Python objects and their place in a dict."""
TABLE_BYTES_MAX = PARTITIONS_MAX * PARTITION_BYTES
_BODY = 6


class InputPosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a control event: positions of an input's partitions after the events of the same frame."""

    input: str
    """Name of the input in the configuration."""
    topic: str
    topic_id: str
    """Identity of the topic, which another topic of the same name does not have."""
    next: dict[str, str]
    """Position of the next message to read, by partition; of the partitions that moved."""
    change: str = CHANGE


class InputRow(NamedTuple):
    """Positions of one input."""

    input: str
    topic: str
    topic_id: str
    next: Mapping[str, str]
    """Position of the next message to read, by partition."""
    position: int
    """Log position before the newest control event that moved it."""
    log_time_ms: int


class InputPositions:
    """Positions of inputs, by name."""

    def __init__(self) -> None:
        """Start with none."""
        self._rows: dict[str, InputRow] = {}
        self.refused_count = 0
        """Control events about inputs that could not be read or found no room."""

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self._rows)

    @property
    def bytes_now(self) -> int:
        """Memory of all rows, about."""
        return PARTITION_BYTES * self._partition_count

    @property
    def bytes_max(self) -> int:
        """Memory of as many as may be, about."""
        return TABLE_BYTES_MAX

    @property
    def rows(self) -> Sequence[InputRow]:
        """Every input, by name."""
        return [self._rows[name] for name in sorted(self._rows)]

    @property
    def _partition_count(self) -> int:
        return sum(len(row.next) for row in self._rows.values())

    def find(self, name: str) -> InputRow | None:
        """Return the positions of an input; None = it has read nothing yet."""
        return self._rows.get(name)

    def takes(self, body: InputPosition) -> bool:
        """Return whether an event with this body would be folded: there is room for its partitions."""
        before = self._rows.get(body.input)
        if before is None and len(self._rows) >= INPUTS_MAX:
            return False
        others = self._partition_count - (0 if before is None else len(before.next))
        return others + len(_merged(before, body)) <= PARTITIONS_MAX

    def apply(self, step: FoldStep) -> None:
        """Fold a step. Most steps have no control event."""
        batch = step.events
        for index in step.controls():
            text = texts_of(batch.source, index)[_BODY]
            if change_of(text) != CHANGE:
                continue
            body = input_position_of(text)
            if body is None or not self.takes(body):
                self.refused_count += 1
                continue
            merged = _merged(self._rows.get(body.input), body)
            place = int(batch.first) + index
            row = InputRow(body.input, body.topic, body.topic_id, merged, place, int(batch.log_time_ms[index]))
            self._rows[body.input] = row

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the rows as JSON, inputs and partitions in order of their names, and the counter."""
        rows = [row._replace(next=dict(sorted(row.next.items()))) for row in self.rows]
        return {
            "rows": np.frombuffer(msgspec.json.encode(rows), dtype=np.uint8),
            "refused": np.array([self.refused_count], dtype=np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Become the table whose ``arrays`` these are."""
        rows = msgspec.json.decode(arrays["rows"].tobytes(), type=list[InputRow])
        self._rows = {row.input: row for row in rows}
        self.refused_count = int(cast("list[int]", arrays["refused"].tolist())[0])


def input_position_of(body: bytes) -> InputPosition | None:
    """Return the positions in the body of a control event; None = something else, or too long a text."""
    try:
        found = msgspec.json.decode(body, type=InputPosition)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    texts = (found.input, found.topic, found.topic_id, *found.next, *found.next.values())
    is_short = all(len(each.encode()) <= TEXT_BYTES_MAX for each in texts)
    return found if found.change == CHANGE and found.input and found.next and is_short else None


def encode_input_position(body: InputPosition) -> bytes:
    """Return a body as it stands in the log."""
    return msgspec.json.encode(body)


def _merged(before: InputRow | None, body: InputPosition) -> dict[str, str]:
    """Return the positions after a body; those of another topic are gone."""
    is_same = before is not None and (before.topic, before.topic_id) == (body.topic, body.topic_id)
    return {**before.next, **body.next} if before is not None and is_same else dict(body.next)
