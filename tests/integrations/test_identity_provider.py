"""Tokens of an identity provider open what their claims say, and nothing when anything about them is wrong."""

import asyncio
import base64
import hashlib
import hmac
import http.server
import json
import threading
import time
from contextlib import contextmanager

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from midstream.core.durations import Duration
from midstream.integrations.identity_provider import AGAIN_S, AGE_S_MAX, TOKENS_MAX, IdentityProvider
from midstream.serving.access.identity_options import IdentityOptions
from midstream.serving.access.token_claims import identity_faults

ISSUER, AUDIENCE = "https://id.example/realms/shop", "midstream"
RSA = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
OTHER = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
WEAK = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)  # noqa: S505  it is to be refused
CURVE = ec.generate_private_key(ec.SECP256R1())
SCOPES = {"analyst": ("read",), "shop-admin": ("admin",), "backend": ("events:write", "recommend")}


class MovableClock:
    """Seconds that a test moves; wall time is real, as the library reads it itself."""

    def __init__(self):
        self.seconds = 1_000.0

    def monotonic(self):
        return self.seconds

    def wall_ms(self):
        return int((time.time() + self.seconds - 1_000.0) * 1_000)


def public(key, name, **further):
    """A public key as a provider publishes it."""
    kind = jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else jwt.algorithms.RSAAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": name, "use": "sig", **further}


def signed(key=RSA, name="one", algorithm="RS256", without=(), **claims):
    """A token; claims that are given take the place of right ones."""
    now = int(time.time())
    right = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": now + 600, "iat": now, "scope": "analyst"}
    told = {key: value for key, value in {**right, **claims}.items() if key not in without}
    return jwt.encode(told, key, algorithm, headers={"kid": name} if name else {})


@pytest.fixture
def clock():
    return MovableClock()


@pytest.fixture
def make(tmp_path, clock):
    """A provider whose keys are in a file that the test writes."""

    def made(*keys, **options):
        (tmp_path / "keys.json").write_text(json.dumps({"keys": list(keys or [public(RSA, "one")])}))
        told = {"issuer": ISSUER, "audience": AUDIENCE, "keys": "keys.json", "scopes": SCOPES, **options}
        return IdentityProvider(IdentityOptions(**told), tmp_path, clock.monotonic, clock.wall_ms)

    return made


def identified(provider, token):
    return asyncio.run(provider.identify(token))


def test_a_token_opens_what_its_claim_says(make):
    """By the table of the configuration, and by nothing else of the token."""
    provider = make()
    known = identified(provider, signed(scope="analyst backend unknown"))
    assert known.scopes == {"read", "events:write", "recommend"}
    assert (known.who, known.placements) == ("token:ann", frozenset())
    assert identified(provider, signed(scope="admin")).scopes == frozenset(), "a value is no scope by itself"
    assert identified(provider, signed(without=["scope"])).scopes == frozenset()
    nested = make(scope_claim="realm_access.roles")
    assert identified(nested, signed(realm_access={"roles": ["shop-admin", 7]})).scopes == {"admin"}
    assert identified(nested, signed(realm_access="shop-admin")).scopes == frozenset()
    dotted = make(scope_claim="https://shop.example/roles")
    assert identified(dotted, signed(**{"https://shop.example/roles": ["analyst"]})).scopes == {"read"}


