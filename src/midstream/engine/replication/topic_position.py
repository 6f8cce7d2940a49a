"""Positions in a shared topic: pairs of a topic offset and the log position before the message that stands there.

A node copies a topic into its own log, cut into frames of its own. A pair says where in the topic its log goes on. The
file is written behind the syncs of the log, now and then, so its newest pair lies at or before the end of the log; the
reader counts the messages from the pair on and passes by the events that the log has.

Older pairs stay, the thinner the older: a node that joins with a snapshot at some log position begins at a pair at or
before it. A rewrite of the log keeps positions, so a pair holds through it, and the file lies beside the log's folder.
"""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec
import xxhash

from midstream.core.errors import Fault, Invalid
from midstream.core.types import LogPosition
from midstream.events.whole_file import write_whole

TOPIC_NAME = "topic.json"
"""Of the file in a data folder."""
PAIRS_MAX = 64
"""Newest pairs, in gaps that double: at a pair a second the oldest is further back than any topic reaches."""
PAGE = "/docs/replicas.md"
_BYTES_MAX = 4 << 20
"""64 pairs of 60 bytes, each with 64 inputs of 540 bytes at most, and the names."""
_TOKEN_BYTES = 4
"""Of the identity in a token, where the generation of a log of one's own stands."""


class TopicPair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One place in the topic and in the log: they are the same."""

    offset: int
    """Of the next message to be read."""
    log_position: int
    """Of the first event of that message, or of the next one with events."""
    inputs: dict[str, int]
    """Version of the positions of each input there, as ``InputGuard`` has it: which later messages count follows."""


class TopicPosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A topic by its identity, the fingerprint of the key that its nodes share, and pairs, the oldest first."""

    topic: str
    """Name, for messages to people."""
    topic_id: str
    """Identity, such as the ids of cluster and topic: another topic of the same name has another."""
    key: str
    """Fingerprint of the key of ids, hex digits: equal on all nodes of a shop."""
    pairs: tuple[TopicPair, ...]
    """Not empty, ascending."""
    checksum: str = ""
    """xxh3-128 of all before it, in the file."""

    @property
    def newest(self) -> TopicPair:
        """Pair from which this node goes on."""
        return self.pairs[-1]

    @property
    def token_generation(self) -> int:
        """Generation in tokens of log positions: equal on every node, and through rewrites of a node's own log."""
        return generation_of(self.topic_id)

    def at_or_before(self, position: LogPosition) -> TopicPair | None:
        """Return the newest pair at or before a log position, None = all are later."""
        found = [pair for pair in self.pairs if pair.log_position <= position]
        return found[-1] if found else None

    def advanced(self, pair: TopicPair) -> "TopicPosition":
        """Return this with a newer pair; of the older ones some give way."""
        kept = [each for each in self.pairs if each.offset < pair.offset and each.log_position <= pair.log_position]
        return msgspec.structs.replace(self, pairs=(*_thinned(kept, pair), pair))

    def joined_at(self, position: LogPosition) -> "TopicPosition | None":
        """Return this for a log that begins at a position of a snapshot; None = no pair lies at or before it."""
        pairs = tuple(pair for pair in self.pairs if pair.log_position <= position)
        return msgspec.structs.replace(self, pairs=pairs) if pairs else None


def _thinned(pairs: Sequence[TopicPair], newest: TopicPair) -> list[TopicPair]:
    """Return pairs without the one whose neighbours are nearest to each other for their age, where there are too many.

    The oldest pair stays, so a snapshot finds one whatever its age.
    """
    kept = list(pairs)
    while len(kept) >= PAIRS_MAX:
        gaps = [
            (kept[n + 1].offset - kept[n - 1].offset) / (1 + newest.offset - kept[n].offset)
            for n in range(1, len(kept) - 1)
        ]
        del kept[1 + gaps.index(min(gaps))]
    return kept


def generation_of(topic_id: str) -> int:
    """Return the generation that tokens of a topic's log positions have, 32 bit."""
    return int.from_bytes(blake2b(topic_id.encode(), digest_size=_TOKEN_BYTES, person=b"midstream topic").digest())


def read_topic_position(path: Path) -> TopicPosition | None:
    """Return the content of the file, None = it is not there: this data folder has no shared log.

    Raises:
        Invalid: The file is not exactly as it was written.
    """
    try:
        with path.open("rb") as file:
            written = file.read(_BYTES_MAX)
    except FileNotFoundError:
        return None
    try:
        found = msgspec.json.decode(written, type=TopicPosition)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not found.pairs or _summed(found) != found or msgspec.json.encode(found) != written:
        raise _damaged(path, "its checksum does not match")
    return found


def write_topic_position(path: Path, position: TopicPosition) -> None:
    """Replace the file: afterwards, and whenever it fails, one of the two is whole."""
    write_whole(path, msgspec.json.encode(_summed(position)))


def _summed(position: TopicPosition) -> TopicPosition:
    bare = msgspec.structs.replace(position, checksum="")
    return msgspec.structs.replace(bare, checksum=xxhash.xxh3_128_hexdigest(msgspec.json.encode(bare)))


def _damaged(path: Path, why: str) -> Invalid:
    came = f"It is not as it was written: {why}."
    right = "The file from a backup of this folder; without one, join this node anew by a snapshot of another."
    return Invalid((Fault(str(path), came, right, PAGE),))
