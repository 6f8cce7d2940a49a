"""Progress of a command on standard error: a bar in a terminal, plain lines at a bounded rate elsewhere.

A line has the step, the share that is done, the time so far and an estimate of the rest. The first one comes after ten
seconds, so a short command prints none; a step without progress for minutes is printed as well.
"""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, cast

from midstream.cli.console import err, say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_S = 10.0
"""Between two lines: a log of an hour of training has 360."""
_SHARE_MIN = 0.02
"""Of a step that has to be done before its end is estimated: what comes first, such as compiling, is no measure."""


class Bar(Protocol):
    """Progress bar of a command."""

    def add_task(self, description: str, *, total: float | None = None) -> "TaskID":
        """Begin a step of this size; None = unknown."""
        ...

    def update(
        self,
        task_id: "TaskID",
        *,
        description: str | None = None,
        completed: float | None = None,
        total: float | None = None,
    ) -> None:
        """Set the amount done."""
        ...

    def advance(self, task_id: "TaskID", advance: float = 1) -> None:
        """Add to the amount done."""
        ...

    def stop(self) -> None:
        """End it before the block ends."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """The current step, and its start in seconds."""

    name: str
    began_s: float
    begun_with: float = 0.0
    """Amount done at the first update."""
    done: float = 0.0
    total: float | None = None

    def told(self, now_s: float, name: str | None, done: float | None, total: float | None) -> "Step":
        """Return the step after an update; a new one where the unit changes or the amount falls."""
        name, done, total = (
            self.name if name is None else name,
            self.done if done is None else done,
            self.total if total is None else total,
        )
        if done < self.done or total != self.total:
            return Step(name, now_s, done, done, total)
        return replace(self, name=name, done=done)

    def left_s(self, now_s: float) -> float | None:
        """Return an estimate of the remaining time; None = too early."""
        if not self.total or self.total < 0 or self.done - self.begun_with < _SHARE_MIN * self.total:
            return None
        return (now_s - self.began_s) * (self.total - self.done) / (self.done - self.begun_with)

    def line(self, now_s: float, whole_s: float) -> str:
        """Return what is printed, after ``whole_s`` seconds of the command.

        Example:
            >>> Step("fitting", 0.0, 0.0, 250, 1_000).line(30.0, 42.0)
            'fitting: 25 %, 42 s so far, about 1 min 30 s left'
        """
        share = f"{self.done / self.total:.0%}".replace("%", " %, ") if self.total and self.total > 0 else ""
        left = self.left_s(now_s)
        end = "" if left is None else f", about {span_text(left)} left"
        return f"{self.name}: {share}{span_text(whole_s)} so far{end}"


def span_text(seconds: float) -> str:
    """Return a time for people.

    Example:
        >>> span_text(9.6), span_text(75), span_text(7_260)
        ('10 s', '1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004  seconds of a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004


@dataclass(eq=False)
class Lines:
    """Lines instead of a bar: a thread prints the newest state every ``LINE_S``, whatever the command does."""

    write: Callable[[str], None] = say
    wait_s: float = LINE_S
    monotonic: Callable[[], float] = time.monotonic
    _began_s: float = 0.0
    _step: Step | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._began_s = self.monotonic()
        self._thread = threading.Thread(target=self._print, name="progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Print no more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def add_task(self, description: str, *, total: float | None = None) -> "TaskID":
        """Begin a step in the place of the one before."""
        self._step = Step(description, self.monotonic(), total=total)
        return cast("TaskID", 0)

    def update(
        self,
        task_id: "TaskID",
        *,
        description: str | None = None,
        completed: float | None = None,
        total: float | None = None,
    ) -> None:
        """Keep the amount for the next line."""
        now_s = self.monotonic()
        step = self._step or Step(description or "", now_s)
        self._step = step.told(now_s, description, completed, total)

    def advance(self, task_id: "TaskID", advance: float = 1) -> None:
        """Add to the amount for the next line."""
        self.update(task_id, completed=advance + (0.0 if self._step is None else self._step.done))

    def _print(self) -> None:
        while not self._over.wait(self.wait_s):
            now_s = self.monotonic()
            if self._step is not None:
                self.write(self._step.line(now_s, now_s - self._began_s))


@contextmanager
def progress(*, has_lines: bool = True) -> Generator[Bar]:
    """Show progress while the block runs: a bar that is gone when it is done, or lines where there is no terminal.

    Args:
        has_lines: False where standard error is a log of its own, as that of a server is.
    """
    if not err.is_terminal and has_lines:
        with Lines() as lines:
            yield lines
        return
    with _bar() as bar:
        yield bar


def _bar() -> "Progress":
    """Return a bar, which shows nothing where there is no terminal."""
    from rich import progress as parts

    return parts.Progress(
        parts.SpinnerColumn(),
        parts.TextColumn("{task.description}"),
        parts.BarColumn(),
        parts.MofNCompleteColumn(),
        parts.TimeElapsedColumn(),
        parts.TimeRemainingColumn(),
        console=err.rich,
        transient=True,
        disable=not err.is_terminal,
    )


@contextmanager
def working(what: str) -> Generator[Callable[[str], None]]:
    """Show a step of unknown size; yield a function that begins the next step."""
    if err.is_terminal:
        with err.status(what) as status:
            yield status.update
        return
    with Lines() as lines:
        task = lines.add_task(what)
        yield lambda step: lines.update(task, description=step)


def notify_of(bar: Bar) -> Callable[[str, int, int], None]:
    """Return a function that moves a bar: stage, amount done, total."""
    task = bar.add_task("starting", total=None)
    return lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total)
