"""The wheel by pip in an environment of its own: the quickstart passes from an empty folder, without the checkout."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.quickstart import assert_as_promised, run_quickstart

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
INSTALL_S_MAX = 900
APART = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""What would lead an interpreter to other packages than its own."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder of the programs of an environment that pip made from the wheel, with the versions of the lock."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder), cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    # Versions of the lock, without its hashes: pip takes no hashes in a file of constraints with a wheel that has none.
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    pinned = [line.split()[0] for line in lines if "==" in line and not line.startswith((" ", "#"))]
    (folder / "versions.txt").write_text("\n".join(pinned))
    run(sys.executable, "-m", "venv", str(folder / "environment"), cwd=folder)
    programs = folder / "environment" / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--constraint",
        folder / "versions.txt", wheel, cwd=folder)  # fmt: skip
    return programs


def run(*words, cwd):
    """Run a program to its good end; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name not in APART}
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_package_is_that_of_the_wheel(installed, tmp_path):
    """It lies in the environment, with what pyproject.toml says and none of what tests need."""
    place = run(installed / "python", "-c", "import midstream; print(midstream.__file__)", cwd=tmp_path).strip()
    assert Path(place).is_relative_to(installed.parent)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    listed = run(installed / "python", "-m", "pip", "list", "--format", "freeze", cwd=tmp_path).split()
    assert f"midstream=={version}" in listed
    assert not {"pytest", "hypothesis", "lightgbm"} & {each.partition("==")[0] for each in listed}
    run(installed / "python", "-m", "pip", "check", cwd=tmp_path)


def test_quickstart_passes(installed, tmp_path):
    """As a reader has it who installed the program: an empty folder, and nothing else on any path."""
    environment = {name: value for name, value in os.environ.items() if name not in APART}
    assert list(tmp_path.iterdir()) == []
    assert_as_promised(run_quickstart(installed, tmp_path, environment), tmp_path / "shop")


def test_pages_of_the_documentation_are_there(installed, tmp_path):
    """``midstream docs`` prints a page without a checkout, and every command has its help."""
    assert "# Commands" in run(installed / "midstream", "docs", "cli", cwd=tmp_path)
    assert "recommend" in run(installed / "midstream", "--help", cwd=tmp_path)
