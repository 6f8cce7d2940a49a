"""API keys of a folder: made, listed, revoked, also while a server has the folder open, which sees it in a second."""

import time
from pathlib import Path

from midstream.app.machine_user import machine_user
from midstream.app.opening import DATA_NAME
from midstream.serving.access.api_keys import KeyWish, MadeKey
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_uses import uses_of
from midstream.serving.access.key_views import KeyView, key_views


def create_key(folder: Path, wish: KeyWish) -> MadeKey:
    """Make a key.

    Raises:
        ConfigInvalid: The wish cannot be fulfilled; every fault is named.
        Overloaded: There are as many keys as may be.
    """
    return _file(folder).create(wish, _now_ms(), _who())


def keys_of(folder: Path) -> list[KeyView]:
    """Return all keys, in the order in which they were made.

    Raises:
        ConfigInvalid: The file of keys cannot be read.
    """
    stored = _file(folder).read()
    return key_views(() if stored is None else stored.keys, _now_ms(), uses_of(folder / DATA_NAME))


def rotate_key(folder: Path, name: str, grace_ms: int) -> MadeKey:
    """Make a new key in place of one; the old one is valid for ``grace_ms`` more.

    Raises:
        NotFound: There is none.
    """
    return _file(folder).rotate(name, grace_ms, _now_ms(), _who())


def revoke_key(folder: Path, name: str) -> list[KeyView]:
    """Revoke the key of an id, or all live keys of a name; return them.

    Raises:
        NotFound: There is none.
    """
    now_ms = _now_ms()
    return key_views(_file(folder).revoke(name, now_ms, _who()), now_ms)


def _file(folder: Path) -> KeyFile:
    return KeyFile(folder / DATA_NAME)


def _who() -> str:
    return f"cli:{machine_user()}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
