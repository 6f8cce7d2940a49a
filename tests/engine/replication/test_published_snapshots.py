"""A manifest is taken with the shop's key alone, and a folder counts as a snapshot by its name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import SnapshotInvalid
from midstream.engine.replication.published_snapshots import (
    PublishedFile,
    PublishedSnapshot,
    folder_name,
    newest_first,
    peer_key,
    seal,
    unseal,
    version_of,
)
from midstream.engine.replication.topic_position import TopicPair, TopicPosition
from midstream.events.segments.log_identity import identity_of

SHOP, OTHER = identity_of(bytes(range(16)), 0), identity_of(bytes(range(1, 17)), 0)
TOPIC = TopicPosition("shop", "cluster/topic", "ab", (TopicPair(3, 5, {}),))
MANIFEST = PublishedSnapshot(
    SHOP.public_name, 5, 1_000, "0123456789abcdef", "d" * 32, TOPIC, {"users.rows": PublishedFile(7, "0" * 64)}
)


def test_a_sealed_manifest_is_read_with_the_same_key():
    """In any generation of the log: a rewrite keeps the key."""
    assert unseal(seal(MANIFEST, SHOP), SHOP) == MANIFEST
    assert unseal(seal(MANIFEST, SHOP), identity_of(SHOP.id_bytes, 7)) == MANIFEST


def test_another_key_is_refused():
    """Whoever sealed it, and whoever reads it."""
    with pytest.raises(SnapshotInvalid, match="the key of this shop"):
        unseal(seal(MANIFEST, OTHER), SHOP)


@given(st.data())
def test_a_changed_byte_is_refused(data):
    """Wherever it is, and whatever it becomes."""
    content = bytearray(seal(MANIFEST, SHOP))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SnapshotInvalid):
        unseal(bytes(content), SHOP)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(content):
    """Nothing but a named refusal comes of them."""
    with pytest.raises(SnapshotInvalid):
        unseal(content, SHOP)


def test_the_key_of_peers_is_none_of_the_secrets():
    """It differs by shop, and is neither the log's id nor the key of ids nor the public name."""
    assert peer_key(SHOP) != peer_key(OTHER)
    assert peer_key(SHOP) == peer_key(identity_of(SHOP.id_bytes, 3))
    assert not {SHOP.log_id, SHOP.id_key, SHOP.public_name} & {peer_key(SHOP), peer_key(SHOP)[:32], peer_key(SHOP)[32:]}


def test_folders_are_ordered_by_position_and_others_left_out():
    """By their names alone; what is no snapshot's is not looked into."""
    low, high = (folder_name(MANIFEST, "a"), f"{10**15:020d}-0123456789abcdef-b.c_d-1")
    assert newest_first([low, "..", "lost+found", f"{low}/x", "1-2-3", high, f"{low}\n"]) == [high, low]
    assert version_of(high) == MANIFEST.fold_version
    assert version_of("..") == ""
