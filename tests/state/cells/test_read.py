"""The memory of kernels that read cells: what they make for themselves is theirs until they are done."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from midstream.core.types import LogPosition
from midstream.state.cells.cells import CellOwners
from midstream.state.expressions.program import Cell
from midstream.state.fold import Fold
from tests.support.events import random_events, tiny_settings

ROOT = Path(__file__).parents[3]
OVERWRITES = {"MALLOC_PERTURB_": "90", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
"""What is freed is written over at once, as it else is by whoever asks for memory next, such as another thread."""
SIZES = (8, 16, 64, 1, 7, 9, 65, 71, 501)
"""Candidates: whole eights and not, one block of rows and several."""


def read_all() -> None:
    """Read cells of several candidates at once, and of each alone."""
    ways: tuple[dict[str, Any], ...] = ({}, {"half_life_ms": 600_000}, {"window_ms": 1_800_000})
    cells = tuple(sorted((Cell("item", ("click", "view"), **way) for way in ways), key=msgspec.json.encode))
    fold = Fold(msgspec.structs.replace(tiny_settings(), cells=cells))
    fold.apply(LogPosition(0), random_events(600, 11))
    now = fold.log_time_ms
    alone = [fold.cells.read(cells, CellOwners(np.full(8, item, dtype=np.int32)), now)[0] for item in range(8)]
    for size in SIZES:
        index = (np.arange(size) % 8).astype(np.int32)
        np.testing.assert_array_equal(fold.cells.read(cells, CellOwners(index), now), np.array(alone)[index])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is freed is written over by glibc alone")
def test_no_memory_is_read_that_was_freed():
    """Of a process whose memory is written over when it is freed."""
    run = [sys.executable, "-c", f"from {__name__} import read_all; read_all()"]
    done = subprocess.run(run, cwd=ROOT, env=os.environ | OVERWRITES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2_000:])
