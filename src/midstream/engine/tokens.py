"""Opaque texts that callers carry: log positions, and request ids that cannot be forged."""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable
from hashlib import blake2b
from struct import Struct
from struct import error as WrongLength  # noqa: N812  struct names its exception in lower case

from midstream.core.errors import Fault, RequestInvalid
from midstream.core.types import LogPosition

_POSITION = Struct(">IQ")
_RANDOM_BYTES = 16
_TAG_BYTES = 8
_DASH = 62
"""The first six bits of what is written as ``-``."""
_FORM = re.compile(r"[A-Za-z0-9_-]{32}")
"""Of a request id: random part and tag are 24 bytes, so no padding ends it."""
_SEALED = b"sealed"
"""A forger needs 2^63 tries on average, each of them a request."""


def position_token(generation: int, position: int) -> str:
    """Return the text of a log position: 16 characters that say nothing to a caller."""
    return urlsafe_b64encode(_POSITION.pack(generation, position)).decode()


def parse_position(token: str, generation: int, end: int) -> LogPosition | None:
    """Return the log position of a token that this log gave out, None when it is of another generation.

    Then nothing is known of the events that it names: the log was rewritten, repaired or restored from a backup since.
    Whoever hands it back made no mistake, so that is no error.

    Args:
        token: What ``position_token`` made.
        generation: Of the log now.
        end: Position after the last durable or queued event; nothing beyond it was ever given out.

    Raises:
        RequestInvalid: Not such a text, or of the future.
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
    """Return whether a text looks like a request id of any engine: it need not know the key, and proves nothing."""
    return _FORM.fullmatch(request_id) is not None


class RequestIds:
    """Makes and knows request ids: 128 random bits and a 64-bit keyed tag, 32 characters of URL-safe text.

    None begins with ``-``, which a command would take for an option.
    """

    def __init__(self, key: bytes, entropy: Callable[[int], bytes]) -> None:
        """Use ``key`` (32 bytes, secret) for tags and ``entropy`` for the random part."""
        self._key = key
        self._entropy = entropy

    def make(self) -> tuple[str, int]:
        """Return a new request id and a seed of 63 bits that goes with it."""
        random = self._entropy(_RANDOM_BYTES)
        if random[0] >> 2 == _DASH:
            random = bytes(0xFF ^ each for each in random)
        seed = int.from_bytes(random[:8], "little") >> 1
        return urlsafe_b64encode(random + self._tag(random)).decode(), seed

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
        """Return bytes as URL-safe text that nobody else can make; a request id is none of them, nor the other way."""
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
