"""API keys as they are stored: what each may do, and the hash of its secret.

A key is ``ms_ID_SECRET`` with 256 random bits in the secret. It is shown once. What is kept is its SHA-256: nobody can
try 2^256 secrets, so a slow hash such as Argon2 would protect nothing, and cost each request what a slate costs. Slow
hashes are for secrets that people choose.
"""

import hashlib
import re
import secrets
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.nearest import nearest
from midstream.serving.access.scopes import BROWSER_SCOPES, RECOMMEND, SCOPES

PAGE: Final = "/docs/security.md#api-keys"
PREFIX: Final = "ms"
OPERATOR_ID: Final = "operator"
"""Id of the key that commands of the machine use."""
KEYS_MAX: Final = 1_000
"""Revoked and expired ones included; the file is read and written as a whole: 300 KiB."""
NAME_MAX: Final = 64
LIFE_MS_MAX: Final = 36_500 * 86_400_000
"""A hundred years: times beyond the year 9999 have no text."""
ORIGINS_MAX: Final = 20
_ID_BYTES: Final = 4
_SECRET_BYTES: Final = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PLACEMENT = re.compile(r"[^\s:]{1,64}")


class ApiKey(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One key; times are milliseconds of the wall clock, 0 = never."""

    id: str
    """Its public part, which stands in audits and lists."""
    name: str
    digest: str
    """SHA-256 of the whole key, hexadecimal."""
    scopes: tuple[str, ...]
    created_ms: int
    created_by: str
    expires_ms: int = 0
    revoked_ms: int = 0
    revoked_by: str = ""
    quota_per_second: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Requests a second; 0 = the quota of ``[server]``."""
    quota_burst: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Requests at once; 0 = those of a second."""
    origins: tuple[str, ...] = ()
    """Pages that may use it; with any it is a browser key, which is public."""
    user_secret: str = ""
    """Of a browser key: secret under which the shop's own server signs tokens of users. It is kept as it is, since the
    same secret makes a signature and checks it."""

    @property
    def is_browser(self) -> bool:
        """Whether it is public."""
        return bool(self.origins)

    def state(self, now_ms: int) -> str:
        """Return ``live``, ``expired`` or ``revoked``."""
        if self.revoked_ms:
            return "revoked"
        return "expired" if self.expires_ms and now_ms >= self.expires_ms else "live"


class KeyWish(msgspec.Struct, frozen=True):
    """What a new key is to be."""

    name: str
    scopes: tuple[str, ...]
    expires_in_ms: int = 0
    """0 = it does not expire."""
    quota_per_second: float = 0.0
    quota_burst: int = 0
    origins: tuple[str, ...] = ()


class MadeKey(msgspec.Struct, frozen=True):
    """A new key with its secrets, which nobody is shown again."""

    key: str
    stored: ApiKey
    user_secret: str = ""


def key_text(key_id: str) -> str:
    """Return a new key with an id."""
    return f"{PREFIX}_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def digest_of(key: str) -> str:
    """Return the hash of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def make_key(wish: KeyWish, now_ms: int, who: str) -> MadeKey:
    """Return a new key.

    Raises:
        ConfigInvalid: The wish cannot be fulfilled; every fault is named.
    """
    if faults := wish_faults(wish):
        raise ConfigInvalid(faults)
    key_id = secrets.token_hex(_ID_BYTES)
    key = key_text(key_id)
    user_secret = secrets.token_urlsafe(_SECRET_BYTES) if wish.origins else ""
    stored = ApiKey(
        id=key_id,
        name=wish.name,
        digest=digest_of(key),
        scopes=tuple(sorted(set(wish.scopes))),
        created_ms=now_ms,
        created_by=who,
        expires_ms=now_ms + wish.expires_in_ms if wish.expires_in_ms else 0,
        quota_per_second=wish.quota_per_second,
        quota_burst=wish.quota_burst,
        origins=tuple(each.lower() for each in wish.origins),
        user_secret=user_secret,
    )
    return MadeKey(key, stored, user_secret)


def successor(key: ApiKey, now_ms: int, who: str) -> MadeKey:
    """Return a new key that may do what another one may, for as long a time from now on."""
    life_ms = key.expires_ms - key.created_ms if key.expires_ms else 0
    wish = KeyWish(key.name, key.scopes, life_ms, key.quota_per_second, key.quota_burst, key.origins)
    return make_key(wish, now_ms, who)


def wish_faults(wish: KeyWish) -> tuple[Fault, ...]:
    """Return what is wrong with a wish, with the options of the command as places."""
    faults: list[Fault] = []
    if not _NAME.fullmatch(wish.name):
        right = f"Up to {NAME_MAX} letters, digits, dots, hyphens and underscores, such as shop-backend."
        faults.append(Fault("NAME", f"{wish.name[:NAME_MAX]!r} came.", right, PAGE))
    if not wish.scopes:
        faults.append(Fault("--scope", "None came.", f"One or more of: {', '.join(SCOPES)}.", PAGE))
    faults.extend(fault for each in wish.scopes if (fault := _scope_fault(each)) is not None)
    if wish.expires_in_ms > LIFE_MS_MAX:
        faults.append(life_fault("--expires"))
    if wish.origins:
        faults.extend(fault for each in wish.origins if (fault := _origin_fault(each)) is not None)
        verbs = {each.partition(":")[0] if each.startswith(f"{RECOMMEND}:") else each for each in wish.scopes}
        if further := sorted(verbs - BROWSER_SCOPES):
            right = f"{' and '.join(sorted(BROWSER_SCOPES))}: everybody who opens the page has the key."
            faults.append(Fault("--scope", f"A browser key with {', '.join(further)} came.", right, PAGE))
    if len(wish.origins) > ORIGINS_MAX:
        faults.append(Fault("--origin", f"{len(wish.origins)} came.", f"At most {ORIGINS_MAX}.", PAGE))
    return tuple(faults)


def life_fault(where: str) -> Fault:
    """Return the fault of a time that is too long."""
    return Fault(where, "More than a hundred years came.", "A duration up to 36500d.", PAGE)


def _scope_fault(scope: str) -> Fault | None:
    if scope in SCOPES:
        return None
    verb, _, placement = scope.partition(":")
    if verb == RECOMMEND and _PLACEMENT.fullmatch(placement):
        return None
    came = f'"{scope[:NAME_MAX]}" is not a scope.{nearest(scope, SCOPES)}'
    return Fault("--scope", came, f"One of: {', '.join(SCOPES)}; or {RECOMMEND}:PLACEMENT.", PAGE)


def _origin_fault(origin: str) -> Fault | None:
    """Return the fault of an origin: scheme, host and port, as a browser sends it."""
    try:
        parts = urlsplit(origin)
        rest = (parts.path, parts.query, parts.fragment, parts.username)
        is_right = parts.scheme in {"http", "https"} and parts.hostname and not any(rest) and parts.port != 0
    except ValueError:
        is_right = False
    if is_right and origin.isascii() and not origin.endswith("/"):
        return None
    return Fault("--origin", f'"{origin[:200]}" is no origin.', "Such as https://shop.example, without a path.", PAGE)
