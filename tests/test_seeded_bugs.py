"""The known bugs still fit into the sources; whether the suite catches them is ``scripts/seeded-bugs``."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUGS = runpy.run_path(str(ROOT / "scripts" / "seeded_bugs.py"))["BUGS"]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_edit_fits(bug):
    """Each text that a bug replaces stands exactly once where it is looked for, and the tests named exist."""
    for edit in bug.edits:
        assert (ROOT / "src" / "midstream" / edit.file).read_text().count(edit.old) == 1
        assert edit.old != edit.new
    for path in bug.tests:
        assert (ROOT / path).exists()
