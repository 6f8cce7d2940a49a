"""Keys in memory: from the text of a key to its caller in microseconds, with the file looked at again twice a second.

A revoked key is refused half a second later at the latest, in every process. A key that is not known has the file
looked at before it is refused, so a new one is taken at once. A file that is gone or damaged opens nothing: of a
damaged one what was read before holds, which is a concern of health, and with the file gone all are refused.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final, TypeAlias

from midstream.core.errors import ConfigInvalid
from midstream.core.tracebacks import raised_of
from midstream.engine.listeners import Concern, Listener
from midstream.monitoring.fact_logger import log_fact
from midstream.monitoring.facts import Fact
from midstream.serving.access.api_keys import OPERATOR_ID, PREFIX, ApiKey
from midstream.serving.access.key_file import KeyFile, StoredKeys
from midstream.serving.access.key_sessions import session_digest
from midstream.serving.access.key_uses import KeyUses
from midstream.serving.access.scopes import ADMIN, RECOMMEND

_TEXT: Final = f"{PREFIX}_"
LOOK_S: Final = 0.5
"""Between two looks at the file: a ``stat`` of 2 µs."""
KEY_WHO: Final = "key"
"""Callers with a key of the file, before its id."""
OPERATOR_WHO: Final = "cli"
"""Commands of the machine, behind which the user stands."""
_LISTENER: Final = "keys"
_FLAW: Final = "the file of API keys cannot be read: the keys that were read before hold, and no other"
_NO_DIGEST: Final = bytes(hashlib.sha256().digest_size)
"""What an unknown id is compared with, so that it takes as long as a known one."""


@dataclass(frozen=True, slots=True, eq=False)
class KnownKey:
    """A key as it is looked up."""

    digest: bytes
    who: str
    scopes: frozenset[str]
    placements: frozenset[str]
    expires_ms: int
    stored: ApiKey | None
    """None = the operator's, or a token of an identity provider."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyRing:
    """The keys that were read from the file."""

    by_id: Mapping[str, KnownKey]
    origins: frozenset[bytes]
    """Of all live browser keys: requests of their pages are let in to be judged by their key."""
    sessions: Mapping[str, tuple[int, KnownKey]]
    """Hash of the token of each session → when it ends and the live key that it stands for."""

    def find(self, key: str, now_ms: int) -> KnownKey | None:
        """Return the key of a text, None = there is none, or it is expired or revoked."""
        prefix, _, rest = key.partition("_")
        found = self.by_id.get(rest.partition("_")[0])
        digest = hashlib.sha256(key.encode(errors="replace")).digest()
        is_right = compare_digest(digest, _NO_DIGEST if found is None else found.digest)
        if found is None or not is_right or prefix != PREFIX:
            return None
        return None if found.expires_ms and now_ms >= found.expires_ms else found

    def of_session(self, token: str, now_ms: int) -> KnownKey | None:
        """Return the key that the token of a session stands for, None = there is none, or either has ended."""
        ends_ms, found = self.sessions.get(session_digest(token), (0, None))
        if found is None or now_ms >= ends_ms:
            return None
        return None if found.expires_ms and now_ms >= found.expires_ms else found

    def user_secrets(self, key: ApiKey, now_ms: int) -> Iterator[str]:
        """Yield the user secrets of the live keys of a key's name: while one takes the other's place both hold.

        Cost: linear in the keys; who takes none pays nothing.
        """
        live = (each.stored for each in self.by_id.values() if each.stored is not None)
        return (each.user_secret for each in live if each.name == key.name and each.state(now_ms) == "live")


def ring_of(stored: StoredKeys, now_ms: int) -> KeyRing:
    """Return the keys of a file that are live."""
    operator = hashlib.sha256(stored.operator.encode()).digest()
    known = {OPERATOR_ID: KnownKey(operator, OPERATOR_WHO, frozenset({ADMIN}), frozenset(), 0, None)}
    live = [each for each in stored.keys if each.state(now_ms) == "live"]
    for each in live:
        placements = frozenset(name.partition(":")[2] for name in each.scopes if name.startswith(f"{RECOMMEND}:"))
        scopes = frozenset(RECOMMEND if name.startswith(f"{RECOMMEND}:") else name for name in each.scopes)
        if RECOMMEND in each.scopes or ADMIN in each.scopes:
            placements = frozenset[str]()
        digest = bytes.fromhex(each.digest)
        known[each.id] = KnownKey(digest, f"{KEY_WHO}:{each.id}", scopes, placements, each.expires_ms, each)
    sessions = {each.digest: (each.ends_ms, known[each.key_id]) for each in stored.sessions if each.key_id in known}
    return KeyRing(known, frozenset(origin.encode() for each in live for origin in each.origins), sessions)


