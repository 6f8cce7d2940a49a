"""The fast way of decoding gives what the careful way gives: rows, texts, numbers, and every refusal, byte for byte."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Invalid, TooLarge
from midstream.events.json import decode as decode_module
from midstream.events.json.decode import Decoded, decode
from midstream.events.json.plain import plain_lines
from midstream.events.text_kernels import count_characters, iso_time_ms
from midstream.events.wire import Accept, Limits

ACCEPT = Accept(
    frozenset({"view", "cart", "käufe", "buy it"}),
    1_750_000_000_000,
    limits=Limits(events_max=100_000, body_bytes_max=1 << 26, rows_max=1_000_000, text_bytes_max=1 << 26),
    attributes={"price": "number"},
)
FAR = 1 << 40
WORDS = [
    "ann",
    "lamp-7",
    "é",
    "日本",
    "a b",
    'q"t',
    "b\\s",
    "x" * 128,
    "x" * 129,
    "ü" * 128,
    "",
    "\x7f",
    "\x85",
    "\u00ad",
    "😀",
    "\n",
]
TIMES: list[object] = [
    1_750_000_000_000, 946_684_800_000, 946_684_799_999, 4_133_980_800_000, 1_750_000_000, 0, -1, 1.75e12, 10**30,
    "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123+05:30", "2026-01-31T12:00:00.123456-01:00", "2024-02-29T00:00:00Z",
    "2026-02-29T00:00:00Z", "2026-01-31 12:00:00Z", "2026-01-31T12:00:00", "2026-01-31", "2026-01-31T24:00:00Z",
    "1999-12-31T23:59:59.999Z", "2026-01-31T12:00:00z", "2026-01-31T12:00Z", "2026-01-31T12:00:00.12Z",
    "2026-13-01T00:00:00Z",
    "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+01:00:30", "2026-1-31T12:00:00Z", "2026-01-31T1２:00:00Z", "",
]  # fmt: skip
NUMBERS: list[object] = [
    0, -0.0, 1, -1, 39.9, 0.1, 1e-7, 1e22, 1e23, 1.7976931348623157e308, 9007199254740993, 123456789012345678,
    12345678901234567890, 2.5, -3.25, 3.4e38, 3.5e38, 0.30000000000000004, 5e-324, True, "1",
    100000.5, 123456789012345.6,
]  # fmt: skip
RAW_NUMBERS = [
    "-0",
    "01",
    "1.",
    ".5",
    "1e5",
    "1E-3",
    "1e400",
    "+1",
    "1.0",
    "0.000",
    "00.1",
    "1.50",
    "NaN",
    "Infinity",
    "0x1",
]
MARKS = [b" ", b"\t", b'"', b"\\", b"}", b"{", b",", b"\x00", b"\xc3", b"\xed\xa0\x80"]
SCALARS: list[object] = [
    "phone",
    "",
    "é",
    'q"',
    "\x85",
    1,
    -5,
    2**63,
    2**63 - 1,
    0.5,
    0.0001,
    0.001,
    1.0,
    1e15,
    True,
    False,
    None,
    [1],
    {"a": 1},
]


def random_line(rng: np.random.Generator) -> bytes:  # noqa: C901  a choice each
    """Return a line as a client might write it, right more often than not."""

    def pick(values: list[Any]) -> Any:
        return values[int(rng.integers(len(values)))]

    event: dict[str, object] = {
        "type": pick(["view"] * 6 + ["cart", "käufe", "impression", "buy it", "item", "served", "viev", ""])
    }
    good = rng.random() < 0.6
    words = ["ann", "lamp-7", "é", "日本", "a b", "x" * 128] if good else WORDS
    for name, chance in (
        ("event_id", 0.7),
        ("user_id", 0.9),
        ("item_id", 0.95),
        ("session_id", 0.5),
        ("request_id", 0.1),
    ):
        if rng.random() < chance:
            event[name] = pick(words)
    if rng.random() < 0.7:
        event["time"] = int(rng.integers(946_684_800_000, 4_133_980_800_000)) if good else pick(TIMES)
    for name in ("value", "quantity"):
        if rng.random() < 0.3:
            event[name] = float(rng.integers(0, 10_000)) / 100 if good else pick(NUMBERS)
    if rng.random() < 0.2:
        event["position"] = int(rng.integers(0, 40_000)) if good else pick([-1, 32_766, 32_767, 1.0, "1", True])
    if rng.random() < 0.4:
        members = {
            pick(["page", "device", "a", "aa", "é", "日", "z" * 128, "z" * 129, ""]): pick(
                SCALARS[: 4 if good else None]
            )
            for _ in range(int(rng.integers(0, 5)))
        }
        event["context"] = pick([members] * 5 + [None, [], "x", {"long": "y" * 5_000}])
    if rng.random() < 0.05:
        event[pick(["items", "attributes", "operation", "uzer", "log_time", "content"])] = pick(
            [None, [{"item_id": "a"}], {"a": 1}, "put", 5]
        )
    if rng.random() < 0.1:
        event[pick(["user_id", "value", "time", "context", "position"])] = None
    names = list(event)
    if rng.random() < 0.5:
        rng.shuffle(names)
    text = json.dumps(
        {name: event[name] for name in names},
        ensure_ascii=bool(rng.random() < 0.1),
        separators=pick([(",", ":"), (", ", ": "), (" ,\t", " : ")]),
    )
    if rng.random() < 0.1:
        text = text.replace("39.9", pick(RAW_NUMBERS)).replace('"time"', '"value"' if rng.random() < 0.2 else '"time"')
        text = text[:-1] + f',"quantity": {pick(RAW_NUMBERS)}' + "}"
    return mutated(text.encode("utf-8", "surrogatepass"), rng) + (b"\r" if rng.random() < 0.1 else b"")


def mutated(line: bytes, rng: Any) -> bytes:
    """Return a line, sometimes with a byte or a piece of it changed, taken out or put in twice."""
    if rng.random() > 0.25 or not line:
        return line
    at = int(rng.integers(len(line)))
    match int(rng.integers(5)):
        case 0:
            return line[:at] + bytes([int(rng.integers(256))]) + line[at + 1 :]
        case 1:
            return line[:at] + line[at + 1 :]
        case 2:
            return line[:at] + MARKS[int(rng.integers(len(MARKS)))] + line[at:]
        case 3:
            other = int(rng.integers(len(line)))
            return line[: max(at, other)] + line[min(at, other) :]
        case _:
            return line[:at]


def both(body: bytes, content_type: str, accept: Accept = ACCEPT) -> list[Decoded | Invalid]:
    """Return what the fast way and the careful way make of a body, or why they refuse all of it."""
    found: list[Decoded | Invalid] = []
    for smallest in (0, FAR):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decode_module, "PLAIN_BYTES_MIN", smallest)
            try:
                found.append(decode(body, accept, content_type))
            except Invalid as failure:
                found.append(failure)
    return found


def assert_same(one: Decoded | Invalid, other: Decoded | Invalid) -> None:
    """Everything is the same; NaN too, so bytes are compared."""
    if isinstance(one, Invalid) or isinstance(other, Invalid):
        assert isinstance(one, Invalid)
        assert isinstance(other, Invalid)
        assert one.faults == other.faults
        return
    assert one.batch.text == other.batch.text
    assert one.batch.rows.tobytes() == other.batch.rows.tobytes()
    assert one.event_index.tolist() == other.event_index.tolist()
    assert one.event_count == other.event_count
    assert one.rejected == other.rejected


@pytest.mark.parametrize("seed", range(4))
def test_lines_of_every_kind_decode_the_same(seed):
    """Two thousand lines, a third of them odd or broken."""
    rng = np.random.default_rng(seed)
    lines = [random_line(rng) if rng.random() < 0.97 else rng.choice([b"", b"  ", b"\t\r"]) for _ in range(500)]
    body = b"\n".join(lines)
    assert_same(*both(body, "application/x-ndjson"))
    plain = plain_lines(body, ACCEPT)
    assert plain is not None
    assert len(plain.batch) > 60, "the kernel takes what is plain"
    assert_same(*both(body, ""))
    assert_same(*both(b"garbage\n" + body, ""))
    assert_same(*both(b"\n".join(line for line in lines if line.startswith(b'{"type": "view"')), ""))
    for line in lines[:100]:
        assert_same(*both(b"\n" + line, "application/x-ndjson"))


@pytest.mark.parametrize(
    "form", [b"[%b]", b' {"events" : [ %b ] } ', b'{"events":[%b]}\n', b"[%b],", b'{"events":[%b]', b"\n[%b]}"]
)
def test_lists_decode_the_same(form):
    """Bare, in an envelope, with something behind them, all plain or not."""
    rng = np.random.default_rng(5)
    plain = [b'{"type":"view","user_id":"u%d", "item_id":"i","value":1.5}' % number for number in range(20)]
    for lines in (plain, [*plain, b'{"type":"view"}'], [*plain, random_line(rng)], []):
        assert_same(*both(form % b" ,\n".join(lines), ""))


@pytest.mark.parametrize("quantity", [b"-1", b"-0.5", b"-0.00000000000000001", b"-0", b"-0.0", b"0", b"0.5"])
def test_a_quantity_below_0_is_refused_among_plain_events(quantity):
    """Which line it stands in is said by the careful way, whether a kernel has read the others or not."""
    plain = [b'{"type":"view","user_id":"u%d","item_id":"i","quantity":2}' % number for number in range(20)]
    lines = [*plain, b'{"type":"view","user_id":"u","item_id":"i","quantity":%b}' % quantity, *plain]
    for form, kind in ((b"[%b]", ""), (b'{"events":[%b]}', "")):
        assert_same(*both(form % b",".join(lines), kind))
    fast, careful = both(b"\n".join(lines), "application/x-ndjson")
    assert_same(fast, careful)
    assert isinstance(fast, Decoded)
    assert len(fast.rejected) == (float(quantity) < 0)


ODD_UTF8 = [
    b"\xc0\x80",
    b"\xe0\x80\x80",
    b"\xf0\x80\x80\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc2",
    b"\xe2\x82a",
    b"\xff",
]
"""Overlong forms, half of a surrogate pair, beyond U+10FFFF, cut short, no UTF-8 at all."""


@pytest.mark.parametrize("raw", ODD_UTF8)
def test_what_is_no_utf8_has_no_characters(raw):
    """Alone, and between other text."""
    for text in (raw, b"a" + raw + b"b"):
        assert count_characters(np.frombuffer(text + b"\0\0\0", dtype=np.uint8), 0, len(text), 1) == -1


@given(st.binary(max_size=40) | st.text(max_size=20).map(str.encode), st.booleans())
def test_characters_are_counted_as_python_does(raw, with_controls):
    """UTF-8 to the letter: no overlong form, no surrogate, nothing beyond U+10FFFF."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        expected = -1
    else:
        is_right = with_controls or not any(ord(each) < 0x20 or 0x7F <= ord(each) < 0xA0 for each in text)
        expected = len(text) if is_right else -1
    array = np.frombuffer(raw + b"\0", dtype=np.uint8)
    assert count_characters(array, 0, len(raw), int(with_controls)) == expected


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2150, 1, 1)),  # noqa: DTZ001  a zone is added
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
def test_a_time_is_the_one_that_python_reads(moment, precision):
    """ISO 8601 with a zone."""
    text = moment.replace(tzinfo=UTC).isoformat(timespec=precision)
    array = np.frombuffer(text.encode() + b"\0", dtype=np.uint8)
    expected = datetime.fromisoformat(text)
    assert iso_time_ms(array, 0, len(text)) == int(expected.timestamp()) * 1_000 + expected.microsecond // 1_000


def test_what_is_too_much_is_refused_in_the_same_words():
    """Too many events, rows or bytes of text."""
    line = b'{"type":"view","user_id":"u","item_id":"i","context":{"a":"%b"}}' % (b"x" * 200)
    for limits in (Limits(events_max=9), Limits(rows_max=9), Limits(text_bytes_max=900)):
        accept = msgspec.structs.replace(ACCEPT, limits=limits)
        for body in (b"\n".join([line] * 10), b"[" + b",".join([line] * 10) + b"]"):
            fast, careful = both(body, "", accept)
            assert isinstance(fast, TooLarge)
            assert isinstance(careful, TooLarge)
            assert fast.faults == careful.faults
