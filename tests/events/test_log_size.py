"""The log holds at most twice what came, and a constant for each request, whatever events are mixed."""

import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.core.errors import LogDamaged, TooLarge
from midstream.core.types import LogPosition
from midstream.events import pieces
from midstream.events.arrow.messages import MessageBounds
from midstream.events.json.decode import Decoded, SingleEvent, decode
from midstream.events.pieces import NDJSON, PIECE_LIMITS, arrow_pieces, line_pieces
from midstream.events.schema import Event, build
from midstream.events.segments import frames
from midstream.events.segments.frames import REQUEST_BYTES, batch_at, body_of, encode, head_at, is_sound
from midstream.events.segments.segments import SegmentLog
from midstream.events.wire import Accept
from midstream.serving.http.decompression import Unpacking
from midstream.testing.log_conformance import events_in
from tests.support.disks import ForgetfulDisk

ACCEPT = Accept(frozenset({"v", "view", "käufe"}), 1_800_000_000_000, PIECE_LIMITS, {"tags": "tags"})
ALPHABETS = ("a", "abcdef0123456789", "äöüß", "日本語漢字仮名", "😀😁😂🤣😃😄", "ab😀é日")
ID_CHARS = (1, 2, 8, 36, 120)
NUMBERS = (0, 1, -1, 0.1, 1e99, 5e-324, 1 / 3, -123456.789)


def seeded(seed: int) -> random.Random:
    """Return the same chances in each run."""
    return random.Random(seed)  # noqa: S311  nothing is secret


class Mix:
    """Random events: whichever sizes, texts and kinds a seed picks, the extremes most often."""

    def __init__(self, seed: int) -> None:
        self.rng = seeded(seed)
        self.alphabet = self.rng.choice(ALPHABETS)
        self.chars = self.rng.choice(ID_CHARS)
        self.fields = self.rng.choice(((), ("user_id",), ("user_id", "session_id", "request_id", "event_id")))
        self.context_chars = self.rng.choice((0, 0, 10, 900))
        self.items_max = self.rng.choice((0, 1, 3, 12, 100))

    def text(self, chars: int) -> str:
        return "".join(self.rng.choices(self.alphabet, k=chars))

    def events(self, count: int) -> list[dict[str, Any]]:
        makers = self.rng.choice(((self.act,), (self.act, self.document), (self.document,)))
        return [self.rng.choice(makers)() for _ in range(count)]

    def act(self) -> dict[str, Any]:
        event: dict[str, Any] = {"type": self.rng.choice(("v", "view", "käufe", "impression")), "user_id": "u"}
        event |= {name: self.text(self.chars) for name in self.fields}
        if self.rng.random() < 0.3:
            event["time"] = 1_800_000_000_000 + self.rng.randrange(10**9)
        if self.context_chars:
            event["context"] = {self.text(3): self.text(self.context_chars), "n": self.rng.choice(NUMBERS)}
        if not self.items_max:
            return event | self.item()
        return event | {"items": [self.item() for _ in range(self.rng.randint(1, self.items_max))]}

    def item(self) -> dict[str, Any]:
        item: dict[str, Any] = {"item_id": self.text(self.rng.choice((1, self.chars)))}
        for name in ("value", "quantity"):
            if self.rng.random() < 0.2:
                least = -7 if name == "value" else 7
                item[name] = self.rng.choice((0, 1, least, 0.1, 1e30, self.rng.random()))
        if self.rng.random() < 0.2:
            item["position"] = self.rng.randrange(32_767)
        return item

    def document(self) -> dict[str, Any]:
        kind = self.rng.choice(("item", "user"))
        event: dict[str, Any] = {"type": kind, f"{kind}_id": self.text(self.chars)}
        if self.rng.random() < 0.3:
            return event | {"operation": "delete"}
        if self.rng.random() < 0.5:
            tags = [self.text(5) for _ in range(self.rng.randrange(20))]
            event["attributes"] = {"tags": tags, "x": self.text(9)}
        return event


def lines_of(events, *, ascii_only):
    """Return NDJSON as small as JSON can be written, or with all that is not ASCII escaped."""
    lines = (json.dumps(each, separators=(",", ":"), ensure_ascii=ascii_only) for each in events)
    return "\n".join(lines).encode() + b"\n"


def log_bytes(batch):
    """Return what a batch adds to the log, as one commit."""
    return body_of(batch).length if len(batch) else 0


