"""The known bugs still fit into the sources; whether the suite catches them is ``scripts/seeded-bugs``."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_spec = importlib.util.spec_from_file_location("seeded_bugs", ROOT / "scripts" / "seeded_bugs.py")
seeded_bugs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(seeded_bugs)


@pytest.mark.parametrize("bug", seeded_bugs.BUGS, ids=lambda bug: bug.name)
def test_the_edit_fits(bug: object) -> None:
    """Each text that a bug replaces stands exactly once where it is looked for, and the tests named exist."""
    for edit in bug.edits:
        assert (ROOT / "src" / "midstream" / edit.file).read_text().count(edit.old) == 1
        assert edit.old != edit.new
    for path in bug.tests:
        assert (ROOT / path).exists()
