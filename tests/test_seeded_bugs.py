"""The known bugs still fit into the sources; whether the suite catches them is ``scripts/seeded-bugs``."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "seeded_bugs.py"))
BUGS = SCRIPT["BUGS"]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_edit_fits(bug):
    """Each text that a bug replaces stands exactly once where it is looked for, and the tests named exist."""
    for edit in bug.edits:
        assert (ROOT / "src" / "midstream" / edit.file).read_text().count(edit.old) == 1
        assert edit.old != edit.new
    for path in bug.tests:
        assert (ROOT / path).exists()


@pytest.mark.parametrize("reason, caught", [("Timeout (>900.0s) from pytest-timeout.", False), ("no", True)])
def test_a_test_that_took_too_long_has_noticed_nothing(tmp_path, monkeypatch, reason, caught):
    """Also where its name is so long that the reason stands far to the right, and whatever the window's width."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("CI", raising=False)
    name = f"test_{'long_' * 20}"
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(f"import pytest\n\ndef {name}():\n    pytest.fail({reason!r})\n")
    assert SCRIPT["outcome"](tmp_path, ("test_it.py",))[0] is caught
