"""Opaque texts that callers carry: log positions, and request ids that cannot be forged."""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from binascii import b2a_base64
from collections.abc import Callable
from hashlib import blake2b
from struct import Struct
from struct import error as WrongLength  # noqa: N812  struct names its exception in lower case

from midstream.core.errors import Fault, RequestInvalid
from midstream.core.types import LogPosition

_POSITION = Struct(">IQ")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_RANDOM_BYTES = 16
_TAG_BYTES = 8
_DASH = 62
"""The first six bits of what is written as ``-``."""
_FORM = re.compile(r"[A-Za-z0-9_-]{32}")
"""Of a request id: random part and tag are 24 bytes, so no padding ends it."""
_SEALED = b"sealed"
"""A forger needs 2^63 attempts on average, each of them a request."""


def position_token(generation: int, position: int) -> str:
    """Return the opaque text of a log position: 16 characters."""
    # As ``urlsafe_b64encode``, in half of its calls: each event's answer has one.
    return b2a_base64(_POSITION.pack(generation, position), newline=False).translate(_URL_SAFE).decode()


def parse_position(token: str, generation: int, end: int) -> LogPosition | None:
    """Return the log position of a token of this log, None when it is of another generation.

    The log was rewritten, repaired or restored from a backup since, so nothing is known of those events. That is no
    error of the caller.

    Args:
        token: From ``position_token``.
        generation: Of the current log.
        end: Position after the last durable or queued event; no token is beyond it.

    Raises:
        RequestInvalid: No such text, or a position in the future.
    """
    try:
        found, position = _POSITION.unpack(urlsafe_b64decode(token.encode()))
    except (NotBase64, ValueError, WrongLength) as error:
        raise _bad_token(token, "is not a log position") from error
    if found != generation:
        return None
    if position > end:
        raise _bad_token(token, "is a log position of the future")
    return LogPosition(position)


def _bad_token(token: str, why: str) -> RequestInvalid:
    right = "The log_position of an answer to POST /v1/events, or the applied_log_position of a slate."
    return RequestInvalid((Fault("/min_log_position", f"{token[:40]!r} {why}.", right, "/docs/http.md"),))


def has_form(request_id: str) -> bool:
    """Return whether a text has the form of a request id of any engine; without the key this proves nothing."""
    return _FORM.fullmatch(request_id) is not None


class RequestIds:
    """Makes and verifies request ids: 128 random bits and a 64-bit keyed tag, 32 characters of URL-safe text.

    None begins with ``-``, which a command would take for an option.
    """

    def __init__(self, key: bytes, entropy: Callable[[int], bytes]) -> None:
        """Use ``key`` (32 bytes, secret) for tags and ``entropy`` for the random part."""
        self._key = key
        self._entropy = entropy
        self._keyed = blake2b(digest_size=_TAG_BYTES, key=key)

    def make(self) -> tuple[str, int]:
        """Return a new request id and a seed of 63 bits that goes with it."""
        random = self._entropy(_RANDOM_BYTES)
        if random[0] >> 2 == _DASH:
            random = bytes(0xFF ^ each for each in random)
        seed = int.from_bytes(random[:8], "little") >> 1
        tag = self._keyed.copy()
        tag.update(random)
        return urlsafe_b64encode(random + tag.digest()).decode(), seed

    def are_ours(self, request_id: str) -> bool:
        """Return whether the tag was made with this key."""
        try:
            raw = urlsafe_b64decode(request_id.encode())
        except (NotBase64, ValueError):
            return False
        random, tag = raw[:_RANDOM_BYTES], raw[_RANDOM_BYTES:]
        # The decoder passes over what is not base64, and a text with such in it names no record.
        is_exact = urlsafe_b64encode(raw) == request_id.encode()
        return is_exact and hmac.compare_digest(tag, self._tag(random))

    def sealed(self, content: bytes) -> str:
        """Return bytes as URL-safe text with a keyed tag; request ids and sealed texts never verify as each other."""
        return urlsafe_b64encode(content + self._tag(content, _SEALED)).decode()

    def unsealed(self, text: str) -> bytes | None:
        """Return the bytes of such a text, None when it was not made with this key."""
        try:
            raw = urlsafe_b64decode(text.encode())
        except (NotBase64, ValueError):
            return None
        content, tag = raw[:-_TAG_BYTES], raw[-_TAG_BYTES:]
        is_exact = urlsafe_b64encode(raw) == text.encode()
        return content if is_exact and hmac.compare_digest(tag, self._tag(content, _SEALED)) else None

    def _tag(self, content: bytes, person: bytes = b"") -> bytes:
        return blake2b(content, digest_size=_TAG_BYTES, key=self._key, person=person).digest()
