"""The wheel: everything that the package needs at run time is in it, and nothing of the checkout beside that."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Return the wheel that the sources of now make, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def tracked(*folders: str) -> set[str]:
    """Return the files of the repository below some folders."""
    listed = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, check=True, capture_output=True, text=True)
    return {name for name in listed.stdout.split("\0") if name}


def test_wheel_has_each_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    """Modules, recorded kernels, texts and the mark of types; each page of the documentation; no test."""
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {name.removeprefix("src/") for name in tracked("src/midstream")}
    pages = {f"midstream/{name}" for name in tracked("docs") if not name.endswith(".json")}
    assert len(sources) > 500
    assert len(pages) > 100
    assert names == sources | pages
    assert "midstream/py.typed" in names


def test_wheel_says_what_it_needs(wheel: zipfile.ZipFile) -> None:
    """The program, the licence, the releases of Python, and each dependency of pyproject.toml."""
    (folder,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    assert "midstream = midstream.__main__:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    metadata = wheel.read(f"{folder}/METADATA").decode()
    assert "Requires-Python: <3.15,>=3.11" in metadata
    needed = set(re.findall(r"^Requires-Dist: ([\w.-]+)(?:\[[\w,]+\])?[^;\n]*$", metadata, re.MULTILINE))
    assert {"numpy", "numba", "msgspec", "pyarrow", "uvicorn", "typer"} <= needed
    assert not needed & {"pytest", "ruff"}
