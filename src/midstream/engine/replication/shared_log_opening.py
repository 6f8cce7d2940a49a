"""Opening of a shared log: the topic and this node's data folder are compared before anything is copied.

The id of the log follows from the shop's key and the topic's identity, so nodes with one key hash ids alike, and a copy
of another topic, or under another key, is never taken for this one. The first message of the topic has the id's
fingerprint. Where the broker does not answer, a node that was checked before starts with what it has; the checks are
made when the broker is back.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from midstream.core.errors import Fault, MidstreamError
from midstream.engine.folder import DataFolder
from midstream.engine.replication.replicated_writer import SharedLog
from midstream.engine.replication.shared_topic import SharedTopic, TopicFacts, TopicRefused, TopicUnavailable
from midstream.engine.replication.topic_message import encode_founding, fingerprint_of, founding_of, shared_log_id
from midstream.engine.replication.topic_position import (
    PAGE,
    TopicPair,
    TopicPosition,
    read_topic_position,
    write_topic_position,
)
from midstream.events.disk import RealDisk
from midstream.events.segments.log_identity import LogIdentity, identity_of, read_identity

FOUNDED_S_MAX = 40.0
"""Until the founding of a topic is confirmed, or known not to be."""
FOUNDING_READ_S = 5.0
_COPY = (
    "The file data/key of a node of this shop, copied before the first start of this one, as docs/replicas.md has it; "
    "then remove the other files of data."
)

Join = Callable[[LogIdentity], object]
"""Begins the log of an empty data folder by a snapshot of another node, and writes the topic position."""


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """Secrets of one node."""

    key: bytes
    """Of the shop, 32 bytes: equal on all nodes."""
    process: bytes
    """16 random bytes of this process."""


def open_shared(topic: SharedTopic, data: DataFolder, keys: NodeKeys, join: Join | None = None) -> SharedLog:
    """Return the shared log that a data folder copies, after all that can be checked now.

    Args:
        topic: Not open yet.
        data: Of this node; its lock is held.
        keys: Of this node.
        join: Called in an empty folder; None = the node reads the topic from its beginning.

    Raises:
        TopicRefused: The topic, the key or the folder do not belong together; nothing was changed.
        TopicUnavailable: The broker does not answer, and this folder never copied the topic.
        Invalid: The file of the topic position is damaged.
    """
    known = _known(data)
    try:
        facts = topic.open(None if known is None else known.topic_id)
        log_id = shared_log_id(keys.key, facts.topic_id)
        if known is not None:
            _require_key(topic, data, known, log_id)
        _require_founding(topic, fingerprint_of(log_id), is_known=known is not None)
    except TopicUnavailable:
        if known is None:
            raise
        return _unverified(topic, data, keys, known)
    if known is not None:
        return SharedLog(topic, log_id, keys.process, known, data.topic_position, facts=facts)
    _require_no_other_log(topic, data, log_id)
    if join is not None and not _has_log(data):
        join(identity_of(log_id, 0))
        known = _known(data)
    if known is None:
        known = _from_the_beginning(topic, facts, log_id)
        data.root.mkdir(parents=True, exist_ok=True)
        write_topic_position(data.topic_position, known)
    return SharedLog(topic, log_id, keys.process, known, data.topic_position, facts=facts)


def _unverified(topic: SharedTopic, data: DataFolder, keys: NodeKeys, known: TopicPosition) -> SharedLog:
    """Return a log whose topic is compared with what is known of it when the broker answers."""
    log_id = shared_log_id(keys.key, known.topic_id)
    _require_key(topic, data, known, log_id)

    def prepare() -> TopicFacts:
        facts = topic.open(known.topic_id)
        _require_founding(topic, known.key, is_known=True)
        return facts

    return SharedLog(topic, log_id, keys.process, known, data.topic_position, prepare)


def _require_founding(topic: SharedTopic, key: str, *, is_known: bool) -> None:
    """Found a topic that never had a message; require that it was founded under this key.

    A topic that was copied before had one: it is not founded again.

    Raises:
        TopicRefused: It was founded under another key, holds something else, or lost what it had.
    """
    first, end = topic.span()
    if end == 0 and is_known:
        came = "This folder copied the topic, which has no message now."
        right = "The topic as it was: it has lost messages that this node has read."
        raise TopicRefused((Fault(topic.name, came, right, PAGE),))
    if end == 0:
        _found(topic, key)
    elif first > 0:
        return  # retention cut the founding: a node that joins by a snapshot has the fingerprint from it
    read = topic.read(0, 1, FOUNDING_READ_S)
    if not read.messages:
        message = f"{topic.name}: its first message was not read in time"
        raise TopicUnavailable(message)
    founding = founding_of(read.messages[0].value)
    if founding is None:
        came = "Its first message is not that of a log of midstream."
        raise TopicRefused((Fault(topic.name, came, "A topic of its own, which midstream creates.", PAGE),))
    if founding.key != key:
        came = f"It was founded under another key: its fingerprint is {founding.key}, this node's {key}."
        raise TopicRefused((Fault(topic.name, came, _COPY, PAGE),))


def _found(topic: SharedTopic, key: str) -> None:
    """Append the founding; where two nodes do, the first one in the topic counts.

    Raises:
        TopicUnavailable: It was not confirmed.
    """
    done = threading.Event()
    failed: list[MidstreamError] = []

    def confirmed(error: MidstreamError | None) -> None:
        if error is not None:
            failed.append(error)
        done.set()

    topic.append(encode_founding(key), confirmed)
    if not done.wait(FOUNDED_S_MAX) or failed:
        message = f"{topic.name}: its founding was not confirmed"
        raise TopicUnavailable(message)


def _require_key(topic: SharedTopic, data: DataFolder, known: TopicPosition, log_id: bytes) -> None:
    if known.key != fingerprint_of(log_id):
        came = f"{data.root / 'key'} is not the key under which this folder copied {topic.name}."
        raise TopicRefused((Fault(str(data.root), came, _COPY, PAGE),))


def _known(data: DataFolder) -> TopicPosition | None:
    """Return the topic position of the log that is there.

    None = there is no log, or no position: a join that ended between the two left a position that stands for nothing.
    """
    known = read_topic_position(data.topic_position)
    return known if data.log.is_dir() and any(data.log.iterdir()) else None


def _has_log(data: DataFolder) -> bool:
    return data.log.is_dir() and read_identity(data.log, RealDisk()) is not None


def _require_no_other_log(topic: SharedTopic, data: DataFolder, log_id: bytes) -> None:
    """Refuse a folder with a log that is no copy of the topic.

    Raises:
        TopicRefused: There is one.
    """
    identity = read_identity(data.log, RealDisk()) if data.log.is_dir() else None
    if identity is not None and identity.id_bytes != log_id:
        came = f"It has a log that is no copy of {topic.name}."
        right = "An empty folder: export the events of this one, and import them into the shared log."
        raise TopicRefused((Fault(str(data.root), came, right, PAGE),))


def _from_the_beginning(topic: SharedTopic, facts: TopicFacts, log_id: bytes) -> TopicPosition:
    first, end = topic.span()
    if first > 0:
        came = f"This node has no place in the topic and would begin at offset 0; the topic has {first} to {end}."
        right = "A snapshot of another node, to join by."
        raise TopicRefused((Fault(topic.name, came, right, PAGE),))
    return TopicPosition(topic.name, facts.topic_id, fingerprint_of(log_id), (TopicPair(0, 0, {}),))
