"""Decompression of bodies, bounded before the output exists, whatever its header announces.

Both formats are decompressed in steps of at most 64 KiB, so a small body that would expand to a large one costs no more
than the bound.
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.engine.requests.schema import PAGE
from midstream.serving.http.problems import MediaTypeUnsupported
from midstream.serving.http.responses import Scope

if TYPE_CHECKING:
    from midstream.events.arrow.messages import ByteSource

ENCODINGS = {b"gzip": "gzip", b"x-gzip": "gzip", b"zstd": "zstd"}
"""Content encoding → Arrow's name of it."""
ACCEPTED = b"gzip, zstd"
RATIO_MAX = 200
"""Bytes out for a byte in: events of the same user and item pack 50 to 1 at the most; gzip alone could do 1,000."""
RATIO_FREE_BYTES = 1 << 20
"""The ratio is not looked at before: the first bytes of a packing hold no content."""
_RIGHT = "A body that is packed whole, as gzip or zstd make it, or not at all."


def encoding_of(scope: Scope) -> str:
    """Return how a body is packed, ``gzip`` or ``zstd``; empty when it is not.

    Raises:
        MediaTypeUnsupported: In another way, or in several.
    """
    for name, value in scope["headers"]:
        if name == b"content-encoding" and (sent := bytes(value).strip().lower()) != b"identity":
            if sent not in ENCODINGS:
                came = f"content-encoding {value[:40].decode('latin-1')!r} came."
                right = "gzip or zstd, or the body as it is."
                raise MediaTypeUnsupported((Fault("content-encoding", came, right, PAGE),))
            return ENCODINGS[sent]
    return ""


def unpacked(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """Return a whole body as it was before it was packed.

    Raises:
        TooLarge: It becomes more than ``bytes_max``; no more than that was unpacked.
        RequestInvalid: It is not packed like that, or its end is missing.
    """
    if not encoding:
        return body
    source = Unpacking(io.BytesIO(body), encoding, lambda: len(body), bytes_max)
    pieces: list[bytes] = []
    while piece := source.read(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


class Unpacking:
    """A stream of bytes as it was before it was packed, or as it is, counted."""

    def __init__(self, packed: "ByteSource", encoding: str, came: Callable[[], int], bytes_max: int) -> None:
        """Read from ``packed``, of which ``came`` bytes came so far; return at most ``bytes_max`` in all."""
        self._came = came
        self._bytes_max = bytes_max
        self._size = 0
        self._source = packed
        self._encoding = encoding
        if encoding:
            file = pa.PythonFile(cast("Any", _Readable(packed)), mode="r")
            self._source = cast("ByteSource", pa.CompressedInputStream(file, cast("Any", encoding)))

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end.

        Raises:
            TooLarge: Its output exceeds the maximum, in all or for its input.
            RequestInvalid: It is not valid.
        """
        try:
            # One byte more than there may be shows that there are more.
            found = self._read(min(size, self._bytes_max + 1 - self._size))
        except OSError as error:
            came = f"It cannot be unpacked as {self._encoding}: {str(error)[:100]}."
            raise RequestInvalid((Fault("content-encoding", came, _RIGHT, PAGE),)) from error
        self._size += len(found)
        if self._size > self._bytes_max:
            right = f"At most {self._bytes_max} bytes, as they are once unpacked."
            raise TooLarge((Fault("", f"More than {self._bytes_max} bytes came.", right, PAGE),))
        if self._encoding and self._size > RATIO_FREE_BYTES and self._size > RATIO_MAX * self._came():
            right = f"At most {RATIO_MAX} bytes for each that is sent."
            raise TooLarge((Fault("", f"{self._size} bytes of {self._came()} that came.", right, PAGE),))
        return found

    def _read(self, size: int) -> bytes:
        if not self._encoding:
            return self._source.read(size)
        # Not ``read``: Arrow's makes the bytes first, and leaves them behind for good where it cannot fill them.
        buffer = bytearray(size)
        count: int = cast("Any", self._source).readinto(buffer)
        return bytes(memoryview(buffer)[:count])


class _Readable(io.RawIOBase):
    """A source in the shape that Arrow reads files in."""

    def __init__(self, source: "ByteSource") -> None:
        super().__init__()
        self._source = source

    def readable(self) -> bool:
        """Say that it is."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes."""
        return self._source.read(size)
