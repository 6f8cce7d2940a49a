"""Tokens of users: the shop's own server signs which user a page speaks for, so a page cannot speak for another one.

A token is a JSON Web Token signed by HMAC-SHA-256 under the user secret of a browser key, so any library of a shop
makes one. No other algorithm is taken, whatever the token says of itself.

Reference: Jones, Bradley and Sakimura, RFC 7519, JSON Web Token, 2015; RFC 8725, 3.1 (a verifier names the algorithm).
"""

import base64
import binascii
import hashlib
import hmac
from typing import Annotated, Final

import msgspec

HEADER: Final = b"midstream-user-token"
TOKEN_BYTES_MAX: Final = 2_048
LIFE_S_MAX: Final = 86_400
"""A token that is valid for longer than a day is refused: nobody can take one back."""
_PARTS: Final = 3


class UserClaims(msgspec.Struct, frozen=True):
    """Content of a token."""

    sub: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    """Id of the user."""
    exp: float
    """End in seconds since 1970."""
    sid: str | None = None
    """Id of the user's session, where the shop makes it."""


class _Header(msgspec.Struct, frozen=True):
    alg: str


_claims = msgspec.json.Decoder(UserClaims).decode
_header = msgspec.json.Decoder(_Header).decode


def claims_of(token: bytes, secret: str, now_ms: int) -> UserClaims | None:
    """Return what a token says, None = it is not signed under the secret, is over, or is valid for too long."""
    parts = token.split(b".")
    if len(token) > TOKEN_BYTES_MAX or len(parts) != _PARTS:
        return None
    signed = hmac.digest(secret.encode(), parts[0] + b"." + parts[1], hashlib.sha256)
    try:
        is_right = hmac.compare_digest(_decoded(parts[2]), signed)
        if not is_right or _header(_decoded(parts[0])).alg != "HS256":
            return None
        claims = _claims(_decoded(parts[1]))
    except (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error, ValueError):
        return None
    left_s = claims.exp - now_ms / 1_000
    return claims if 0 < left_s <= LIFE_S_MAX else None


def _decoded(part: bytes) -> bytes:
    """Return the bytes of base64url without padding."""
    return base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