NOBODY: Final = KeyRing({}, frozenset(), {})
Find: TypeAlias = Callable[[KeyRing, int], KnownKey | None]
"""Looks a key up in a ring, as of a time."""
Identify: TypeAlias = Callable[[str], Awaitable[KnownKey | None]]
"""What a token of an identity provider allows; None = it is none that is right."""


class KeyWatch:
    """The keys of a data folder as of half a second ago at most."""

    def __init__(
        self,
        file: KeyFile,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        uses: KeyUses | None = None,
        *,
        is_closed: bool = False,
        tokens: Identify | None = None,
    ) -> None:
        """Read the file.

        Args:
            file: Of the keys.
            clock: Seconds that never go back.
            wall_ms: Milliseconds since 1970.
            uses: Notes when keys are used; None = nobody does.
            is_closed: The server asks for keys already, so a missing file opens nothing.
            tokens: Of an identity provider; None = only keys of the file are taken.

        Raises:
            ConfigInvalid: The file is no file of keys.
        """
        self._file = file
        self._clock = clock
        self.wall_ms = wall_ms
        self._uses = uses
        self._tokens = tokens
        self._next = clock() + LOOK_S
        self._seen = self._file.stat()
        stored = file.read()
        self._ring = (NOBODY if is_closed else None) if stored is None else ring_of(stored, wall_ms())
        self._flaw = ""

    @property
    def flaw(self) -> str:
        """Why keys that were made since are not known, in words that anybody may read; empty = they are."""
        self.ring()
        return self._flaw

    @property
    def listener(self) -> Listener:
        """Concern of health."""
        return Listener(name=_LISTENER, concern=lambda: Concern(_LISTENER, self.flaw))

    @property
    def asks(self) -> bool:
        """Whether a key is asked for."""
        return self.ring() is not None

    def ring(self) -> KeyRing | None:
        """Return the keys, None = none was ever made, so nobody is asked for one."""
        now = self._clock()
        if now >= self._next:
            self._next = now + LOOK_S
            self._look(again=bool(self._flaw))
        return self._ring

    def look_now(self) -> KeyRing | None:
        """Return the keys of the file as it is now. Cost: 2 µs, where it has not changed."""
        self._look(again=False)
        return self._ring

    def identify(self, ring: KeyRing, key: str) -> KnownKey | None:
        """Return the key of a text and note its use, None = there is none, or it is expired or revoked."""
        return self._noted(lambda known, now_ms: known.find(key, now_ms), ring, is_new=key.startswith(_TEXT))

    def identify_session(self, ring: KeyRing, token: str) -> KnownKey | None:
        """Return the key that the token of a session stands for and note its use, None = there is none that is live."""
        return self._noted(lambda known, now_ms: known.of_session(token, now_ms), ring, is_new=bool(token))

    def _noted(self, find: Find, ring: KeyRing, *, is_new: bool) -> KnownKey | None:
        """Return the key that is found, in the file as it is now where it may be new, and note its use."""
        now_ms = self.wall_ms()
        found = find(ring, now_ms)
        if found is None and is_new:
            newer = self.look_now()
            found = None if newer is None or newer is ring else find(newer, now_ms)
        if found is not None and found.stored is not None and self._uses is not None:
            self._uses.note(found.stored.id, now_ms)
        return found

    async def identify_token(self, token: str) -> KnownKey | None:
        """Return what a token of an identity provider allows, None = it is none that is right."""
        return None if self._tokens is None else await self._tokens(token)

    def _look(self, *, again: bool) -> None:
        """Read the file, if it is another one, or ``again`` because it could not be read."""
        seen = self._file.stat()
        if seen == self._seen and not again:
            return
        self._seen = seen
        try:
            stored = self._file.read()
        except (ConfigInvalid, OSError) as error:
            log_fact(Fact("keys_unreadable", "error", raised=raised_of(error)))
            self._ring, self._flaw = self._ring or NOBODY, _FLAW
            return
        self._flaw = ""
        if stored is not None:
            self._ring = ring_of(stored, self.wall_ms())
        elif self._ring is not None:
            self._ring = NOBODY
