"""API keys of a folder: made, listed, revoked, also while a server has the folder open, which sees it in a second."""

import getpass
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from midstream.app.opening import DATA_NAME
from midstream.serving.access.api_keys import ApiKey, KeyWish, MadeKey
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_uses import uses_of


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
    last_used_ms: int = 0
    """To a minute; 0 = it was not used."""


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
    return views_of(() if stored is None else stored.keys, _now_ms(), uses_of(folder / DATA_NAME))


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
    return views_of(_file(folder).revoke(name, now_ms, _who()), now_ms)


def views_of(keys: Sequence[ApiKey], now_ms: int, uses: Mapping[str, int] | None = None) -> list[KeyView]:
    """Return keys as they are shown, with the times at which they were last used."""
    shown = frozenset(KeyView.__struct_fields__) - {"state", "last_used_ms"}
    return [
        KeyView(
            state=each.state(now_ms),
            last_used_ms=(uses or {}).get(each.id, 0),
            **{name: getattr(each, name) for name in shown},
        )
        for each in keys
    ]


def _file(folder: Path) -> KeyFile:
    return KeyFile(folder / DATA_NAME)


def _who() -> str:
    return f"cli:{getpass.getuser()}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
