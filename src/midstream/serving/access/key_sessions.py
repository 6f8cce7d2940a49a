"""Sessions of API keys in browsers: random tokens that stand for a key, each kept as its hash beside the keys.

A browser keeps no key. A token opens every route of this folder that its key opens, for half a day: a session begins
with a key alone, and none makes itself longer. It ends by itself, with its key, and when its person signs out. The
sessions lie in the file of keys, so that every process of a server knows them and a restart ends none. A key has a
bounded number of them, and its oldest one makes room, so that the holder of one key ends no session of another. Those
of keys that are no longer live leave the file when the next one begins.
"""

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

SESSION_S_MAX: Final = 12 * 3_600
"""Life of a session: a day of work."""
SESSIONS_OF_KEY_MAX: Final = 10
"""Browsers that are signed in with one key: 130 bytes each, so 1.3 MB with the maximum of live keys."""
_TOKEN_BYTES: Final = 32


class KeySession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One browser that is signed in; times are milliseconds of the wall clock."""

    digest: str
    """SHA-256 of the token, hexadecimal."""
    key_id: str
    ends_ms: int


def session_digest(token: str) -> str:
    """Return the hash of a token."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def with_session(sessions: Iterable[KeySession], key_id: str, now_ms: int) -> tuple[str, tuple[KeySession, ...]]:
    """Return a new token of a key, and the sessions with the one that it opens, the oldest first.

    Sessions that have ended are left out.

    Args:
        sessions: So far, the oldest first.
        key_id: Key that the token stands for.
        now_ms: Wall clock.
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    live = [each for each in sessions if each.ends_ms > now_ms]
    own = [each for each in live if each.key_id == key_id]
    gone = own[: max(0, len(own) - SESSIONS_OF_KEY_MAX + 1)]
    session = KeySession(session_digest(token), key_id, now_ms + SESSION_S_MAX * 1_000)
    return token, (*(each for each in live if each not in gone), session)


def without_session(sessions: Sequence[KeySession], token: str) -> tuple[KeySession, ...] | None:
    """Return the sessions without that of a token, None = none has it."""
    digest = session_digest(token)
    left = tuple(each for each in sessions if each.digest != digest)
    return None if len(left) == len(sessions) else left
