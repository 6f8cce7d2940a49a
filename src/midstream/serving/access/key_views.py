"""Views of API keys: what lists, routes and pages show of them, without a secret and without the hash of one."""

from collections.abc import Mapping, Sequence

import msgspec

from midstream.serving.access.api_keys import ApiKey


class KeyView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key as it is shown."""

    id: str
    name: str
    state: str
    """``live``, ``expired`` or ``revoked``."""
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


class KeyList(msgspec.Struct, frozen=True):
    """Keys in the order in which they were made."""

    keys: tuple[KeyView, ...]


class NewKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key that was just made, with its secrets, which nobody is shown again."""

    key: str
    view: KeyView
    user_secret: str = ""
    """Of a browser key: what the shop's own server signs tokens of users with."""


def key_views(keys: Sequence[ApiKey], now_ms: int, uses: Mapping[str, int] | None = None) -> list[KeyView]:
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
