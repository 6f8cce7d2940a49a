"""Mutations of a valid request: one at a time, in its line, its headers, its framing, its body or its bytes.

Each says what may come of it. ``must_be_refused`` is for those that a correct server never obeys: a foreign host or
origin, a form's content type, two framings at once. A request that is hidden in the body of another carries the
canary, an event that must never be recorded.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.http_fuzz.grammar import Request
from tests.support.dice import Dice

Mutation = Callable[[Request, Dice], Request]
CANARY = "canary"
"""Begins the event ids of what is hidden in bodies; each has its own number behind it."""
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
NASTY: tuple[object, ...] = (
    None,
    True,
    [],
    {},
    "",
    0,
    -1,
    1.5,
    2**31,
    2**63,
    -(2**63) - 1,
    1e308,
    -1e-320,
    "\x00",
    "\ud800",
    "é" * 300,
    "a" * 5_000,
    "__proto__",
    "../../etc/passwd",
    "/etc/passwd",
    "'; --",
    "=cmd|' /C calc'!A0",
    [[[[[[]]]]]],
    {"kind": "custom", "path": "os:path"},
    {"kind": "custom", "path": "/srv/x:X"},
    "now.hour",
    "item.price <= (",
    ["i1"] * 2_000,
)
RAW: tuple[bytes, ...] = (
    b"NaN",
    b"1e999",
    b"-",
    b"[" * 2_000,
    b'{"a":' * 2_000,
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    b"\xff\xfe",
    b"",
    b'{"type":"view","type":"cart"}',
    b"\x1f\x8b\x08\x00garbage",
    b"{}\x00",
    b'"\\ud800"',
    b"[1e400]",
    b"0" * 5_000,
)
HOSTS = (
    "evil.example",
    "evil.example:80",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "",
    "a b",
    "::1",
    "\u00e9.example",
)
ORIGINS = (
    "http://evil.example",
    "null",
    "http://127.0.0.1:1",
    "https://127.0.0.1",
    "file://",
    "http://evil.example:80",
)
SITES = ("cross-site", "same-site", "Cross-Site", "CROSS-SITE", "nonsense")
FORMS = (
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain;charset=UTF-8",
)
HEADERS = (
    ("Expect", "100-continue"),
    ("Connection", "close"),
    ("Connection", "keep-alive"),
    ("Accept-Encoding", "gzip"),
    ("X-Long", "y" * 3_000),
    ("Content-Encoding", "br"),
    ("Content-Encoding", "gzip"),
    ("Content-Encoding", "zstd"),
    ("Range", "bytes=0-1"),
    ("If-None-Match", "*"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("Cookie", "a=b"),
    ("TE", "trailers"),
    ("Trailer", "Host"),
    ("Via", "1.1 proxy"),
    ("X-Forwarded-Host", "evil.example"),
    ("Forwarded", "host=evil.example"),
)
UPGRADES = (
    (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA")),
    (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ),
    (("Connection", "upgrade"), ("Upgrade", "TLS/1.0")),
    (("Connection", "Upgrade"),),
    (("Upgrade", "h2c"),),
)


def canary_request(request: Request, dice: Dice) -> bytes:
    """Return a whole request that records a canary, and note its id with the outer one.

    No line of it is an event by itself, as of a body of lines each would be.
    """
    host, event_id = request.headers[0][1], f"{CANARY}-{dice.below(1 << 50)}"
    request.event_ids, request.hidden_ids = (), (event_id,)
    body = json.dumps({"type": "view", "event_id": event_id, "session_id": "x", "item_id": "x"}, indent=1).encode()
    head = f"POST /v1/events HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def mutate_json(request: Request, dice: Dice) -> Request:
    """One value somewhere in the body becomes another, goes, or gets an unknown neighbour."""
    try:
        whole = json.loads(request.body)
    except ValueError:
        return mutate_raw(request, dice)
    holder: Any = {"": whole}
    key: Any = ""
    while dice.chance(0.7) and isinstance(holder[key], dict | list) and holder[key]:
        holder = holder[key]
        key = dice.choice(tuple(holder)) if isinstance(holder, dict) else dice.below(len(holder))
    kind = dice.below(4)
    if kind == 0 and isinstance(holder, dict) and len(holder) > 1:
        del holder[key]
    elif kind == 1 and isinstance(holder[key], dict):
        holder[key]["uzer_id"] = 1
    else:
        holder[key] = dice.choice(NASTY)
    made = json.dumps(holder[""] if key == "" and "" in holder else whole)
    request.body = made.encode("utf-8", "surrogatepass")
    return request


def mutate_raw(request: Request, dice: Dice) -> Request:
    """The body is cut, flipped, doubled, or something else."""
    body = request.body
    match dice.below(5):
        case 0 if body:
            request.body = body[: dice.below(len(body))]
        case 1 if body:
            at = dice.below(len(body))
            request.body = body[:at] + bytes([body[at] ^ (1 << dice.below(8))]) + body[at + 1 :]
        case 2:
            request.body = body + body
        case 3:
            request.body = body + b"\x00garbage"
        case _:
            request.body = dice.choice(RAW)
    return request


def mutate_target(request: Request, dice: Dice) -> Request:
    """Another path, a query field that is not known, escapes, or a form of target that servers do not take."""
    target = request.target
    sign = "&" if "?" in target else "?"
    request.target = dice.choice(
        (
            f"{target}{sign}n=-1",
            f"{target}{sign}limit=99999999999999999999",
            f"{target}{sign}uzer=1",
            f"{target}{sign}n=%00",
            f"{target}{sign}filter=item.price%20%3C",
            f"{target}/",
            f"/{target}",
            f"{target}/..%2f..%2fetc",
            f"{target}%",
            "*",
            f"{target}%ff%fe",
            f"{target}{sign}" + "a=b&" * 500,
            f"http://evil.example{target}",
            "//evil.example/v1/events",
            f"{target}#x",
            f"{target}{sign}min_log_position=AAAA",
            f"{target}{sign}session_id=%ed%a0%80",
            "/v1/items/" + "x" * 3_000,
        )
    )
    return request


def mutate_method(request: Request, dice: Dice) -> Request:
    """A method that the path does not have, or that there is not."""
    request.method = dice.choice(
        ("GET", "POST", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "get", "PRI")
    )
    return request


def add_header(request: Request, dice: Dice) -> Request:
    """A header that means nothing here, or that bodies are not what they say."""
    request.headers.append(dice.choice(HEADERS))
    return request


def spoil_header(request: Request, dice: Dice) -> Request:
    """A header that no parser should take as it is."""
    request.headers.append(
        dice.choice(
            (
                ("Bad Name", "x"),
                ("X-Null", "a\x00b"),
                ("", "x"),
                ("X-Fold", "a\r\n b"),
                ("X-Cr", "a\rb"),
                ("X\t", "y"),
                ("X-Bin", "\udcff\udcfe"),
            )
        )
    )
    return request


def many_headers(request: Request, dice: Dice) -> Request:
    """More headers, or longer ones, than a head may have."""
    request.headers.extend((f"X-{number}", "y" * 60) for number in range(200 + dice.below(600)))
    return request


def upgrade(request: Request, dice: Dice) -> Request:
    """Ask for another protocol, with the canary as a body: what is behind the head is a body and never a request."""
    request.headers.extend(dice.choice(UPGRADES))
    if request.method in UNSAFE and dice.chance(0.7):
        request.body = canary_request(request, dice)
    return request


def foreign_host(request: Request, dice: Dice) -> Request:
    """A name that this server does not have, none, or two of them."""
    match dice.below(4):
        case 0:
            request.headers = [each for each in request.headers if each[0] != "Host"]
        case 1:
            request.headers.insert(dice.below(2), ("Host", dice.choice(HOSTS)))
        case _:
            request.headers[0] = ("Host", dice.choice(HOSTS))
    request.must_be_refused = True
    return request


def foreign_origin(request: Request, dice: Dice) -> Request:
    """What a browser says of a page of another site."""
    if dice.chance(0.5):
        request.headers.append(("Origin", dice.choice(ORIGINS)))
    else:
        request.headers.append(("Sec-Fetch-Site", dice.choice(SITES)))
        request.headers.append(("Sec-Fetch-Mode", dice.choice(("no-cors", "cors", "websocket"))))
    request.must_be_refused = True
    return request


def as_form(request: Request, dice: Dice) -> Request:
    """The content type of a form, which a page of any site may send."""
    if request.method in UNSAFE and request.body:
        request.headers = [each for each in request.headers if each[0] != "content-type"]
        request.headers.append(("Content-Type", dice.choice(FORMS)))
        request.must_be_refused = True
    return request


def two_framings(request: Request, dice: Dice) -> Request:
    """Lengths that contradict each other, with the canary behind the shorter one."""
    canary = canary_request(request, dice)
    request.framing, request.method, request.must_be_refused = "own", "POST", True
    request.headers = [each for each in request.headers if each[0] != "content-encoding"]
    match dice.below(4):
        case 0:
            request.headers += [("Content-Length", "4"), ("Transfer-Encoding", "chunked")]
            request.body = b"0\r\n\r\n" + canary
        case 1:
            request.headers += [("Content-Length", "0"), ("Content-Length", str(len(canary)))]
            request.body = canary
        case 2:
            request.headers.append(
                (
                    "Transfer-Encoding",
                    dice.choice(("chunked, identity", "xchunked", "chunked;x", "\x0bchunked", "identity")),
                )
            )
            request.body = b"0\r\n\r\n" + canary
        case _:
            request.headers.append(
                ("Content-Length", dice.choice(("+5", "-1", "0x5", "5,5", "1e1", "99999999999999999999", " ")))
            )
            request.body = canary
    return request


def bad_chunks(request: Request, dice: Dice) -> Request:
    """Chunk sizes, extensions and trailers that are wrong, long, or headers of their own."""
    if not request.body:
        return add_header(request, dice)
    if dice.chance(0.6):
        request.framing = "chunked"
        request.trailers = dice.choice(
            (
                b"X-Trailer: 1\r\n",
                b"Host: evil.example\r\n",
                b"Content-Length: 5\r\n",
                b"Content-Type: text/plain\r\n",
                b"X: " + b"a" * 60_000 + b"\r\n",
                b"".join(b"X-%d: y\r\n" % number for number in range(3_000)),
                b"no colon\r\n",
            )
        )
        return request
    body, request.framing = request.body, "own"
    request.headers.append(("Transfer-Encoding", "chunked"))
    request.must_be_refused = True
    request.body = dice.choice(
        (
            b"zz\r\n" + body + b"\r\n0\r\n\r\n",
            b"-1\r\n" + body,
            b"ffffffffffffffffff\r\n" + body,
            b"%x \r\n%b\r\n0\r\n\r\n" % (len(body) + 7, body),
            b"\r\n\r\n",
        )
    )
    return request


def flip_bytes(_request: Request, _dice: Dice) -> Request:
    """Bytes of the whole are flipped where it becomes bytes (``client``)."""
    _request.event_ids = ()
    return _request


MUTATIONS: Mapping[Mutation, float] = {
    mutate_json: 30,
    mutate_raw: 12,
    mutate_target: 12,
    mutate_method: 6,
    add_header: 8,
    spoil_header: 3,
    many_headers: 1,
    upgrade: 6,
    foreign_host: 6,
    foreign_origin: 6,
    as_form: 4,
    two_framings: 3,
    bad_chunks: 4,
    flip_bytes: 6,
}
