"""Package of two modules with kernels, which programs of a test run in processes of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from midstream.events import kernel
from tests.support.patience import PATIENCE_S

EVENTS = Path(kernel.__file__).parent
CALLEE = """
from midstream.events.kernel import kernel


@kernel
def step(value):
    return value + 1


@kernel
def turn(value):
    return -value
"""
CALLER = """
from midstream.events.kernel import kernel
from midstream.state.callee import step, turn


@kernel
def walk(value):
    return step(step(value)) + turn(value)
"""
RECORDED = """{"types": ["int64", "float64"], "kernels": [
{"module": "midstream.state.callee", "name": "step", "cost_ms": 5, "needs": [], "is_called": false,
 "is_optional": false, "signatures": [[0], [1]]},
{"module": "midstream.state.callee", "name": "turn", "cost_ms": 5, "needs": [], "is_called": false,
 "is_optional": false, "signatures": [[0], [1]]},
{"module": "midstream.state.caller", "name": "walk", "cost_ms": 9, "needs": [0, 1], "is_called": true,
 "is_optional": false, "signatures": [[0], [1]]}]}
"""
CALLS = """
from numba.core.event import Listener, register
class Compiles(Listener):
    count = 0
    def on_start(self, event):
        Compiles.count += event.data["dispatcher"].py_func.__module__.startswith("midstream.")
    def on_end(self, event):
        pass
register("numba:compile", Compiles())
from midstream.state.caller import walk
print(walk(20), walk(2.5), Compiles.count)
"""


def began(package, program, **variables):
    """Start a program on the package."""
    # No bytecode: a file that changes twice in a second would be taken for the one before.
    names = {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(package.parent),
        "NUMBA_CACHE_DIR": str(package.parent / "cache"),
        **variables,
    }
    words = [sys.executable, "-c", program]
    return subprocess.Popen(words, env=os.environ | names, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    """Return the last line that it printed."""
    printed, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    return printed.splitlines()[-1]


def run(package, program, **variables):
    return ended(began(package, program, **variables))


def make_package(tmp_path):
    """Return the folder of the package, with what compiles its kernels; their machine code lies beside it."""
    folder = tmp_path / "midstream"
    for name in ("", "core", "events", "events/machine_code", "state"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").touch()
    for name in ("kernel.py", "import_closure.py", "file_modes.py"):
        shutil.copy(EVENTS / name, folder / "events")
    for path in (EVENTS / "machine_code").glob("*.py"):
        shutil.copy(path, folder / "events" / "machine_code")
    (folder / "events/machine_code/recorded.json").write_text(RECORDED)
    (folder / "core/types.py").write_text("class EventBatch:\n    rows = text = None\n")
    (folder / "state/callee.py").write_text(CALLEE)
    (folder / "state/caller.py").write_text(CALLER)
    return folder
