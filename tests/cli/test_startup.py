"""A command imports what it needs and no more: each library that is heavy, and is not asked for, stays out."""

import json
import subprocess
import sys

import pytest

from midstream.__main__ import main

HEAVY = (
    *("numba", "llvmlite", "scipy", "pyarrow", "fastapi", "starlette", "uvicorn", "httpx", "sqlalchemy"),
    *("lightgbm", "sklearn", "torch", "onnxruntime", "tensorflow", "mlflow", "pandas", "hypothesis"),
    "rich",
)
"""Each takes 0.1 to 2 s of CPU to import, but for the last, which takes 0.03 s."""
PROGRAM = """
import json, sys
from midstream.cli.named_command import main
heavy, commands = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for command in commands:
    try:
        main(command)
    except SystemExit as left:
        assert not left.code, (command, left.code)
    print(json.dumps([command, sorted(set(heavy) & set(sys.modules))]), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """What some commands had imported, one after another in one new process, by command; lightest first."""
    folder = str(tmp_path_factory.mktemp("shop"))
    commands = [["--help"], ["train", "--help"], ["init", folder], ["dead-letters", "list", "--folder", folder]]
    program = [sys.executable, "-c", PROGRAM, json.dumps(HEAVY), json.dumps(commands)]
    done = subprocess.run(program, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[[")]
    return {" ".join(command[:2]): found for command, found in lines}


@pytest.mark.parametrize("command", ["--help", "train --help", "init", "dead-letters list"])
def test_a_command_that_computes_nothing_imports_nothing_heavy(imported, command):
    """Help, the first files of a shop, and what only reads a file of the folder; help draws no table either."""
    (found,) = (found for name, found in imported.items() if name.startswith(command))
    assert found == ([] if "--help" in command else ["rich"])


class _Interrupts:
    """An importer whose import is interrupted."""

    def find_spec(self, name, _path=None, _target=None):
        if name == "midstream.cli.named_command":
            raise KeyboardInterrupt


def test_an_interrupt_while_modules_are_imported_ends_the_program_without_a_traceback(monkeypatch):
    """As later: exit status 130."""
    monkeypatch.delitem(sys.modules, "midstream.cli.named_command", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Interrupts(), *sys.meta_path])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 130
