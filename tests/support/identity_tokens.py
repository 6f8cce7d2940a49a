"""Tokens of an identity provider for tests: one pair of keys, and right tokens of any audience and rights."""

import json
import time
from functools import cache

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from midstream.serving.access.identity_options import IdentityOptions
from midstream.serving.access.scopes import SCOPES

ISSUER = "https://id.example/realms/shops"
KEYS_NAME = "provider.json"
_NAME = "one"


@cache
def _pair():
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def publish_keys(folder):
    """Write the public key as a provider publishes it, beside a configuration."""
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(_pair().public_key()))
    (folder / KEYS_NAME).write_text(json.dumps({"keys": [{**public, "kid": _NAME, "use": "sig"}]}))


def signed_token(audience, rights, subject="ann"):
    """Return a token that lives for a day; its rights are names of scopes."""
    now, scope = int(time.time()), " ".join(rights)
    claims = {"iss": ISSUER, "aud": audience, "sub": subject, "iat": now, "exp": now + 86_400, "scope": scope}
    return jwt.encode(claims, _pair(), "RS256", headers={"kid": _NAME})


def identity_options(audience):
    """Return options under which each right of a token is the scope of its name."""
    return IdentityOptions(issuer=ISSUER, audience=audience, keys=KEYS_NAME, scopes={each: (each,) for each in SCOPES})


def identity_section(audience):
    """Return the same as a part of a configuration file."""
    scopes = ", ".join(f'"{each}" = ["{each}"]' for each in SCOPES)
    return f'[identity]\nissuer = "{ISSUER}"\naudience = "{audience}"\nkeys = "{KEYS_NAME}"\nscopes = {{ {scopes} }}\n'
