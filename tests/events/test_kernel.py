"""Machine code is cached where it may be, and never used after a change of what it was made from."""

import stat
import subprocess
import sys

import pytest

from midstream.events import import_closure, kernel

CALLER = "from midstream.state.callee import step\n\n\ndef walk():\n    return step()\n"
CALLEE = "def step():\n    return 1\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two modules in place of this one."""
    monkeypatch.setattr(import_closure, "_read", import_closure._read.__wrapped__)  # files change within a test
    folder = tmp_path / "midstream" / "state"
    folder.mkdir(parents=True)
    (folder / "caller.py").write_text(CALLER)
    (folder / "callee.py").write_text(CALLEE)
    (folder / "other.py").write_text(CALLEE)
    monkeypatch.setattr(kernel, "_PACKAGE", tmp_path / "midstream")
    return folder


def test_a_change_of_a_called_module_changes_the_cache(package):
    """This is what the cache of numba alone would not notice."""
    before = kernel.source_hash(package / "caller.py")
    (package / "callee.py").write_text(CALLEE.replace("1", "2"))
    assert kernel.source_hash(package / "caller.py") != before


def test_a_change_elsewhere_keeps_the_cache(package):
    """Otherwise every edit anywhere would compile everything again."""
    before = kernel.source_hash(package / "caller.py")
    (package / "other.py").write_text(CALLEE.replace("1", "2"))
    assert kernel.source_hash(package / "caller.py") == before


def written(folder, name, text=""):
    """Write a module, and the packages that it lies in."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for each in path.relative_to(folder).parents:
        (folder / each / "__init__.py").touch()
    path.write_text(text)
    return path


IMPORTS = {
    "absolute": "from midstream.state.deep.er.callee import step\n",
    "of_a_module": "from midstream.state.deep.er import callee\n",
    "plain": "import midstream.state.deep.er.callee as callee\n",
    "relative": "from .deep.er.callee import step\n",
    "relative_up": "from ..state.deep.er import callee\n",
    "on_lines": "from midstream.state.deep.er import (\n    other,\n    callee,\n)\n",
    "continued": "from midstream.state.deep.er import other, \\\n    callee\n",
    "passed_on": "from midstream.state.passing import step\n",
    "in_a_block": "import sys\n\nif sys.byteorder:\n    import midstream.state.deep.er.callee\nelse:\n    x = None\n",
    "in_a_try": "try:\n    # first\n    import midstream.state.deep.er.callee\nexcept ImportError:\n    x = None\n",
}


@pytest.mark.parametrize("form", IMPORTS)
def test_imports_are_followed_at_any_depth_in_each_form(package, form):
    """Machine code of a callee that has changed would run else."""
    caller = written(package, "caller.py", IMPORTS[form])
    callee = written(package, "deep/er/callee.py", CALLEE)
    written(package, "passing/__init__.py", "from .on import step\n")
    written(package, "passing/on.py", "from ..deep.er.callee import step\n")
    before = kernel.source_hash(caller)
    callee.write_text(CALLEE.replace("1", "2"))
    assert kernel.source_hash(caller) != before


@pytest.mark.parametrize("name", ["deep/__init__.py", "deep/er/__init__.py"])
def test_the_packages_on_the_way_are_part_of_it(package, name):
    """A package may set what a kernel below it reads."""
    caller = written(package, "caller.py", IMPORTS["absolute"])
    written(package, "deep/er/callee.py", CALLEE)
    before = kernel.source_hash(caller)
    (package / name).write_text("SIZE = 2\n")
    assert kernel.source_hash(caller) != before


@pytest.mark.parametrize(
    "text",
    [
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from midstream.state.callee import step\n",
        "def later():\n    from midstream.state.callee import step\n    return step\n",
    ],
)
def test_what_loading_does_not_import_keeps_the_cache(package, text):
    """Else the package's own entry, which opens everything, would tie every kernel to every file."""
    caller = written(package, "caller.py", text)
    before = kernel.source_hash(caller)
    (package / "callee.py").write_text(CALLEE.replace("1", "2"))
    assert kernel.source_hash(caller) == before


def test_the_closure_has_every_module_that_is_imported():
    """Of modules with kernels, what the scan finds is held against what Python loads for them."""
    program = (
        "import importlib, sys\n"
        "from pathlib import Path\n"
        "found, names = set(), ('midstream.state.fold', 'midstream.models.halves', 'midstream.events.decode')\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "loaded = {key: Path(each.__file__) for key, each in sys.modules.items() if key.startswith('midstream')}\n"
        "from midstream.events import import_closure, kernel\n"
        "root = loaded['midstream'].parent\n"
        "for name in names:\n"
        "    found |= set(import_closure.sources_of(loaded[name], root))\n"
        "print(len(loaded), sorted(set(loaded.values()) - found))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    count, missing = done.stdout.split(maxsplit=1)
    assert int(count) > 50
    assert missing.strip() == "[]"


def test_the_cache_lies_where_it_is_told_to(package, tmp_path, monkeypatch):
    """``NUMBA_CACHE_DIR`` is the parent."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    kernel._parents.cache_clear()
    try:
        folder = kernel.cache_folder.__wrapped__(package / "caller.py")
    finally:
        kernel._parents.cache_clear()
    assert folder.parent == tmp_path / "cache"
    assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0


def test_a_place_that_cannot_be_used_is_passed_by(package, tmp_path, monkeypatch):
    """A file where the folder should be stands for a read-only container."""
    (tmp_path / "blocked").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "blocked"))
    kernel._parents.cache_clear()
    try:
        folder = kernel.cache_folder.__wrapped__(package / "caller.py")
    finally:
        kernel._parents.cache_clear()
    assert folder.is_dir()
    assert tmp_path / "blocked" not in folder.parents
