"""Feast in a process of its own: a repository, asked line by line, and the commands of its program.

Feast's packages lie in a folder beside ``.venv``, before what ``.venv`` has, and only these processes see them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.patience import PATIENCE_S
from tests.support.services.beside import FEAST

ROOT = Path(__file__).parents[2]
PACKAGES = FEAST.folder
PEER = ROOT / "benchmarks" / "feast_peer"
_PROGRAM = "from feast.cli.cli import cli; cli()"


class FeastFailed(Exception):
    """A command failed; the text is Feast's."""


def environment() -> dict[str, str]:
    """Return the environment of a process with Feast."""
    told = {**os.environ, "PYTHONPATH": str(PACKAGES), "FEAST_USAGE": "False", "IS_TEST": "False"}
    return {**told, "PYTHONWARNINGS": "ignore"}


def command(*words: str) -> list[str]:
    """Return the words of Feast's program."""
    return [sys.executable, "-c", _PROGRAM, *words]


def run_feast(*words: str) -> str:
    """Run a command of Feast to its end; return what it printed.

    Raises:
        FeastFailed: Its exit status is not 0.
    """
    found = subprocess.run(
        command(*words), env=environment(), check=False, timeout=PATIENCE_S, capture_output=True, text=True
    )
    if found.returncode:
        raise FeastFailed(f"{found.stdout}\n{found.stderr}")
    return found.stdout


class FeastRepository:
    """A repository that was applied, open in a process."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process = process
        self.folder = folder

    def ask(self, do: str, **told: Any) -> Any:
        """Return the answer to a command.

        Raises:
            FeastFailed: The command raised an error; the text is that.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps({'do': do, **told})}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise FeastFailed(f"the process ended with {self._process.wait(PATIENCE_S)}")
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            raise FeastFailed(answer["error"])
        return answer["answer"]


@contextmanager
def opened(folder: Path, said: Path) -> Generator[FeastRepository]:
    """Open an applied repository until the block ends.

    Args:
        folder: Of the repository.
        said: File for what Feast prints.
    """
    words: Sequence[str] = [sys.executable, str(PEER / "repository.py"), str(folder)]
    with (
        said.open("w") as file,
        subprocess.Popen(
            words, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True
        ) as process,
    ):
        try:
            yield FeastRepository(process, folder)
        finally:
            process.kill()
