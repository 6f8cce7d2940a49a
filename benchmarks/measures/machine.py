"""The machine's own noise beside a row: what a loop, the disk and the hypervisor took while it was measured.

A figure means little where the same loop takes 1.0 in one minute and 1.6 in the next: so each row has the noise of just
its own rounds. ``spin`` is a fixed loop of the interpreter, ``sync`` is ``fdatasync`` of 4 KiB, ``touch`` the first
write to a MiB that is new to the process, ``steal`` the share of time that the hypervisor gave to others, ``load`` the
mean of the last minute over all processes. A touch takes 0.1 to 0.25 ms; where the hypervisor takes free memory back it
takes ten times as much, which is then most of what a state that grows costs.
"""

import mmap
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SPINS, SPIN_STEPS, SYNCS = 5, 200_000, 40
TOUCH_MIB, PAGE_BYTES = 64, 4_096
STEAL = 7
"""Place of stolen ticks in the first line of ``/proc/stat``, behind its name."""


@dataclass(frozen=True)
class Noise:
    """Of one moment, and of the time since the probe before it."""

    spin_ms: float
    spin_worst: float
    """The slowest of the spins in it, as a multiple of the fastest."""
    sync_p50_ms: float
    sync_p99_ms: float
    steal: float
    load: float
    touch_ms: float
    """Of a MiB."""


def ticks() -> tuple[int, int]:
    """Return ticks stolen and ticks in all, over all cores since the machine began."""
    try:
        fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0, 0
    return fields[STEAL], sum(fields)


def probe(folder: Path, since: tuple[int, int]) -> Noise:
    """Measure the noise of now; the steal is that since ``since``."""
    spins = [spin() for _ in range(SPINS)]
    syncs = sync(folder / "noise")
    stolen, every = (now - then for now, then in zip(ticks(), since, strict=True))
    p50, p99 = np.percentile(syncs, [50, 99])
    steal = stolen / every if every else 0.0
    return Noise(min(spins), max(spins) / min(spins), float(p50), float(p99), steal, os.getloadavg()[0], touch())


def spin() -> float:
    """Return the ms that a fixed loop takes."""
    began, total = time.perf_counter(), 0
    for number in range(SPIN_STEPS):
        total += number & 7
    return (time.perf_counter() - began) * 1e3


def touch() -> float:
    """Return the ms that a MiB takes which no process had before; the memory is given back."""
    with mmap.mmap(-1, TOUCH_MIB * 2**20) as fresh:
        began = time.perf_counter()
        for place in range(0, len(fresh), PAGE_BYTES):
            fresh[place] = 1
        return (time.perf_counter() - began) * 1e3 / TOUCH_MIB


def sync(path: Path) -> list[float]:
    """Return the ms that each of some syncs of 4 KiB takes."""
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(b"x" * 4_096)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1e3)
    path.unlink()
    return times


def told(noises: Sequence[Noise], best_ms: float) -> str:
    """Return the noise of a row's rounds in a few words; ``best_ms`` is the fastest spin of the whole run."""
    spins = [each.spin_ms / best_ms for each in noises]
    worst = max(each.spin_ms * each.spin_worst for each in noises) / best_ms
    sync_p50, sync_p99 = np.median([(each.sync_p50_ms, each.sync_p99_ms) for each in noises], axis=0)
    steal, load = max(each.steal for each in noises), max(each.load for each in noises)
    touched = np.median([each.touch_ms for each in noises])
    return (
        f"spin {np.median(spins):.2f}, at worst {worst:.2f}; sync {sync_p50:.2f}/{sync_p99:.2f}; "
        f"touch {touched:.2f}; steal {steal:.1%}; load {load:.1f}"
    )


def named() -> dict[str, object]:
    """Return what the machine is."""
    models = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory[0] / 1e6, 1) if memory else None,
        "system": platform.release(),
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
