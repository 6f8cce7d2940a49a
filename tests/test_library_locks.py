"""Locks of the libraries that tests have beside .venv: none of them hides a package of .venv under another version.

``scripts/test-integrations`` puts their folders on PYTHONPATH, before .venv: the version of a folder is the one that is
imported, and tests would run with another than the one that ``requirements.lock`` says.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "test-integrations"
APART = {"build", "feast", "hopsworks", "site"}
"""Not on the path: PySpark is made with the first, Feast and the builder of the site run in processes of their own,
and of Hopsworks the source is read."""


def pins(text: str) -> dict[str, str]:
    """Return the version of each package of a lock, by the name that all tools compare."""
    found = re.findall(r"(?m)^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", text)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def locks() -> dict[str, dict[str, str]]:
    """Return the pins of each folder that is on the path of tests, by the name of its lock."""
    script = SCRIPT.read_text("utf-8")
    (path,) = re.findall(r"(?m)^export PYTHONPATH=\"(.*)\"$", script)
    named = dict(re.findall(r"(?m)\bbeside \"\$(\w+)\" scripts/([\w.-]+)\.lock", script))
    folders = re.findall(r"\$PWD/\$(\w+)", path)
    assert set(folders) == set(named)
    return {named[each]: pins((ROOT / "scripts" / f"{named[each]}.lock").read_text("utf-8")) for each in folders}


def shadowed(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Return each package that two locks have in different versions, with both."""
    both = sorted(first.keys() & second.keys())
    return [f"{name}: {first[name]}, and {second[name]}" for name in both if first[name] != second[name]]


OURS = pins((ROOT / "requirements.lock").read_text("utf-8"))


def test_every_lock_is_looked_at() -> None:
    """All that there are but those of folders that are not on the path; each has packages, and so has that of .venv."""
    there = {each.stem for each in (ROOT / "scripts").glob("*.lock")}
    assert set(locks()) == there - APART
    assert all(locks().values())
    assert {"numpy", "protobuf", "packaging"} <= OURS.keys()


@pytest.mark.parametrize("name", sorted(locks()))
def test_no_library_hides_a_package_of_ours(name: str) -> None:
    """What both have is of one version: else `scripts/lock` makes the lock anew."""
    assert shadowed(locks()[name], OURS) == []


def test_no_library_hides_one_of_another_folder() -> None:
    """The first on the path is imported, so what two of them have is of one version."""
    found = list(locks().items())
    pairs = [(one, two) for at, one in enumerate(found) for two in found[at + 1 :]]
    assert {f"{one[0]} and {two[0]}": shadowed(one[1], two[1]) for one, two in pairs if shadowed(one[1], two[1])} == {}


def test_a_difference_is_told_with_both_versions() -> None:
    """By the one name of a package, however a lock writes it."""
    one = pins("Typing_Extensions==4.1 \\\n    --hash=sha256:aa\nnumpy==2.4.6 ; python_version > '3'\n")
    two = pins("# a remark\ntyping-extensions==4.2\nnumpy==2.4.6\nother==1\n")
    assert shadowed(one, two) == ["typing-extensions: 4.1, and 4.2"]


def test_the_demo_has_a_part_of_the_lock_that_lacks_nothing() -> None:
    """Each entry as in the lock, and all that its packages ask for on any machine; what checks sources is left out."""
    program = [sys.executable, "scripts/demo_lock.py"]
    printed = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    part = pins(printed.stdout)
    assert part.items() <= OURS.items()
    assert printed.stdout.count("--hash=") > len(part)
    assert not part.keys() & {"pytest", "mypy", "ruff", "scikit-learn", "grpcio"}
    for name in ("midstream", *part):
        for text in requires(name) or ():
            need = re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9_.-]", text)[0]).lower()
            assert need in part or "extra ==" in text or need not in OURS or ";" in text, (name, text)
