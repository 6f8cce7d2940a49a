"""Packed bodies: what is no packing costs its refusal and nothing that stays."""

import gzip
import io
import tracemalloc

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import RequestInvalid, TooLarge
from midstream.serving.http.decompression import Unpacking, unpacked

BODY = b'{"type": "view"}' * 4_000
PACKED = {"gzip": gzip.compress(BODY), "zstd": pa.compress(BODY, "zstd", asbytes=True)}
COUNT = 100


@pytest.mark.parametrize("encoding", PACKED)
@given(size=st.integers(1, 1 << 17))
def test_a_body_is_what_was_packed_however_it_is_read(encoding, size):
    """In pieces of any size, none of them longer than what was asked for."""
    packed = PACKED[encoding]
    source = Unpacking(io.BytesIO(packed), encoding, lambda: len(packed), len(BODY))
    pieces = list(iter(lambda: source.read(size), b""))
    assert b"".join(pieces) == BODY == unpacked(packed, encoding, len(BODY))
    assert max(map(len, pieces)) <= size
    with pytest.raises(TooLarge):
        unpacked(packed, encoding, len(BODY) - 1)


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("spoil", [lambda packed: packed[3:], lambda packed: packed[:-9]])
def test_refusals_leave_no_memory_behind(encoding, spoil):
    """A client that sends what cannot be unpacked, over and over, does not fill the server."""
    body = spoil(PACKED[encoding])

    def refuse():
        with pytest.raises(RequestInvalid):
            unpacked(body, encoding, 1 << 20)

    refuse()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(COUNT):
            refuse()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < COUNT * 4_096
