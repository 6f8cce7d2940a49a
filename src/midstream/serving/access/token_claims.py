"""Claims of tokens of an identity provider: the caller and its scopes, and what of the options cannot be right."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit

from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.serving.access.identity_options import IdentityOptions
from midstream.serving.access.key_ring import KnownKey
from midstream.serving.access.scopes import SCOPES
from midstream.serving.options import is_loopback

PAGE: Final = "/docs/security.md#tokens-of-an-identity-provider"
_WHO_MAX: Final = 64


def identity_faults(options: IdentityOptions) -> Iterator[Fault]:
    """Yield what is wrong with the section; without an issuer nothing else of it counts."""
    if not options.is_on:
        return
    if not options.audience:
        right = "The name of this server at the provider: without it a token for another program would open this one."
        yield Fault("$.identity.audience", "None came.", right, PAGE)
    if not options.keys:
        yield Fault("$.identity.keys", "None came.", "An https address of a JWKS document, or a file of one.", PAGE)
    elif options.keys.lower().startswith("http://") and not is_loopback(urlsplit(options.keys).hostname or ""):
        right = "An https address: who changes keys on the way signs what he wants."
        yield Fault("$.identity.keys", f'"{options.keys[:200]}" came.', right, PAGE)
    if not options.algorithms:
        yield Fault("$.identity.algorithms", "None came.", "One or more, such as RS256.", PAGE)
    if not options.scopes:
        right = 'A table of the claim\'s values, such as scopes = { shop-admin = ["admin"] }.'
        yield Fault("$.identity.scopes", "None came, so no token would allow anything.", right, PAGE)
    for value, scopes in options.scopes.items():
        for at, scope in enumerate(scopes):
            if scope not in SCOPES:
                came = f'"{scope[:64]}" is not a scope.{nearest(scope, SCOPES)}'
                yield Fault(f"$.identity.scopes.{value}[{at}]", came, f"One of: {', '.join(SCOPES)}.", PAGE)


def caller_key(options: IdentityOptions, claims: Mapping[str, Any]) -> KnownKey:
    """Return what a token whose signature is right allows.

    Args:
        options: Which claim has the rights, and what they are here.
        claims: Of the token, with ``sub`` and ``exp``.
    """
    values = _values(claims, options.scope_claim)
    scopes = frozenset(scope for value in values for scope in options.scopes.get(value, ()))
    who = f"token:{_printable(str(claims['sub']))}"
    return KnownKey(b"", who, scopes, frozenset(), int(claims["exp"] * 1_000), None)


def _values(claims: Mapping[str, Any], path: str) -> list[str]:
    """Return the rights in a claim; a name with dots in it is found before the way into an object is."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for name in path.split("."):
            found = cast("Mapping[str, Any]", found).get(name) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return found.split()
    return [each for each in cast("list[object]", found) if isinstance(each, str)] if isinstance(found, list) else []


def _printable(subject: str) -> str:
    """Return a subject as it stands in audits: ASCII without spaces, so that no log or page reads it as its own."""
    kept = "".join(each for each in subject if each.isascii() and (each.isalnum() or each in "._-@|"))
    if kept == subject and len(kept) <= _WHO_MAX:
        return kept
    # Two subjects are two callers, in audits and for quotas, also where what differs is left out.
    return f"{kept[: _WHO_MAX - 9]}~{hashlib.sha256(subject.encode(errors='replace')).hexdigest()[:8]}"