@given(st.integers(0, 2**32), st.integers(1, 60), st.booleans())
@example(seed=187, count=1, ascii_only=False)  # repeats that LZ4 passes by
def test_log_holds_at_most_twice_what_came_as_json(seed, count, ascii_only):
    """A list, NDJSON and the same packed with gzip: the bound is of the bytes as they are once unpacked."""
    events = Mix(seed).events(count)
    body = lines_of(events, ascii_only=ascii_only)
    as_list = b"[" + body.strip().replace(b"\n", b",") + b"]"
    for came, kind in ((body, NDJSON), (as_list, "")):
        if len(came) <= PIECE_LIMITS.body_bytes_max:
            decoded = decode(came, ACCEPT, kind)
            assert not decoded.rejected
            assert log_bytes(decoded.batch) <= 2 * len(came) + REQUEST_BYTES
    packed = gzip.compress(body, 9)
    source = Unpacking(io.BytesIO(packed), "gzip", lambda: len(packed), 1 << 30)
    pieces = list(line_pieces(source, ACCEPT))
    assert sum(log_bytes(piece.decoded.batch) for piece in pieces) <= 2 * len(body) + REQUEST_BYTES * len(pieces)


@given(st.integers(0, 2**32), st.integers(1, 300))
def test_log_holds_at_most_twice_what_came_as_plain_arrow(seed, count):
    """A stream whose columns are texts, numbers and JSON. What a dictionary or a truth value in a column of its own
    may become is bounded as a whole (``test_arrow_streams_that_stand_for_much_more_are_refused``).
    """
    mix = Mix(seed)
    mix.context_chars = 0
    events = mix.events(count)
    for event in events:
        for name in ("items", "attributes"):
            if name in event:
                event[name] = json.dumps(event[name], separators=(",", ":"))
    names = sorted({name for event in events for name in event})
    sink = io.BytesIO()
    table = pa.table({name: [event.get(name) for event in events] for name in names})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    came = sink.getvalue()
    pieces = list(arrow_pieces(io.BytesIO(came), ACCEPT, MessageBounds()))
    assert sum(piece.decoded.event_count for piece in pieces) == count
    assert sum(log_bytes(piece.decoded.batch) for piece in pieces) <= 2 * len(came) + REQUEST_BYTES * len(pieces)


EXTREMES: dict[str, dict[str, Any]] = {
    "contexts": {"context": {"k": "{random}"}, "items": 100},
    "items alone": {"items": 100},
    "few items": {"items": 12},
    "ids": {"session_id": "{random}", "request_id": "{random}", "event_id": "{random}", "items": 100},
}


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("count", [1, 2, 40])
def test_log_holds_at_most_twice_the_worst_events(name, count):
    """Contexts of 4 KB, the longest ids and the shortest items, which become 56 bytes and copies of all of it."""
    rng = seeded(count)
    events = []
    for _ in range(count):
        event: dict[str, Any] = {"type": "v", "user_id": "u", **EXTREMES[name]}
        event["items"] = [{"item_id": rng.choice("abcdef")} for _ in range(event["items"])]
        for field in ("session_id", "request_id", "event_id"):
            if field in event:
                event[field] = "".join(chr(0x1F300 + rng.randrange(700)) for _ in range(120))
        if "context" in event:
            event["context"] = {
                "k": "".join(chr(33 + rng.randrange(90)) for _ in range(3_900)).translate({34: 65, 92: 66})
            }
        events.append(event)
    body = lines_of(events, ascii_only=False)
    batch = decode(body, ACCEPT, NDJSON).batch
    written = log_bytes(batch)
    print(f"{len(body)} bytes, {batch.rows.nbytes + len(batch.text)} as rows, {written} in the log")
    assert len(batch) == sum(len(event["items"]) for event in events)
    assert written <= 2 * len(body) + REQUEST_BYTES


PACKINGS = {"as it is": [1, 2], "lz4": [40], "zstd": [400]}


@pytest.mark.parametrize("name", PACKINGS)
def test_packed_commits_hold_what_was_appended(name):
    """Each way of packing is met, gives the same events again, and is refused, named as damage, once a byte differs."""
    disk = ForgetfulDisk()
    log = SegmentLog(Path("/data/log"), disk, bytes(16))
    body = b"c" * 900 if name == "zstd" else b"context"
    batches = [
        build([Event(1, event_id=f"{count}-{at}", body=body) for at in range(count)]) for count in PACKINGS[name]
    ]
    for batch in batches:
        log.append(batch)
    expected = [each for batch in batches for each in events_in([(LogPosition(0), batch)])]
    assert events_in(log.read(LogPosition(0), 10_000)) == expected
    assert body_of(batches[0]).packing == list(PACKINGS).index(name)
    (path,) = [each for each in disk.contents() if each.suffix == ".segment"]
    content = bytearray(disk.contents()[path])
    content[frames.OPENING_BYTES + frames.HEAD_BYTES + 20] ^= 1
    disk.damage(path, bytes(content))
    with pytest.raises(LogDamaged, match="does not match its checksum"):
        log.read(LogPosition(0), 10_000)
    log.close()