@pytest.mark.parametrize(
    "token",
    [
        lambda: signed(OTHER),
        lambda: signed(iss="https://id.example/realms/other"),
        lambda: signed(aud="another-program"),
        lambda: signed(without=["aud"]),
        lambda: signed(exp=int(time.time()) - 31),
        lambda: signed(without=["exp"]),
        lambda: signed(exp="soon"),
        lambda: signed(exp=1e300),
        lambda: signed(exp=int(time.time()) + 86_500),
        lambda: signed(nbf=int(time.time()) + 60),
        lambda: signed(without=["sub"]),
        lambda: signed(name="two"),
        lambda: signed(algorithm="RS512"),
        lambda: signed()[:-4] + "AAAA",
        lambda: "a.b.c",
        lambda: base64.urlsafe_b64encode(b"[" * 3_000).decode() + ".b.c",
        lambda: "..",
        lambda: "\N{SNOWMAN}.\N{SNOWMAN}.\N{SNOWMAN}",
        lambda: signed(scope="analyst" * 2_000),
    ],
)
def test_a_token_that_is_wrong_in_anything_opens_nothing(make, token):
    """Signature, issuer, audience, times, subject, name of the key, algorithm, form, length."""
    provider = make()
    assert identified(provider, signed()) is not None
    assert identified(provider, token()) is None


def test_a_token_signed_with_the_public_key_as_a_secret_opens_nothing(make):
    """Of a public key everybody can make such a token, and ``none`` needs no key at all."""
    provider = make()
    head = lambda algorithm: part({"alg": algorithm, "kid": "one", "typ": "JWT"})  # noqa: E731
    body = part({"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "exp": time.time() + 600, "scope": "shop-admin"})
    secret = json.dumps(public(RSA, "one")).encode()
    mac = base64.urlsafe_b64encode(hmac.digest(secret, f"{head('HS256')}.{body}".encode(), hashlib.sha256))
    for token in (f"{head('HS256')}.{body}.{mac.decode().rstrip('=')}", f"{head('none')}.{body}."):
        assert identified(provider, token) is None


def part(content):
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_keys_that_are_no_public_keys_for_signatures_are_passed_by(make):
    """Shared secrets, keys for encryption, weak keys, and those that have their private part with them."""
    shared = {"kty": "oct", "kid": "shared", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}
    private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OTHER)) | {"kid": "private"}
    provider = make(
        shared,
        private,
        public(WEAK, "weak"),
        public(OTHER, "enc", use="enc"),
        {"kty": "RSA", "kid": "broken", "n": 7},
        {"kty": ["RSA"], "kid": "list"},
        {"kty": {}, "kid": "object"},
        public(CURVE, "curve"),
        public(OTHER, "declared", alg="RS512"),
    )
    assert identified(provider, signed(CURVE, "curve", "ES256")) is not None
    for key, name in ((OTHER, "private"), (WEAK, "weak"), (OTHER, "enc"), (OTHER, "declared")):
        assert identified(provider, signed(key, name)) is None
    assert identified(provider, signed(RSA, "curve")) is None


def test_a_token_ends_when_it_says_so_though_it_was_right_before(make, clock):
    """It is remembered, and its end with it."""
    provider, token = make(), signed(exp=int(time.time()) + 60)
    assert identified(provider, token) is not None
    clock.seconds += 95
    assert identified(provider, token) is None


def test_keys_of_a_provider_take_each_others_place(make, clock, tmp_path):
    """A new one is read when a token names it, every ten seconds at most, and one that is gone opens nothing."""
    provider = make(public(RSA, "one"))
    old, new = signed(), signed(OTHER, "two")
    assert identified(provider, old) is not None
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [public(OTHER, "two")]}))
    assert identified(provider, new) is None, "asked again too soon"
    clock.seconds += AGAIN_S + 1
    assert identified(provider, new) is not None
    assert identified(provider, old) is None


def test_a_provider_that_is_gone_leaves_its_keys_for_a_day(make, clock, tmp_path):
    """Longer would let a key live on that was taken back."""
    provider = make()
    token = signed(exp=int(time.time()) + 86_000)
    assert identified(provider, token) is not None
    for text in (None, "{", '{"keys": []}', "[]", '{"keys": [{"kty": "RSA"}]}', " " * 300_000, "[" * 100_000):
        if text is None:
            (tmp_path / "keys.json").unlink()
        else:
            (tmp_path / "keys.json").write_text(text)
        clock.seconds += 3_700
        assert identified(provider, token) is not None
        assert identified(provider, signed(sub="bob", exp=int(time.time()) + 86_000)) is not None
    clock.seconds += AGE_S_MAX
    assert identified(provider, token) is None
    assert identified(provider, signed(sub="carl")) is None


