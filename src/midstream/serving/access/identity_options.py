"""Options of tokens of an identity provider: issuer, audience, where its keys are, and which scopes claims give.

Reference: Jones, Bradley and Sakimura, RFC 7519, JSON Web Token, 2015; Jones, RFC 7517, JSON Web Key, 2015 (sets of
keys); Bertocci, RFC 9068, JWT Profile for OAuth 2.0 Access Tokens, 2021 (issuer, audience and scope claim).
"""

from typing import Annotated, Final, Literal

import msgspec

from midstream.core.durations import Duration
from midstream.core.field_bounds import Between

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures under a public key. Those under a shared secret (HS256) are none of them: who checks could also sign."""
Text = Annotated[str, msgspec.Meta(max_length=2_048)]
_SCHEMES: Final = ("https://", "http://")


class IdentityOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[identity]`` part of the configuration: JSON Web Tokens of an identity provider beside API keys."""

    issuer: Text = ""
    """Claim iss of the tokens, such as https://id.example/realms/shop; empty = tokens are not taken."""
    audience: Text = ""
    """Claim aud of the tokens: the name of this server at the provider."""
    keys: Text = ""
    """Public keys of the provider (JWKS): an https address, or a file beside midstream.toml."""
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256")
    """Signatures that are taken, whatever a token says of itself."""
    scope_claim: Text = "scope"
    """Claim with the caller's rights: a list, or a text with spaces between; dots lead into objects, as in
    realm_access.roles."""
    scopes: dict[str, tuple[str, ...]] = {}
    """Scopes of API keys that each value of that claim gives, such as shop-admin = ["admin"]."""
    refresh: Annotated[Duration, Between("1m", "1d")] = Duration("1h")
    """Age at which the provider's keys are read again."""
    wait_max: Annotated[Duration, Between("10ms", "1m")] = Duration("2s")
    """Longest wait for the provider's keys, by a request whose key is not known yet."""

    @property
    def is_on(self) -> bool:
        """Whether tokens are taken."""
        return bool(self.issuer)

    @property
    def is_remote(self) -> bool:
        """Whether the keys are at an address, and not in a file."""
        return self.keys.lower().startswith(_SCHEMES)
