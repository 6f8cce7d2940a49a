"""Tokens of an identity provider (OpenID Connect): signatures under its published keys, issuer, audience and times.

The keys are read when the first token comes, again by age, and once where a token names a key that is not known. A
provider that does not answer leaves the keys of before in use for a day; without keys no token is right. A token that
was found right is remembered by its hash until it ends, so a caller pays for one signature and not for each request.

Reference: Sheffer, Hardt and Jones, RFC 8725, JSON Web Token Best Current Practices, 2020.
"""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

from midstream.core.errors import ExtraMissing, StoreUnavailable
from midstream.core.tracebacks import raised_of
from midstream.monitoring.fact_logger import log_fact
from midstream.monitoring.facts import Fact
from midstream.serving.access.identity_options import IdentityOptions
from midstream.serving.access.key_ring import KnownKey
from midstream.serving.access.token_claims import caller_key

TOKEN_BYTES_MAX: Final = 8_192
"""A header has 32 KiB for all of it; tokens of providers have 1 to 3."""
TOKENS_MAX: Final = 4_096
"""Right tokens that are remembered: 1.5 MiB."""
DOCUMENT_BYTES_MAX: Final = 262_144
KEYS_MAX: Final = 64
"""Keys of a provider: two or three are in use while one takes the place of another."""
AGE_S_MAX: Final = 86_400
"""After which keys that could not be read again open nothing."""
LIFE_S_MAX: Final = 86_400
"""A token that is valid for longer is refused: nobody can take one back."""
AGAIN_S: Final = 10.0
"""Between two readings that tokens with unknown keys ask for, so that nobody makes this server flood the provider."""
LEEWAY_S: Final = 30
"""By which clocks of provider and server may differ."""
_KINDS: Final = frozenset({"RSA", "EC", "OKP"})
_RSA_BITS_MIN: Final = 2_048
_REQUIRED: Final = ("exp", "iss", "aud", "sub")


