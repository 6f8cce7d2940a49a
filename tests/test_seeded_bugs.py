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


@pytest.mark.parametrize("reason, caught", [("Timeout (>900.0s) from pytest-timeout.", None), ("no", True)])
def test_a_test_that_took_too_long_has_said_nothing(tmp_path, monkeypatch, reason, caught):
    """Also where its name is so long that the reason stands far to the right, and whatever the window's width."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("CI", raising=False)
    name = f"test_{'long_' * 20}"
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(f"import pytest\n\ndef {name}():\n    pytest.fail({reason!r})\n")
    assert SCRIPT["outcome"](tmp_path, ("test_it.py",))[0] is caught


IN_EXAMPLES = """
import pytest
from hypothesis import given, strategies

calls = []

@given(strategies.integers())
def test_it(number):
    calls.append(number)
    if len(calls) == 3:
        pytest.fail("Timeout (>900.0s) from pytest-timeout.")
"""
"""A test that ran out of time among its examples: the summary names a wrapped exception, and no time."""
LOGGED = """
import logging

def test_it():
    logging.getLogger("x").error("said")
    raise AssertionError
"""
"""A test that fails after an error was logged, which is told before the summary in a line that begins with ERROR."""


@pytest.mark.parametrize("test, caught", [(IN_EXAMPLES, None), (LOGGED, True)], ids=["in_examples", "logged"])
def test_only_the_summary_says_what_failed_and_the_whole_output_why(tmp_path, monkeypatch, test, caught):
    """A timeout that a wrapper hides has noticed nothing; a line of the log is no outcome of a test."""
    monkeypatch.delenv("CI", raising=False)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(test)
    found, reason = SCRIPT["outcome"](tmp_path, ("test_it.py",))
    assert found is caught
    assert reason.startswith("FAILED test_it.py::test_it")


def test_a_run_that_does_not_end_is_ended(tmp_path, monkeypatch):
    """A loop without end in a kernel never returns to where the time of a test is looked at: the run has one too."""
    monkeypatch.setitem(SCRIPT["outcome"].__globals__, "RUN_S_MAX", 0.2)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(
        "import time\n\ndef test_it():\n    time.sleep(15)\n    raise AssertionError\n"
    )
    assert SCRIPT["outcome"](tmp_path, ("test_it.py",)) == (None, "no end after 0.2 s")


def test_a_run_that_breaks_before_its_summary_has_said_nothing(tmp_path, monkeypatch):
    """A plugin that fails at the end takes the names of failed tests with it; the error is named."""
    monkeypatch.delenv("CI", raising=False)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text("def pytest_sessionfinish(session):\n    raise OSError('no room')\n")
    (tmp_path / "test_it.py").write_text("def test_it():\n    raise AssertionError\n")
    found, reason = SCRIPT["outcome"](tmp_path, ("test_it.py",))
    assert found is None
    assert "no room" in reason


def test_the_plugins_of_this_project_run_without_a_cache(tmp_path):
    """As runs of seeded bugs do: the summary of a failed test is there."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "support").symlink_to(ROOT / "tests" / "support")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.support.services.record"]\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text("def test_it():\n    raise AssertionError\n")
    assert SCRIPT["outcome"](tmp_path, ("test_it.py",))[0] is True


BUG = SCRIPT["Bug"]("slow", (), ())


@pytest.mark.parametrize(
    "found, told",
    [([True], True), ([False], False), ([None, True], True), ([None, False], False), ([None, None], None)],
)
def test_a_bug_without_a_verdict_has_a_second_run_and_is_never_called_missed(monkeypatch, capsys, found, told):
    """A machine that was too slow says nothing of the tests; the kernels of the first run are there in the second."""
    outcomes = iter(found)
    places = []

    def outcome(copy, _):
        places.append(copy)
        assert (copy / "src" / "midstream" / "__init__.py").exists()
        return next(outcomes), "a reason"

    monkeypatch.setitem(SCRIPT["verdict"].__globals__, "outcome", outcome)
    assert SCRIPT["verdict"](BUG) is told
    assert list(outcomes) == []
    assert len(set(places)) == 1
    assert not places[0].exists()
    assert ("MISSED" in capsys.readouterr().out) == (told is False)


def test_two_runs_at_once_have_a_copy_each():
    """The one place, by which kernels are cached, and another one."""
    with SCRIPT["copy_of_project"]() as one, SCRIPT["copy_of_project"]() as two:
        assert one != two
        assert all((each / "pyproject.toml").exists() for each in (one, two))
    assert not one.exists()
    assert not two.exists()
