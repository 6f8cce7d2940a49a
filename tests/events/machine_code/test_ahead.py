"""Compilation of recorded kernels in processes side by side: complete, alone, and never a reason not to run."""

import os
import shutil

import pytest

from tests.support.kernel_package import CALLER, CALLS, RECORDED, began, ended, run

AHEAD = """
from midstream.events.machine_code.ahead import Manner, compile_ahead
done = compile_ahead(lambda done, total: print("progress", done, total), Manner(workers=2))
print(done.kernels, done.present, *done.failures, sep="; ")
"""
LINKS = """
from midstream.state.callee import step, turn
print(step(1), turn(2))
libraries = [made.library for each in (step, turn) for made in each._made.overloads.values()]
unread = [bool(each._bitcode) for each in libraries]
from midstream.state.caller import walk
print(walk(20), unread, [bool(each._bitcode) for each in libraries])
"""
IN_WORKER = 'import sys, os\nif sys.argv[0].endswith("worker.py"):\n    {}\n'


def test_a_process_after_it_compiles_nothing(package):
    """And the next start looks for one file and no more."""
    assert run(package, AHEAD) == "3; 0"
    assert run(package, CALLS) == "2 2.0 0"
    shutil.rmtree(next((package.parent / "cache").glob("callee-*")))
    assert run(package, AHEAD) == "0; 3"


def test_without_it_all_is_compiled_by_who_calls(package):
    """The count of the test above can be other than 0."""
    assert run(package, CALLS) == "2 2.0 6"


def test_only_what_is_missing_is_compiled(package):
    """A change of one module compiles that one and what calls it."""
    run(package, AHEAD)
    (package / "state/caller.py").write_text(CALLER.replace("turn(value)", "turn(step(value))"))
    assert run(package, AHEAD) == "1; 2"


def test_bitcode_is_read_by_who_compiles_a_caller(package):
    """Loading a kernel needs its machine code alone."""
    run(package, "from midstream.state.callee import step, turn; print(step(1), turn(1))")
    assert run(package, LINKS) == "2 [True, True] [False, False]"
    assert run(package, CALLS) == "2 2.0 3"  # what was compiled with it is kept, and right; the rest is for float64


def test_two_at_once_compile_once(package):
    """The second waits for the first."""
    processes = [began(package, AHEAD) for _ in range(2)]
    assert sorted(ended(each) for each in processes) == ["0; 3", "3; 0"]
    assert run(package, CALLS) == "2 2.0 0"


def test_a_process_that_is_killed_leaves_the_rest_to_the_others(package):
    """The kernel that it had is compiled by who calls it; the next start tries again."""
    path = package / "state/callee.py"
    whole = path.read_text()
    mark = package.parent / "killed"
    once = f'if not os.path.exists("{mark}"): open("{mark}", "x").close(); os.kill(os.getpid(), 9)'
    path.write_text(IN_WORKER.format(once) + whole)
    done = run(package, AHEAD)
    assert done.startswith("2; 0; midstream.state.callee.")
    assert done.endswith("its process ended")
    assert run(package, CALLS).startswith("2 2.0 ")
    assert run(package, AHEAD) == "0; 3"


def test_all_processes_may_be_killed(package):
    """It returns, and the caller compiles."""
    path = package / "state/callee.py"
    path.write_text(IN_WORKER.format("os.kill(os.getpid(), 9)") + path.read_text())
    assert run(package, AHEAD).startswith("0; 0; midstream.state.callee.")
    assert run(package, CALLS) == "2 2.0 6"


@pytest.mark.parametrize("bytes_max", [0, 100])
def test_a_full_disk_keeps_nothing_and_breaks_nothing(package, bytes_max):
    """Files may have no byte, or hardly any: kernels are compiled where they are called, and give the same."""
    full = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_max}, {bytes_max}))\n"
    assert run(package, full + AHEAD).startswith("3; 0")
    assert run(package, full + CALLS) == "2 2.0 6"
    assert run(package, AHEAD) == "3; 0"


def test_a_list_that_is_too_old_is_no_error(package):
    """A kernel that is gone, and one with other arguments: said, and left to who calls."""
    path = package / "events/machine_code/recorded.json"
    path.write_text(
        RECORDED.replace('"turn"', '"gone"').replace('"signatures": [[0], [1]]}]', '"signatures": [[0, 0]]}]')
    )
    done = run(package, AHEAD)
    assert done.startswith("1; 0; ")
    assert "state.callee.gone: AttributeError" in done
    assert "state.caller.walk: TypeError: Signature mismatch" in done
    assert run(package, CALLS).startswith("2 2.0 ")


VERSIONS = """
import sys, numpy as np
from midstream.events.kernel import kernel
from midstream.state.caller import walk
from midstream.state import callee
compiled = callee.step._compiled()
open(sys.argv[1] if len(sys.argv) > 1 else "/dev/null").close()
print(callee.step(np.dtype("{}").type(3)))
"""
KINDS = ("i8", "i4", "i2", "i1", "u1", "u2", "u4", "f4", "f8")
COUNTS = """
import numpy as np
from midstream.state.callee import step
for each in {}:
    step(np.dtype(each).type(3))
print(sum(step._made.stats.cache_misses.values()), [float(step(np.dtype(each).type(3))) for each in {}])
"""


def test_versions_written_at_once_are_all_kept(package):
    """Each by a process of its own: none takes another one's file or entry."""
    for each in [began(package, VERSIONS.format(kind)) for kind in KINDS]:
        assert float(ended(each)) == 4
    assert run(package, COUNTS.format(KINDS, KINDS)) == f"0 {[4.0] * len(KINDS)}"


CPU = """
from midstream.events.kernel import cache_folder
from midstream.state import caller
from numba.core.registry import cpu_target
from pathlib import Path
print(cpu_target.target_context.codegen().magic_tuple()[1:], cache_folder(Path(caller.__file__)).name.split("-", 3)[-1])
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the name is that of a CPU of this kind")
def test_machine_code_for_another_cpu_has_nothing_of_this_one(package):
    """It is used where the same CPU is asked for, whatever this one has beside it, and nowhere else."""
    other = {"NUMBA_CPU_NAME": "x86-64-v3"}
    assert run(package, AHEAD, **other) == "3; 0"
    assert run(package, CALLS, **other) == "2 2.0 0"
    made, folder = run(package, CALLS + CPU, **other).rsplit(" ", 1)
    assert made == "('x86-64-v3', '')"
    assert folder == "x86-64-v3"
    assert run(package, CALLS) == "2 2.0 6"