class IdentityProvider:
    """The provider of a folder's ``[identity]``: gives callers of tokens."""

    def __init__(
        self, options: IdentityOptions, folder: Path, clock: Callable[[], float], wall_ms: Callable[[], int]
    ) -> None:
        """Read nothing yet.

        Args:
            options: Issuer, audience, keys.
            folder: Where a file of keys is looked for.
            clock: Seconds that never go back.
            wall_ms: Milliseconds since 1970.

        Raises:
            ExtraMissing: PyJWT, or its cryptography, is not installed.
        """
        self._options = options
        self._folder = folder
        self._clock = clock
        self._wall_ms = wall_ms
        self._library = _library()
        self._http = import_module("httpx") if options.is_remote else None  # here: a first request would wait for it
        self._tls = None if self._http is None else self._http.create_ssl_context()
        self._keys: Mapping[str, Any] = {}
        self._read_at = self._tried_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._right: OrderedDict[bytes, KnownKey] = OrderedDict()

    async def identify(self, token: str) -> KnownKey | None:
        """Return what a token allows, None = it is none, is over, or is signed by nobody who is known."""
        if len(token) > TOKEN_BYTES_MAX or token.count(".") != 2:  # noqa: PLR2004  three parts, RFC 7515
            return None
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        known = self._right.get(digest)
        if known is None:
            known = await self._verified(token)
            if known is None:
                return None
            self._right[digest] = known
            if len(self._right) > TOKENS_MAX:
                self._right.popitem(last=False)
        elif self._is_due():
            self._begin()  # beside this answer
        if self._wall_ms() >= known.expires_ms + LEEWAY_S * 1_000 or self._clock() - self._read_at > AGE_S_MAX:
            self._right.pop(digest, None)
            return None
        return known

    async def _verified(self, token: str) -> KnownKey | None:
        try:
            header = self._library.get_unverified_header(token)
        except (self._library.PyJWTError, RecursionError):
            return None
        algorithm, name = header.get("alg"), str(header.get("kid", ""))
        if algorithm not in self._options.algorithms:
            return None
        await self._have(name)
        key = self._key(name, algorithm)
        if key is None:
            return None
        try:
            claims = self._library.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self._options.audience,
                issuer=self._options.issuer,
                leeway=LEEWAY_S,
                options={"require": list(_REQUIRED)},
            )
            known = caller_key(self._options, claims)
            return known if known.expires_ms <= self._wall_ms() + LIFE_S_MAX * 1_000 else None
        except (
            self._library.PyJWTError,
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
        ):  # a claim, or a key, of another kind
            return None

    def _key(self, name: str, algorithm: str) -> Any:  # noqa: ANN401  PyJWT's own
        """Return the key of a name, None = there is none for the algorithm; one alone needs no name."""
        if not name and len(self._keys) == 1:
            (found,) = self._keys.values()
        else:
            found = self._keys.get(name)
        declared = None if found is None else found.declared
        return None if found is None or (declared is not None and declared != algorithm) else found

    async def _have(self, name: str) -> None:
        """Wait, within bounds, for keys that are new enough and have the name."""
        if name in self._keys and not self._is_due():
            return
        is_soon = self._clock() - self._tried_at < AGAIN_S
        if self._reading is None and is_soon:
            return
        self._begin()
        reading = self._reading
        if reading is not None:
            await asyncio.wait({reading}, timeout=self._options.wait_max.ms / 1_000)

    def _is_due(self) -> bool:
        return self._clock() - self._read_at > self._options.refresh.ms / 1_000

    def _begin(self) -> None:
        """Read the keys in a task of their own, which all that wait share."""
        if self._reading is None and self._clock() - self._tried_at >= AGAIN_S:
            self._tried_at = self._clock()
            self._reading = asyncio.get_running_loop().create_task(self._read(), name="midstream-identity-keys")

    async def _read(self) -> None:
        try:
            document = await self._document()
            keys = self._keys_of(document)
        except (OSError, ValueError, TypeError, RecursionError, StoreUnavailable) as error:
            log_fact(Fact("identity_keys_unreadable", "error", raised=raised_of(error)))
        else:
            if {name: key.text for name, key in keys.items()} != {name: key.text for name, key in self._keys.items()}:
                self._right.clear()  # a key that the provider took back is to open nothing
            self._keys = keys
            self._read_at = self._clock()
        finally:
            self._reading = None

    async def _document(self) -> bytes:
        """Return the provider's document.

        Raises:
            OSError: The file cannot be read.
            StoreUnavailable: The address does not answer with one.
        """
        library = self._http
        if library is None:
            with (self._folder / self._options.keys).open("rb") as file:
                return file.read(DOCUMENT_BYTES_MAX + 1)
        wait_s = self._options.wait_max.ms / 1_000
        try:
            async with (
                asyncio.timeout(wait_s),
                library.AsyncClient(
                    verify=self._tls, timeout=wait_s, follow_redirects=False, trust_env=False
                ) as client,
                client.stream("GET", self._options.keys, headers={"accept": "application/json"}) as answer,
            ):
                return await _body(answer)
        except (library.HTTPError, library.InvalidURL, TimeoutError) as error:
            message = f"the identity provider did not give its keys: {type(error).__name__}"
            raise StoreUnavailable(message) from error

    def _keys_of(self, document: bytes) -> dict[str, "_PublicKey"]:
        """Return the keys for signatures in a document, by name.

        Raises:
            ValueError: It is no set of keys, or none of them can be used.
        """
        if len(document) > DOCUMENT_BYTES_MAX:
            message = f"the set of keys has more than {DOCUMENT_BYTES_MAX:,} bytes"
            raise ValueError(message)
        told: object = json.loads(document)
        listed = cast("Mapping[str, object]", told).get("keys") if isinstance(told, dict) else None
        if not isinstance(listed, list):
            message = "the document has no list of keys"
            raise ValueError(message)  # noqa: TRY004  a wrong document is a wrong value
        usable = (
            self._public_key(cast("dict[str, Any]", each))
            for each in cast("list[object]", listed)[:KEYS_MAX]
            if isinstance(each, dict)
        )
        found = {each.name: each for each in usable if each is not None}
        if not found:
            message = "the document has no public key for signatures of a kind that is known"
            raise ValueError(message)
        return found

    def _public_key(self, told: dict[str, Any]) -> "_PublicKey | None":
        """Return one key, None = it is none for signatures, is weak, or has its private part with it."""
        kind = told.get("kty")
        if not isinstance(kind, str) or kind not in _KINDS or told.get("use", "sig") != "sig" or "d" in told:
            return None
        try:
            key = self._library.PyJWK(told).key
        except (self._library.PyJWTError, TypeError, ValueError):
            return None
        if kind == "RSA" and key.key_size < _RSA_BITS_MIN:
            return None
        return _PublicKey(str(told.get("kid", "")), key, told.get("alg"), json.dumps(told, sort_keys=True))


class _PublicKey:
    """A key of the provider."""

    __slots__ = ("declared", "key", "name", "text")

    def __init__(self, name: str, key: Any, declared: str | None, text: str) -> None:  # noqa: ANN401  cryptography's
        self.name = name
        self.key = key
        self.declared = declared
        self.text = text


async def _body(answer: Any) -> bytes:  # noqa: ANN401  httpx's
    """Return the bytes of an answer, up to one more than may be.

    Raises:
        StoreUnavailable: It is no success.
    """
    if answer.status_code != 200:  # noqa: PLR2004  no redirect is followed: the address is the operator's word
        message = f"the identity provider answered {answer.status_code}"
        raise StoreUnavailable(message)
    found = bytearray()
    async for piece in answer.aiter_bytes():
        found += piece
        if len(found) > DOCUMENT_BYTES_MAX:
            break
    return bytes(found)


def _library() -> Any:  # noqa: ANN401  the extra may be absent
    try:
        import_module("cryptography")
        return import_module("jwt")
    except ImportError as error:
        message = "tokens of an identity provider need the extra `auth`: pip install 'midstream[auth]'"
        raise ExtraMissing(message) from error