def test_what_is_remembered_is_bounded(make, monkeypatch):
    """The oldest is verified anew."""
    monkeypatch.setattr("midstream.integrations.identity_provider.TOKENS_MAX", 2)
    provider = make()
    for each in "abc":
        assert identified(provider, signed(sub=each)).who == f"token:{each}"
    assert len(provider._right) == 2 < TOKENS_MAX


def test_a_subject_stands_in_audits_as_plain_text(make):
    """No line break, no markup, and never empty."""
    provider = make()
    names = [
        identified(provider, signed(sub=each)).who for each in ("ann\n<b>\u202e@shop", "annb@shop", "\u202e", "\u202d")
    ]
    assert names[0].startswith("token:annb@shop~")
    assert names[1] == "token:annb@shop"
    assert all(len(each) <= len("token:") + 64 and each.isprintable() for each in names)
    assert len(set(names)) == 4, "who differs in what is left out is another caller"


@contextmanager
def published(answers):
    """A provider on loopback that answers in turn, and counts."""

    class Provider(http.server.ThreadingHTTPServer):
        asked = 0

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked += 1
            status, body, wait_s = answers[min(server.asked - 1, len(answers) - 1)]
            time.sleep(wait_s)
            self.send_response(status)
            self.send_header("location", "/elsewhere")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            return

    server = Provider(("127.0.0.1", 0), Keys)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}/keys"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


DOCUMENT = json.dumps({"keys": [public(RSA, "one")]}).encode()


def test_keys_at_an_address_are_read_once_for_all_that_wait(make):
    """A hundred callers at the start are one question to the provider."""

    async def all_of(provider):
        return await asyncio.gather(*(provider.identify(signed(sub=f"u{each}")) for each in range(100)))

    with published([(200, DOCUMENT, 0.2)]) as (server, address):
        assert all(asyncio.run(all_of(make(keys=address))))
        assert server.asked == 1


@pytest.mark.parametrize(
    "answer",
    [(302, DOCUMENT, 0), (500, DOCUMENT, 0), (200, b"<html>", 0), (200, b" " * 300_000, 0), (200, DOCUMENT, 4)],
)
def test_an_answer_that_is_none_opens_nothing_and_holds_nobody_up(make, answer, clock):
    """Redirects, errors, other documents, long ones, late ones; behind it the next try is right."""
    with published([answer, (200, DOCUMENT, 0)]) as (server, address):
        provider = make(keys=address, wait_max=Duration("1s"))
        began = time.monotonic()
        assert identified(provider, signed()) is None
        assert time.monotonic() - began < 3.9
        assert identified(provider, signed()) is None
        assert server.asked == 1
        clock.seconds += AGAIN_S + 1
        assert identified(provider, signed()) is not None


@pytest.mark.parametrize(
    "options, where",
    [
        ({"audience": ""}, "$.identity.audience"),
        ({"keys": ""}, "$.identity.keys"),
        ({"keys": "http://id.example/keys"}, "$.identity.keys"),
        ({"algorithms": ()}, "$.identity.algorithms"),
        ({"scopes": {}}, "$.identity.scopes"),
        ({"scopes": {"a": ("read", "all")}}, "$.identity.scopes.a[1]"),
    ],
)
def test_a_section_that_would_open_or_shut_everything_is_refused(options, where):
    """Each fault by its place, with what would be right."""
    told = IdentityOptions(**{"issuer": ISSUER, "audience": AUDIENCE, "keys": "k.json", "scopes": SCOPES, **options})
    (fault,) = identity_faults(told)
    assert fault.where == where
    assert fault.right
    assert not list(identity_faults(IdentityOptions()))
