"""File of the API keys of a data folder: read as a whole, replaced as a whole, changed under a lock.

The command line changes it while a server runs, and each process of the server looks at it again twice a second. A file
was chosen over a database since it has a few keys, is read whole, and a server needs one ``stat`` to see that nothing
changed.
"""

import fcntl
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec.structs import asdict, replace

from midstream.core.errors import ConfigInvalid, Fault, KeysUnreadable, NotFound, Overloaded
from midstream.events.file_modes import keep_owner, make_folder, open_file
from midstream.events.whole_file import WholeFile
from midstream.serving.access.api_keys import (
    KEYS_MAX,
    LIFE_MS_MAX,
    OPERATOR_ID,
    PAGE,
    ApiKey,
    KeyWish,
    MadeKey,
    key_text,
    life_fault,
    make_key,
    successor,
)
from midstream.serving.access.key_sessions import KeySession, session_digest, with_session, without_session

T = TypeVar("T")
FILE_NAME: Final = "keys.json"
_LOCK_NAME: Final = "keys.lock"
LOCK_S_MAX: Final = 5.0
"""Wait for the lock. A change takes milliseconds, so one that has it for longer hangs, as on a disk that stalls."""
_LOCK_LOOK_S: Final = 0.01
"""Between two looks whether it is free: a wait in the system's queue has no end of its own."""
_VERSION: Final = 1


class StoredKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the file."""

    operator: str
    """Key of commands of the machine: who can read the file may do everything anyway."""
    keys: tuple[ApiKey, ...]
    version: int = _VERSION
    sessions: tuple[KeySession, ...] = ()
    """Browsers that are signed in, the oldest first."""


_decode = msgspec.json.Decoder(StoredKeys).decode


class KeyFile:
    """The keys of one data folder."""

    def __init__(self, data: Path) -> None:
        """Use the folder ``data``; nothing is read before."""
        self.path = data / FILE_NAME
        self._lock = data / _LOCK_NAME
        self._seen: tuple[int, int, int] | None = None
        self._digests: frozenset[str] = frozenset()

    def read(self) -> StoredKeys | None:
        """Return the keys, None = none was ever made, so nobody is asked for one.

        Raises:
            KeysUnreadable: The file is no file of keys.
            OSError: The disk, or the file is another user's.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return _decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            right = "The file of a backup. Without one remove it and make new keys: midstream keys create"
            raise KeysUnreadable((Fault(str(self.path), f"It cannot be read: {error}.", right, PAGE),)) from error

    def require(self) -> StoredKeys:
        """Return the keys; without a file one is made with the operator's key alone, so that a key is asked for.

        Raises:
            ConfigInvalid: The file is no file of keys.
        """
        stored = self.read()
        if stored is not None:
            return stored
        with self._changing() as (fresh, write):
            write(fresh)
        return fresh

    def create(self, wish: KeyWish, now_ms: int, who: str) -> MadeKey:
        """Add a key.

        Raises:
            ConfigInvalid: The wish cannot be fulfilled, or a live key has the name; every fault is named.
            Overloaded: There are as many keys as may be, or another change has the file for too long.
        """
        made = make_key(wish, now_ms, who)
        with self._changing() as (stored, write):
            _require_free(stored.keys, wish.name, now_ms)
            write(_added(stored, made.stored, now_ms))
        return made

    def revoke(self, name: str, now_ms: int, who: str) -> Sequence[ApiKey]:
        """Revoke the key of an id, or all live keys of a name; return them.

        Raises:
            NotFound: There is none that is live.
            Overloaded: Another change has the file for too long.
        """
        with self._changing() as (stored, write):
            found = _live_of(stored.keys, name, now_ms)
            gone = {each.id: replace(each, revoked_ms=now_ms, revoked_by=who) for each in found}
            write(replace(stored, keys=tuple(gone.get(each.id, each) for each in stored.keys)))
        return tuple(gone.values())

    def rotate(self, name: str, grace_ms: int, now_ms: int, who: str) -> MadeKey:
        """Make a new key in place of the newest live one of a name or an id; the old ones end after ``grace_ms``.

        Raises:
            NotFound: There is none that is live.
            ConfigInvalid: The grace is longer than any key lives.
            Overloaded: There are as many keys as may be, or another change has the file for too long.
        """
        if grace_ms > LIFE_MS_MAX:
            raise ConfigInvalid((life_fault("--grace"),))
        with self._changing() as (stored, write):
            found = _live_of(stored.keys, name, now_ms)
            made = successor(found[-1], now_ms, who)
            end = now_ms + grace_ms
            ending = {each.id: replace(each, expires_ms=min(each.expires_ms or end, end)) for each in found}
            keys = tuple(ending.get(each.id, each) for each in stored.keys)
            write(_added(replace(stored, keys=keys), made.stored, now_ms))
        return made

    def begin_session(self, key_id: str, now_ms: int, before: str = "") -> str:
        """Sign a browser in with a live key; return the token of its session.

        Args:
            key_id: Key that the session stands for.
            now_ms: Wall clock.
            before: Token of a session that ends in the same change; empty = there is none.

        Raises:
            NotFound: No live key has the id.
            Overloaded: Another change has the file for too long.
        """
        with self._changing() as (stored, write):
            (key,) = _live_of([each for each in stored.keys if each.id == key_id], key_id, now_ms)
            live, ending = {each.id for each in stored.keys if each.state(now_ms) == "live"}, session_digest(before)
            kept = [each for each in stored.sessions if each.key_id in live and each.digest != ending]
            token, sessions = with_session(kept, key.id, now_ms)
            write(replace(stored, sessions=sessions))
        return token

    def end_session(self, token: str) -> None:
        """Sign the browser of a token out; a token of no session changes nothing."""
        if session_digest(token) not in self._session_digests():
            return
        with self._changing() as (found, write):
            left = without_session(found.sessions, token)
            if left is not None:
                write(replace(found, sessions=left))

    def _session_digests(self) -> frozenset[str]:
        """Return the hashes of the tokens of all sessions. Cost: a ``stat``, where the file has not changed since."""
        seen = self.stat()
        if seen != self._seen:
            stored = self.read()
            self._digests = frozenset(() if stored is None else (each.digest for each in stored.sessions))
            self._seen = seen
        return self._digests

    def stat(self) -> tuple[int, int, int] | None:
        """Return what tells one content of the file from another, None = there is no file."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    @contextmanager
    def _changing(self) -> Generator[tuple[StoredKeys, Callable[[StoredKeys], None]]]:
        """Give the keys and a function that writes them, while no other process changes them.

        Raises:
            Overloaded: Another one has the lock for longer than ``LOCK_S_MAX``.
        """
        make_folder(self.path.parent)
        lock = open_file(self._lock, os.O_RDWR)
        try:
            keep_owner(lock, self._lock)
            _take(lock)
            stored = self.read() or StoredKeys(key_text(OPERATOR_ID), ())
            yield stored, self._write
        finally:
            os.close(lock)

    def _write(self, changed: StoredKeys) -> None:
        """Replace the file; its owner is that of the folder.

        Without sessions it has no field of theirs: earlier releases refuse a field that they do not know.
        """
        self._seen = None
        told = asdict(changed)
        if not changed.sessions:
            del told["sessions"]
        with WholeFile(self.path) as file:
            keep_owner(file.fileno(), self.path)
            file.write(msgspec.json.format(msgspec.json.encode(told)))


def _take(lock: int) -> None:
    """Take the lock of an open file, which goes with the file.

    Raises:
        Overloaded: Another process has it for longer than ``LOCK_S_MAX``.
    """
    end_s = time.monotonic() + LOCK_S_MAX
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= end_s:
                message = f"Another change has the file of keys for more than {LOCK_S_MAX:g} s; nothing was changed."
                raise Overloaded(message) from error
            time.sleep(_LOCK_LOOK_S)
        else:
            return


def _require_free(keys: Sequence[ApiKey], name: str, now_ms: int) -> None:
    taken = next((each for each in keys if each.id == name), None)
    taken = taken or next((each for each in keys if each.name == name and each.state(now_ms) == "live"), None)
    if taken is not None:
        came = f"{name} is the name or the id of the key {taken.id}."
        right = f"Another name; or midstream keys rotate {name}, which makes a new key in its place."
        raise ConfigInvalid((Fault("NAME", came, right, PAGE),))


def _added(stored: StoredKeys, key: ApiKey, now_ms: int) -> StoredKeys:
    """Return the keys with one more; the oldest dead ones make room."""
    keys = stored.keys
    if len(keys) >= KEYS_MAX:
        dead = next((each for each in keys if each.state(now_ms) != "live"), None)
        if dead is None:
            message = f"There are {KEYS_MAX} live keys; revoke those that are not needed."
            raise Overloaded(message)
        keys = tuple(each for each in keys if each is not dead)
    return replace(stored, keys=(*keys, key))


def _live_of(keys: Sequence[ApiKey], name: str, now_ms: int) -> Sequence[ApiKey]:
    """Return the live keys of an id or a name.

    Raises:
        NotFound: There is none.
    """
    live = [each for each in keys if each.state(now_ms) == "live"]
    found = [each for each in live if each.id == name] or [each for each in live if each.name == name]
    if not found:
        message = f"No live key has the name or the id {name[:100]}; midstream keys list shows them"
        raise NotFound(message)
    return found


def operator_key(data: Path) -> str:
    """Return the key that a command of this machine sends to the folder's server; empty = it asks for none.

    Raises:
        ConfigInvalid: The file is no file of keys.
        PermissionError: It is another user's.
    """
    stored = KeyFile(data).read()
    return "" if stored is None else stored.operator


def read_or_changed(act: Callable[[], T]) -> T:
    """Return what an act of a request on the file of keys returns.

    Raises:
        KeysUnreadable: The file is damaged, or the disk fails.
    """
    try:
        return act()
    except OSError as error:
        right = "A file of keys that the user of the server may read and write, with room on its disk."
        raise KeysUnreadable((Fault(str(error.filename or "keys.json"), f"{error.strerror}.", right, PAGE),)) from error
