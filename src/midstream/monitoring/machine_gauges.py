"""Machine gauges: memory, files and CPU of the process, and room on the disk of the data folder.

Before the first reading there are no series, so that a value is never a zero that nobody measured.
"""

from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class MachineReading(NamedTuple):
    """Use and limits of one process at one moment, in bytes, files and seconds."""

    resident_bytes: int
    """Resident set of this process, without its children."""
    memory_limit_bytes: int
    """Memory that the process may use: the smallest limit of its control groups, at most that of the machine."""
    open_files: int
    open_files_max: int
    cpu_seconds: float
    """User and system time since the start of the process."""
    disk_free_bytes: int
    """Room on the disk of the data folder for a process without special rights."""
    disk_bytes: int


_FAMILIES = (
    (GaugeMetricFamily, "resident_memory_bytes", "Resident memory of this process."),
    (GaugeMetricFamily, "memory_limit_bytes", "Memory that this process may use."),
    (GaugeMetricFamily, "open_files", "Open file descriptors."),
    (GaugeMetricFamily, "open_files_max", "File descriptors that may be open."),
    (CounterMetricFamily, "cpu_seconds", "CPU time of this process."),
    (GaugeMetricFamily, "disk_free_bytes", "Free bytes on the disk of the data folder."),
    (GaugeMetricFamily, "disk_bytes", "Size of that disk."),
)
"""In the order of the fields of a reading."""


class MachineGauges(Collector):
    """Families of the newest reading."""

    def __init__(self) -> None:
        """Begin without any series."""
        self._reading: MachineReading | None = None

    def set(self, reading: MachineReading | None) -> None:
        """Replace all values; None = there are none."""
        self._reading = reading

    def collect(self) -> Iterable[Metric]:
        """Yield each family, with one sample once there is a reading."""
        values: tuple[float | None, ...] = self._reading or (None,) * len(_FAMILIES)
        for (family_type, name, documentation), value in zip(_FAMILIES, values, strict=True):
            family = family_type(f"midstream_{name}", documentation, labels=())
            if value is not None:
                family.add_metric((), value)
            yield family
