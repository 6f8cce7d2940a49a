"""Steps of an event and of a question on the page of the architecture: each function that it names is there."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
_STEPS = re.compile(r"\| step \| function \|\n\|---\|---\|\n((?:\|.*\n)+)")
_NAME = re.compile(r"`([a-z_]+(?:\.\w+)+)`")


def named_functions() -> list[str]:
    """Return the dotted names in the tables of steps, in order."""
    tables = _STEPS.findall(PAGE.read_text("utf-8"))
    assert len(tables) == 2
    return [name for table in tables for row in table.splitlines() for name in _NAME.findall(row)]


def is_there(name: str) -> bool:
    """Return whether a dotted name below ``midstream`` is a module's function, or a method of its class."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(f"midstream.{'.'.join(parts[:count])}")
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return callable(found)
    return False


@pytest.mark.parametrize("name", named_functions())
def test_function_of_a_step_is_there(name):
    """A reader who follows a request opens the function that the page names."""
    assert is_there(name)


def test_a_name_that_is_gone_is_noticed():
    """Neither a method nor a module is guessed."""
    assert not is_there("state.fold.Fold.applied")
    assert not is_there("state.folds.Fold.apply")
