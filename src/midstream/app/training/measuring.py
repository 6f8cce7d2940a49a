"""Child process that measures a new version beside the one in service: what gates ask of both.

Both are loaded as a promotion would load them, verified by their hashes and golden questions, and asked made-up
questions. What cannot be read is a measurement too.
"""

import signal
import time
from pathlib import Path

import msgspec

from midstream.app.training.worker import limit_memory
from midstream.core.errors import MidstreamError
from midstream.engine import child_process
from midstream.training.gates.evidence import GoldenAnswers, MeasuredVersion
from midstream.training.gates.golden_answers import golden_answers, read_golden
from midstream.training.gates.probes import measured, unreadable
from midstream.training.registry import LoadedVersion, Registry

MODULE = "midstream.app.training.measuring"


class MeasureOrder(child_process.WorkOrder, frozen=True):
    """Two versions of a model."""

    model: str
    candidate: str
    champion: str
    """Empty = none is in service."""
    popular: tuple[str, ...]
    """Most popular items now."""
    golden: str
    """File of known answers; empty = none."""
    version_bytes_max: int
    memory_bytes_max: int


class MeasuredPair(msgspec.Struct, frozen=True):
    """What was measured."""

    candidate: MeasuredVersion
    champion: MeasuredVersion | None
    golden: GoldenAnswers


def run(order: MeasureOrder, _pace: child_process.Pace) -> MeasuredPair:
    """Return what the two versions answer.

    Raises:
        ConfigInvalid: The file of known answers cannot be read.
    """
    limit_memory(order.memory_bytes_max)
    told = read_golden(Path(order.golden)) if order.golden else None
    registry = Registry(Path(order.folder), order.version_bytes_max)
    champion = None
    if order.champion:
        champion, _ = _measured(registry, order, order.champion)
    candidate, loaded = _measured(registry, order, order.candidate)
    golden = GoldenAnswers()
    if told is not None and loaded is not None:
        golden = golden_answers(loaded.model, told)
    return MeasuredPair(candidate, champion, golden)


def _measured(registry: Registry, order: MeasureOrder, version: str) -> tuple[MeasuredVersion, LoadedVersion | None]:
    """Return what one version answers, or why it cannot be asked."""
    try:
        loaded = registry.load(order.model, version)
        found = measured(loaded.model, loaded.manifest, version, order.popular, time.process_time)
    except MemoryError:
        return unreadable(version, f"it needs more than memory_bytes_max of {order.memory_bytes_max:,}"), None
    except (MidstreamError, OSError) as error:
        return unreadable(version, f"{type(error).__name__}: {' '.join(str(error).split())}"), None
    return found, loaded


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; who waits ends this process
    child_process.main(MeasureOrder, run, logs_bugs=False)
