"""A folder that copied a topic neither founds nor fills another one of the same name."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from midstream.core.kinds import Kind
from midstream.core.types import TimestampMs
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.writer import QueueEntry
from midstream.engine.replication.replicated_writer import ReplicatedWriter
from midstream.engine.replication.shared_log_opening import NodeKeys, open_shared
from midstream.engine.replication.shared_topic import TopicFacts, TopicRefused, TopicUnavailable
from midstream.engine.replication.topic_message import encode_founding, fingerprint_of, shared_log_id
from midstream.engine.replication.topic_position import TopicPair, TopicPosition, write_topic_position
from midstream.events.disk import RealDisk
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build
from midstream.events.segments.log_identity import identity_of, write_identity
from tests.support.rig import SMALL
from tests.support.shared_topics import Confirmed, FakeTopic, FakeTopicServer

if TYPE_CHECKING:
    from midstream.core.errors import MidstreamError

KEYS = NodeKeys(b"k" * 32, b"p" * 16)
LOG_ID = shared_log_id(KEYS.key, "cluster/topic")
KEY = fingerprint_of(LOG_ID)


@dataclass(eq=False)
class LateTopic(FakeTopic):
    """A connection that appends once it was opened, as that of a client library does."""

    is_open: bool = False

    def open(self, known_id: str | None = None) -> TopicFacts:
        """Open, and take messages from then on."""
        facts = super().open(known_id)
        self.is_open = True
        return facts

    def append(self, value: bytes, confirmed: Confirmed) -> None:
        """Append where it is open."""
        if not self.is_open:
            message = "it is not open"
            raise TopicUnavailable(message)
        super().append(value, confirmed)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    """Return a folder that copied ``cluster/topic``."""
    found = DataFolder(tmp_path / "data")
    found.log.mkdir(parents=True)
    write_identity(found.log, RealDisk(), identity_of(LOG_ID, 0))
    write_topic_position(found.topic_position, TopicPosition("shop-log", "cluster/topic", KEY, (TopicPair(1, 0, {}),)))
    return found


@pytest.mark.parametrize(
    "topic_id, told",
    [("cluster/other", "is now cluster/other"), ("", "none of this name"), ("cluster/topic", "no message now")],
)
def test_a_topic_that_was_made_anew_is_left_as_it_is(data: DataFolder, topic_id: str, told: str) -> None:
    """Another one, none, and one that lost its messages: each is refused by name, and stays empty."""
    server = FakeTopicServer(topic_id)
    with pytest.raises(TopicRefused, match=told):
        open_shared(LateTopic(server), data, KEYS)
    assert server.messages == []
    assert server.topic_id == topic_id


@pytest.mark.parametrize("topic_id", ["cluster/other", ""])
def test_events_that_waited_for_the_broker_go_to_no_other_topic(data: DataFolder, topic_id: str) -> None:
    """The identity is compared before anything can be appended."""
    server = FakeTopicServer(is_down=True)
    shared = open_shared(LateTopic(server), data, KEYS)
    told: list[MidstreamError | None] = []
    writer = ReplicatedWriter(
        shared,
        MemoryLog(),
        lambda: TimestampMs(0),
        float,
        lambda written: told.append(written.error),
        SMALL.fold_settings().hash_key(),
        keeps_event_time=False,
    )
    writer.submit(QueueEntry(build((Event(Kind.TICK),)), None))
    server.topic_id, server.is_down = topic_id, False
    writer._producer.start()
    writer._run()
    writer._producer.join()
    assert server.messages == []
    assert "This folder copies the topic cluster/topic" in writer.ended
    assert told


def test_the_topic_that_was_copied_is_opened_with_its_facts(data: DataFolder) -> None:
    """Now, or when the broker answers."""
    server = FakeTopicServer()
    server.append(encode_founding(KEY))
    assert open_shared(LateTopic(server), data, KEYS).facts == TopicFacts("cluster/topic")
    server.is_down = True
    shared = open_shared(LateTopic(server), data, KEYS)
    assert shared.facts is None
    server.is_down = False
    assert shared.prepare is not None
    assert shared.prepare() == TopicFacts("cluster/topic")


@pytest.mark.parametrize("first", [0, 1])
def test_a_copy_without_places_begins_at_the_beginning_of_its_topic(data: DataFolder, first: int) -> None:
    """As a node is that was restored from a backup which left damaged ones out; a beginning that was cut is refused."""
    data.topic_position.unlink()
    server = FakeTopicServer()
    server.append(encode_founding(KEY))
    server.first = first
    if first:
        with pytest.raises(TopicRefused, match="no place in the topic"):
            open_shared(LateTopic(server), data, KEYS)
        assert not data.topic_position.exists()
    else:
        assert open_shared(LateTopic(server), data, KEYS).position.pairs == (TopicPair(0, 0, {}),)
        assert data.topic_position.exists()
