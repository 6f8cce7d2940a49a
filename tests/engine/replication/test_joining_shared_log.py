"""A join that ends at any moment leaves a folder that joins again, and two starts never share one."""

from pathlib import Path

import pytest

from midstream.app import opening
from midstream.app.config.reader import parse_config
from midstream.core.errors import FolderLocked
from midstream.engine.folder import DataFolder
from midstream.engine.replication.shared_log_opening import NodeKeys, open_shared
from midstream.engine.replication.shared_topic import TopicUnavailable
from midstream.engine.replication.topic_message import fingerprint_of, shared_log_id
from midstream.engine.replication.topic_position import (
    TopicPair,
    TopicPosition,
    read_topic_position,
    write_topic_position,
)
from midstream.events.disk import RealDisk
from midstream.events.segments.log_identity import LogIdentity, write_identity
from tests.support.shared_topics import FakeTopic, FakeTopicServer

KEYS = NodeKeys(bytes(32), bytes(16))


def position(server: FakeTopicServer, at: int) -> TopicPosition:
    """Return the topic position of a snapshot."""
    key = fingerprint_of(shared_log_id(KEYS.key, server.topic_id))
    return TopicPosition("shop-log", server.topic_id, key, (TopicPair(1, at, {}),))


def test_a_topic_position_without_a_log_is_no_join(tmp_path: Path) -> None:
    """The node joins again; and where it cannot, it reads the topic from its beginning."""
    server, data = FakeTopicServer(), DataFolder(tmp_path / "data")
    data.root.mkdir()
    write_topic_position(data.topic_position, position(server, 60))
    joins: list[LogIdentity] = []
    found = open_shared(FakeTopic(server), data, KEYS, joins.append)
    assert len(joins) == 1
    assert found.position.pairs == (TopicPair(0, 0, {}),)

    def join(identity: LogIdentity) -> None:
        RealDisk().make_folder(data.log)
        write_identity(data.log, RealDisk(), identity)
        write_topic_position(data.topic_position, position(server, 40))

    found = open_shared(FakeTopic(server), data, KEYS, join)
    assert found.position == read_topic_position(data.topic_position)
    assert found.position.pairs == (TopicPair(1, 40, {}),)


def test_a_topic_position_without_a_log_begins_nothing_without_the_broker(tmp_path: Path) -> None:
    """The node has nothing that it could go on from."""
    server, data = FakeTopicServer(is_down=True), DataFolder(tmp_path / "data")
    data.root.mkdir()
    write_topic_position(data.topic_position, position(server, 60))
    with pytest.raises(TopicUnavailable):
        open_shared(FakeTopic(server), data, KEYS)


def test_a_second_start_joins_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is locked before topic and join are looked at."""
    opened: list[object] = []

    def node_log(*told: object) -> None:
        with pytest.raises(FolderLocked):
            RealDisk().lock(DataFolder(tmp_path / "data").lock, tmp_path / "data")
        opened.append(told)

    monkeypatch.setattr(opening, "node_log", node_log)
    config = parse_config('[log]\nkind = "kafka"\nservers = "nowhere:9092"\ntopic = "shop-log"\n')
    (tmp_path / "data").mkdir()
    lock = RealDisk().lock(DataFolder(tmp_path / "data").lock, tmp_path / "data")
    try:
        with pytest.raises(FolderLocked):
            opening.open_running(tmp_path, config)
        assert not opened
    finally:
        RealDisk().close(lock)

    class Reached(Exception):
        pass

    def stop(*_: object) -> None:
        raise Reached

    monkeypatch.setattr(opening, "open_reader", stop)
    with pytest.raises(Reached):
        opening.open_running(tmp_path, config)
    assert len(opened) == 1
