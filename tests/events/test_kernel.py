"""Machine code is cached where it may be, and never used after a change of what it was made from."""

import stat

import pytest

from midstream.events import kernel

CALLER = "from midstream.state.callee import step\n\n\ndef walk():\n    return step()\n"
CALLEE = "def step():\n    return 1\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two modules in place of this one."""
    folder = tmp_path / "package" / "state"
    folder.mkdir(parents=True)
    (folder / "caller.py").write_text(CALLER)
    (folder / "callee.py").write_text(CALLEE)
    (folder / "other.py").write_text(CALLEE)
    monkeypatch.setattr(kernel, "_PACKAGE", tmp_path / "package")
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
