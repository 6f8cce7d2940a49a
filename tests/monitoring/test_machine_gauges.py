"""Gauges of the machine: nothing before the first reading, then what was read, under documented names."""

from prometheus_client import CollectorRegistry

from midstream.monitoring.machine_gauges import MachineReading
from midstream.monitoring.metrics import Metrics

READING = MachineReading(1, 2, 3, 4, 5.5, 6, 7)


def samples(metrics):
    """Return the samples of the gauges by name."""
    return {each.name: each.value for family in metrics.machine.collect() for each in family.samples}


def test_no_value_before_the_first_reading():
    """A free disk of 0 bytes that nobody measured would page somebody."""
    assert samples(Metrics(CollectorRegistry())) == {}


def test_values_are_those_of_the_newest_reading():
    """Each field under its own name."""
    metrics = Metrics(CollectorRegistry())
    metrics.machine.set(READING._replace(disk_free_bytes=9))
    metrics.machine.set(READING)
    assert samples(metrics) == {
        "midstream_resident_memory_bytes": 1,
        "midstream_memory_limit_bytes": 2,
        "midstream_open_files": 3,
        "midstream_open_files_max": 4,
        "midstream_cpu_seconds_total": 5.5,
        "midstream_disk_free_bytes": 6,
        "midstream_disk_bytes": 7,
    }
