"""Conformance checks of a ``SnapshotStore``: what its types cannot say, for every place where snapshots lie."""

from collections.abc import Iterator

from midstream.core.errors import MidstreamError
from midstream.engine.replication.snapshot_store import READ_BYTES, SnapshotStore, StoredFileMissing

LAST = "published.json"
_LARGE = b"0123456789abcdef" * (READ_BYTES // 16 * 2) + b"end"


class _Torn(Exception):
    """The writer of a file ends in the middle of it."""


def check_snapshot_store(store: SnapshotStore) -> None:
    """Check that an empty store keeps what is written, whole or not at all, and removes what it is told to.

    Raises:
        AssertionError: It does not.
    """
    _promise(list(store.folders()) == [], "an empty store has folders")
    _require_missing(store, "a", LAST)
    store.write("a", "users.npy", iter((_LARGE[:10], _LARGE[10:], b"")))
    store.write("a", LAST, (b"{}",))
    store.write("b", "users.npy", ())
    _promise(sorted(store.folders()) == ["a", "b"], "folders are not those that were written")
    pieces = list(store.read("a", "users.npy"))
    _promise(b"".join(pieces) == _LARGE, "a file is not as it was written")
    _promise(max(map(len, pieces)) <= READ_BYTES, "a piece is larger than a reader has room for")
    _promise(b"".join(store.read("b", "users.npy")) == b"", "an empty file is not empty")
    _require_missing(store, "a", "items.npy")
    _require_missing(store, "c", "users.npy")
    store.write("a", "users.npy", (b"new",))
    _promise(b"".join(store.read("a", "users.npy")) == b"new", "a file that is written again keeps its old content")
    _require_whole(store)
    store.remove("a", LAST)
    store.remove("a", LAST)
    _promise("a" not in store.folders(), "a removed folder is there")
    _require_missing(store, "a", LAST)
    _promise("b" in store.folders(), "another folder was removed")


def _require_whole(store: SnapshotStore) -> None:
    """Check that a file whose writing breaks off is not there, or is the one of before."""

    def torn() -> Iterator[bytes]:
        yield b"half"
        raise _Torn

    try:
        store.write("b", "torn.npy", torn())
    except _Torn:
        _require_missing(store, "b", "torn.npy")
    else:
        message = "an error of the writer is lost"
        raise AssertionError(message)


def _require_missing(store: SnapshotStore, folder: str, name: str) -> None:
    try:
        b"".join(store.read(folder, name))
    except StoredFileMissing:
        return
    except MidstreamError as error:
        message = f"a missing file is {type(error).__name__}"
        raise AssertionError(message) from error
    message = f"{folder}/{name} is there"
    raise AssertionError(message)


def _promise(is_kept: bool, text: str) -> None:  # noqa: FBT001  a condition
    if not is_kept:
        raise AssertionError(text)
