"""API keys of a folder: made, listed, revoked, also while a server has the folder open, which sees it in a second."""

import getpass
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from midstream.app.opening import DATA_NAME
from midstream.serving.access.api_keys import ApiKey, KeyWish, MadeKey
from midstream.serving.access.key_file import KeyFile


class KeyView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key as it is shown: without a secret, and without the hash of one."""

    id: str
    name: str
    state: str
    scopes: tuple[str, ...]
    created_ms: int
    created_by: str
    expires_ms: int = 0
    revoked_ms: int = 0
    revoked_by: str = ""
    quota_per_second: float = 0.0
    quota_burst: int = 0
    origins: tuple[str, ...] = ()


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
    return views_of(() if stored is None else stored.keys, _now_ms())


def revoke_key(folder: Path, name: str) -> list[KeyView]:
    """Revoke the key of an id, or all live keys of a name; return them.

    Raises:
        NotFound: There is none.
    """
    now_ms = _now_ms()
    return views_of(_file(folder).revoke(name, now_ms, _who()), now_ms)


def views_of(keys: Sequence[ApiKey], now_ms: int) -> list[KeyView]:
    """Return keys as they are shown."""
    shown = frozenset(KeyView.__struct_fields__) - {"state"}
    return [KeyView(state=each.state(now_ms), **{name: getattr(each, name) for name in shown}) for each in keys]


def _file(folder: Path) -> KeyFile:
    return KeyFile(folder / DATA_NAME)


def _who() -> str:
    return f"cli:{getpass.getuser()}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
