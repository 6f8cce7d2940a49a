"""Snapshot store of a peer: another node's snapshots over HTTP, with the key that nodes of a shop share."""

from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from urllib.parse import quote

import msgspec

from midstream.core.errors import StoreUnavailable
from midstream.engine.replication.published_snapshots import FOLDERS_MAX
from midstream.engine.replication.snapshot_store import READ_BYTES, missing

PATH = "/v1/snapshots"
CONNECT_S_MAX = 5.0
"""Of a peer: one that is down is passed by."""
SILENCE_S_MAX = 30.0
"""Between two pieces: a peer that is slowed down gets that long before another one is asked."""
_LIST_BYTES_MAX = 4 << 20


class _Names(msgspec.Struct):
    snapshots: list[str]


class PeerStore:
    """A ``SnapshotStore`` that is only read."""

    def __init__(self, url: str, key: str) -> None:
        """Ask the server at ``url``.

        Args:
            url: Of the server, without a path.
            key: From ``peer_key``.
        """
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"}

    @property
    def address(self) -> str:
        """URL of the peer."""
        return self._url

    def folders(self) -> Sequence[str]:
        """Return the snapshots of the peer."""
        content = b""
        for piece in self._stream(PATH, "", ""):
            content += piece
            if len(content) > _LIST_BYTES_MAX:
                raise StoreUnavailable(f"{self._url}: its list of snapshots does not end")
        try:
            return msgspec.json.decode(content, type=_Names).snapshots[:FOLDERS_MAX]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            message = f"{self._url} does not answer as a node of midstream does: {error}"
            raise StoreUnavailable(message) from error

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        """Yield a file in pieces."""
        return self._stream(f"{PATH}/{quote(folder, safe='')}/{quote(name, safe='')}", folder, name)

    def write(self, folder: str, name: str, pieces: Iterable[bytes]) -> None:
        """Refuse: a peer writes its own snapshots."""
        raise StoreUnavailable(f"{self._url}: {folder}/{name} cannot be stored, a peer is only read")

    def remove(self, folder: str, last: str) -> None:
        """Refuse: a peer removes its own snapshots."""
        raise StoreUnavailable(f"{self._url}: {folder} cannot be removed, a peer is only read")

    def _stream(self, path: str, folder: str, name: str) -> Iterator[bytes]:
        import httpx

        timeout = httpx.Timeout(SILENCE_S_MAX, connect=CONNECT_S_MAX)
        try:
            with httpx.stream("GET", f"{self._url}{path}", headers=self._headers, timeout=timeout) as answer:
                if answer.status_code == HTTPStatus.NOT_FOUND and name:
                    raise missing(self._url, folder, name)
                if answer.status_code != HTTPStatus.OK:
                    raise StoreUnavailable(f"{self._url}: {path} answers {answer.status_code}")
                yield from answer.iter_bytes(READ_BYTES)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            message = f"{self._url}: {type(error).__name__}: {error}"
            raise StoreUnavailable(message) from error
