"""Reading of memory, files, CPU and disk from the kernel, and of limits from control groups."""

import mmap
import os
import shutil

import numpy as np
import pytest

from midstream.app.machine_reading import read_machine, set_machine
from midstream.monitoring.machine_gauges import MachineGauges

MIB = 1 << 20


@pytest.fixture
def kernel(tmp_path):
    """A process below ``/proc`` and a tree of control groups, as folders."""
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "fd").mkdir(parents=True)
    (groups / "system.slice" / "midstream.service").mkdir(parents=True)
    (proc / "statm").write_text("1000 300 20 0 0 0 0\n")
    (proc / "cgroup").write_text("0::/system.slice/midstream.service\n")
    return proc, groups


def test_memory_that_is_touched_is_resident(tmp_path):
    """The number follows what the process takes, and the limit is no smaller than that."""
    before = read_machine(tmp_path)
    # Pages of the kernel, not of the allocator: that one may hand out memory which is resident already.
    block = np.frombuffer(mmap.mmap(-1, 64 * MIB), dtype=np.uint8)
    block[:] = 1
    after = read_machine(tmp_path)
    assert after.resident_bytes - before.resident_bytes > 48 * MIB
    assert after.memory_limit_bytes > after.resident_bytes
    assert after.cpu_seconds >= before.cpu_seconds > 0
    assert block.all()


def test_a_file_that_is_open_counts(tmp_path):
    """One more while it is open, below the limit."""
    before = read_machine(tmp_path).open_files
    with (tmp_path / "a").open("w"):
        now = read_machine(tmp_path)
    assert now.open_files == before + 1 < now.open_files_max


def test_disk_is_that_of_the_folder_or_of_the_nearest_above(tmp_path):
    """As the system says, also before the folder is made."""
    now = read_machine(tmp_path / "not" / "there")
    usage = shutil.disk_usage(tmp_path)
    assert now.disk_bytes == usage.total
    assert 0 < now.disk_free_bytes <= usage.total


@pytest.mark.parametrize(
    "own,above,limit",
    [("max", "max", None), (str(300 * MIB), "max", 300 * MIB), (str(300 * MIB), str(200 * MIB), 200 * MIB)],
)
def test_limit_is_the_smallest_of_the_control_groups(tmp_path, kernel, own, above, limit):
    """Of the unit and of all above it; without one it is the machine's memory."""
    proc, groups = kernel
    (groups / "system.slice" / "midstream.service" / "memory.max").write_text(f"{own}\n")
    (groups / "system.slice" / "memory.max").write_text(f"{above}\n")
    now = read_machine(tmp_path, proc, groups)
    page = os.sysconf("SC_PAGE_SIZE")
    assert now.resident_bytes == 300 * page
    assert now.memory_limit_bytes == (limit or os.sysconf("SC_PHYS_PAGES") * page)


def test_a_kernel_that_does_not_say_leaves_the_gauges_out(tmp_path, monkeypatch):
    """A scrape has all other metrics, and no value of an earlier reading."""
    gauges = MachineGauges()
    set_machine(gauges, tmp_path)
    assert all(family.samples for family in gauges.collect())
    monkeypatch.setattr("midstream.app.machine_reading.read_machine.__defaults__", (tmp_path / "proc", tmp_path))
    set_machine(gauges, tmp_path)
    assert not any(family.samples for family in gauges.collect())
