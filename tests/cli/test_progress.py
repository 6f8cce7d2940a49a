"""What takes long is told: outside a terminal as plain lines on standard error, with an estimate of what is left."""

import time
from functools import partial

import pytest

from midstream.cli import console, progress
from midstream.cli.progress import Lines, Step
from tests.support.patience import PATIENCE_S


@pytest.fixture
def hurried(monkeypatch):
    """Lines every 5 ms instead of every ten seconds."""
    monkeypatch.setattr(progress, "Lines", partial(Lines, wait_s=0.005))


def until(done):
    """Wait for what another thread does."""
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end
        time.sleep(0.002)


def read(capfd):
    """Return what came on standard error, nothing on the other."""
    said = capfd.readouterr()
    assert not said.out
    return said.err


@pytest.mark.usefixtures("hurried")
def test_outside_a_terminal_a_bar_is_lines_on_standard_error(capfd):
    """Standard output is left to the result."""
    with progress.progress() as bar:
        notify = progress.notify_of(bar)
        notify("reading", 250, 1_000)
        until(lambda: "reading: 25 %, " in read(capfd))


@pytest.mark.usefixtures("hurried")
def test_a_step_that_reports_nothing_is_told_all_the_same(capfd):
    """A fit may say nothing for minutes, and then what is under way must be seen to be so."""
    with progress.working("fitting") as say_step:
        until(lambda: "fitting: " in read(capfd))
        until(lambda: "fitting: " in read(capfd))
        say_step("judging")
        until(lambda: "judging: " in read(capfd))


def test_lines_come_at_a_bounded_rate_and_not_at_all_from_a_short_command():
    """However often a command tells of its progress."""
    lines: list[str] = []
    with Lines(write=lines.append, wait_s=PATIENCE_S) as bar:
        task = bar.add_task("reading", total=100_000)
        for done in range(100_000):
            bar.update(task, completed=done)
    assert lines == []


def test_what_is_left_is_estimated_from_what_was_done_of_the_same():
    """Of a step that counts something else, or begins anew, from its own beginning."""
    step = Step("folding", 0.0).told(10.0, None, 100, 1_000)
    assert step.left_s(10.0) is None  # nothing was done while anybody looked
    step = step.told(20.0, None, 400, 1_000)
    assert step.left_s(20.0) == pytest.approx(10.0 / 300 * 600)
    assert step.told(30.0, "writing", 500, 1_000).left_s(30.0) == pytest.approx(20.0 / 400 * 500)
    other = step.told(30.0, "writing", 0, 50)
    assert other.left_s(31.0) is None
    assert other.told(40.0, None, 25, 50).line(40.0, 40.0) == "writing: 50 %, 40 s so far, about 10 s left"


def test_an_end_that_is_not_known_is_not_estimated():
    """Such as of what comes from a pipe."""
    assert Step("reading", 0.0).told(5.0, None, 70, None).line(9.0, 9.0) == "reading: 9 s so far"
    assert Step("sealing", 0.0).told(5.0, None, 70, -1).left_s(9.0) is None


def test_a_terminal_gets_a_bar(monkeypatch):
    """And no thread that writes into it."""
    monkeypatch.setattr(console.err.rich, "_force_terminal", True)
    with progress.progress() as bar:
        assert not isinstance(bar, Lines)
