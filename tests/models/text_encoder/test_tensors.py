"""Files of tensors: what is read, and that a damaged file is refused with its name."""

import json

import numpy as np
import pytest

from midstream.core.errors import ArtifactInvalid
from midstream.models.text_encoder.tensors import read_tensors


def written(path, header, body=b""):
    """Write a file."""
    told = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(told).to_bytes(8, "little") + told + body)
    return path


def entry(shape, begin, end, dtype="F32"):
    """One tensor of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_tensors_are_read_by_name(tmp_path):
    """Float32 alone; the text beside them says nothing."""
    header = {
        "__metadata__": {"format": "pt"},
        "a": entry([2, 2], 8, 24),
        "b": entry([1], 0, 8, "I64"),
        "c": entry([], 24, 28),
    }
    body = np.arange(2, dtype="<f4").tobytes() + np.arange(5, dtype="<f4").tobytes()
    found = read_tensors(written(tmp_path / "some.safetensors", header, body))
    assert {name: each.tolist() for name, each in found.items()} == {"a": [[0.0, 1.0], [2.0, 3.0]], "c": 4.0}


@pytest.mark.parametrize(
    "header, body",
    [
        (b"", b""),
        (b"[]", b""),
        (b"{", b""),
        ({"a": {"dtype": "F32"}}, b""),
        ({"a": entry([2], 0, 8)}, b"1234"),
        ({"a": entry([2], 0, 4)}, b"12345678"),
        ({"a": entry([2], 4, 0)}, b"12345678"),
        ({"a": entry([-1, -2], 0, 8)}, b"12345678"),
        ({"a": entry([2**40, 2**40], 0, 8)}, b"12345678"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, header, body):
    """By its path."""
    with pytest.raises(ArtifactInvalid, match=r"bad\.safetensors"):
        read_tensors(written(tmp_path / "bad.safetensors", header, body))


def test_a_file_that_says_more_than_it_has_is_refused(tmp_path):
    """Of its header and of nothing at all."""
    path = tmp_path / "bad.safetensors"
    for content in (b"", b"\x00", (1 << 62).to_bytes(8, "little") + b"{}"):
        path.write_bytes(content)
        with pytest.raises(ArtifactInvalid):
            read_tensors(path)
