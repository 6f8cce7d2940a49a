"""Long proofs and tests of other programs run when they are asked for, and all others always."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.selection import INTEGRATION, LONG, is_left_out


def marked(*names: str) -> Any:
    """Return what stands for a test with these markers."""
    return SimpleNamespace(get_closest_marker=lambda name: name if name in names else None)


@pytest.mark.parametrize(
    "names, markers, is_long, left_out",
    [
        ((), "", False, False),
        (("slow",), "", False, False),
        ((LONG,), "", False, True),
        ((LONG,), "", True, False),
        ((LONG,), "long and crash", False, False),
        ((LONG,), "not slow", False, True),
        ((INTEGRATION,), "", True, True),
        ((INTEGRATION,), "integration", False, False),
        ((INTEGRATION, LONG), "integration", False, True),
        ((INTEGRATION, LONG), "integration", True, False),
    ],
)
def test_what_is_asked_for_runs(names: tuple[str, ...], markers: str, is_long: bool, left_out: bool) -> None:
    """By ``--long``, by a marker, or by its own name."""
    assert is_left_out(marked(*names), markers, is_long=is_long) == left_out


def test_the_marker_of_other_programs_stands_in_files_of_tests_alone():
    """scripts/test-integrations looks for the files that name it, and collects no others."""
    named = [each for each in Path(__file__).parent.rglob("*.py") if f"mark.{INTEGRATION}" in each.read_text("utf-8")]
    assert len(named) > 20
    assert [each.name for each in named if not each.name.startswith("test_")] == []