def test_commits_that_cannot_be_unpacked_are_damage(monkeypatch):
    """A body that was written wrongly has a right checksum: it is named as damage and no events come of it."""
    packed = frames._packed
    monkeypatch.setattr(frames, "_packed", lambda body, batch: (packed(body, batch)[0], b"\xff" * 99))
    disk = ForgetfulDisk()
    log = SegmentLog(Path("/data/log"), disk, bytes(16))
    log.append(build([Event(1, event_id=f"{at}", body=b"context") for at in range(50)]))
    with pytest.raises(LogDamaged, match="cannot be unpacked"):
        log.read(LogPosition(0), 100)
    log.close()


def test_heads_that_say_too_much_are_none():
    """What a commit becomes is bounded by its head, before anything is unpacked."""
    batch = build([Event(1, event_id=f"{at}", body=b"context") for at in range(50)])
    body = body_of(batch)
    for text_bytes, is_head in ((body.text_bytes, True), (frames.FRAME_BYTES_MAX - 50 * 56, True), (1 << 30, False)):
        frame = b"".join(map(bytes, encode(body._replace(text_bytes=text_bytes), 0, 0, bytes(16), 7).parts))
        head = head_at(frame, 0, 7)
        assert (head is not None) == is_head
    assert head_at(b"".join(map(bytes, encode(body, 0, 0, bytes(16), 8).parts)), 0, 7) is None


def test_unknown_packings_are_not_guessed():
    """A sound commit that says another packing gives nothing."""
    batch = build([Event(1, event_id=f"{at}", body=b"context") for at in range(50)])
    frame = b"".join(map(bytes, encode(body_of(batch)._replace(packing=3), 0, 0, bytes(16), 7).parts))
    head = head_at(frame, 0, 7)
    assert head is not None
    assert is_sound(frame, 0, head, 7)
    assert batch_at(frame, 0, head) is None


def named_often(distinct, count):
    """Return a stream of events whose texts of 500 bytes are numbers of a dictionary, sent once."""
    rng = seeded(distinct)
    schema = pa.schema([("type", pa.string()), *((name, pa.dictionary(pa.int16(), pa.string())) for name in IDS)])
    texts = pa.array(["".join(chr(0x1F300 + rng.randrange(700)) for _ in range(120)) for _ in range(distinct)])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for _ in range(count // 5_000):
            codes = [pa.array(rng.choices(range(distinct), k=5_000), pa.int16()) for _ in IDS]
            arrays = [pa.DictionaryArray.from_arrays(code, texts) for code in codes]
            writer.write_batch(pa.RecordBatch.from_arrays([pa.array(["v"] * 5_000), *arrays], schema=schema))
    return sink.getvalue()


IDS = ("user_id", "item_id", "session_id", "request_id")


def test_arrow_streams_that_stand_for_much_more_are_refused(monkeypatch):
    """What numbers of a dictionary stand for is so many times what came at the most, and a mebibyte; few texts pack
    well.
    """
    monkeypatch.setattr(pieces, "LOG_RATIO_MAX", 4)  # 16 takes streams of more than a test should read
    few = named_often(20, 20_000)
    found = sum(log_bytes(piece.decoded.batch) for piece in arrow_pieces(io.BytesIO(few), ACCEPT, MessageBounds()))
    assert found <= 4 * len(few) + (1 << 20)
    many = named_often(800, 20_000)
    taken: list[Any] = []
    with pytest.raises(TooLarge, match=r"bytes take [0-9]+ in the log"):
        taken.extend(arrow_pieces(io.BytesIO(many), ACCEPT, MessageBounds()))
    assert sum(log_bytes(piece.decoded.batch) for piece in taken) <= 4 * len(many) + (1 << 20)


def test_only_what_stands_for_more_than_twice_its_bytes_is_packed_to_be_weighed(monkeypatch):
    """Packing costs as much as writing: a usual stream pays for it once, and a piece without events never."""
    packed: list[int] = []

    def packing(batch):
        packed.append(len(batch))
        return body_of(batch)

    monkeypatch.setattr(pieces, "body_of", packing)
    event = Event(1, action="view", user_id="ann", item_id="mug")
    size = build([event]).rows.nbytes + len(build([event]).text)
    counted = pieces._Counted(io.BytesIO(bytes(5 * size)))
    assert len(counted.read(5 * size)) == 5 * size
    for count in (4, 0, 6, 0, 1, 0, 2):  # ten events are twice what came
        batch = build([event] * count)
        decoded = Decoded(batch, np.zeros(count, np.int32), (), count)
        counted.check(pieces.Piece(decoded, 0, lambda _: SingleEvent("", b"", None)))
    assert packed == [1, 2]
    assert counted._log_bytes == 10 * size + sum(body_of(build([event] * count)).length for count in (1, 2))
