"""Tensors of a safetensors file: a JSON header with the place of each, then their bytes. Nothing of it is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from midstream.core.errors import ArtifactInvalid, Fault
from midstream.core.types import Score

HEADER_BYTES_MAX: Final = 1 << 20
FILE_BYTES_MAX: Final = 1 << 31
_LENGTH_BYTES: Final = 8
_NUMBER_BYTES: Final = 4
_PAGE = "/docs/models.md"


class _Entry(msgspec.Struct, frozen=True):
    """One tensor of the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_tensors(path: Path) -> Mapping[str, Score]:
    """Return the float32 tensors of a file by name; those of other types are left out.

    Raises:
        ArtifactInvalid: It is no such file, or a tensor does not lie in it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size > FILE_BYTES_MAX or length > min(HEADER_BYTES_MAX, size - _LENGTH_BYTES):
            raise _invalid(path, f"a header of {length:,} bytes in a file of {size:,}")
        try:
            header = msgspec.json.decode(file.read(length), type=dict[str, msgspec.Raw])
            header.pop("__metadata__", None)
            entries = {name: msgspec.json.decode(each, type=_Entry) for name, each in header.items()}
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _invalid(path, str(error)) from error
    whole = np.memmap(path, dtype=np.uint8, mode="r", offset=_LENGTH_BYTES + length)
    found: dict[str, Score] = {}
    for name, entry in entries.items():
        begin, end = entry.data_offsets
        if entry.dtype != "F32":
            continue
        count = int(np.prod(entry.shape, dtype=object)) if entry.shape else 1
        if (
            not 0 <= begin <= end <= len(whole)
            or end - begin != _NUMBER_BYTES * count
            or min(entry.shape, default=1) < 0
        ):
            raise _invalid(path, f"{name} of shape {entry.shape} at {begin} to {end}")
        found[name] = np.frombuffer(whole[begin:end].tobytes(), dtype="<f4").reshape(entry.shape)
    return found


def _invalid(path: Path, came: str) -> ArtifactInvalid:
    return ArtifactInvalid((Fault(str(path), f"{came}.", "A whole file of safetensors.", _PAGE),))
