"""Error boundary around a component on the request path, and the request's account of failures and times."""

import math
from asyncio import CancelledError
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from midstream.core.tracebacks import Raised, raised_of
from midstream.core.types import Failure

ENDS = (KeyboardInterrupt,)
"""Exceptions that end the program from outside. ``SystemExit`` is not among them: a component that calls ``sys.exit``
has failed. A signal that is to end the program raises ``KeyboardInterrupt``."""
ENDS_WAITING = (KeyboardInterrupt, CancelledError, GeneratorExit)
"""Exceptions that end a task from outside while it waits. In a component that does not wait they count as its own, such
as the cancellation of a task that it shares with others."""
LATE = "the time was over before it could begin"
"""Failure reason of a component that was skipped because the time was over."""
REASON_CHARACTERS_MAX = 120
"""Of a failure's text: it goes into the served record, which is to stay below 1.5 kB."""


def told_of(error: BaseException) -> str:
    """Return the reason of a failure: type and text of the exception, cut to the length that a record allows."""
    return f"{type(error).__name__}: {error}"[:REASON_CHARACTERS_MAX]


def sentence(text: str) -> str:
    """Return a text that ends with a full stop, also for an exception without a text."""
    text = text.rstrip(" :")
    return text if text.endswith((".", "!", "?")) else f"{text}."


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RaisedFailure(Failure):
    """The failure of a component that raised, with where it did: for the log of the process, in no record or answer."""

    raised: Raised | None = None

    def __eq__(self, other: object) -> bool:
        """Return whether the same failed for the same reason."""
        return isinstance(other, Failure) and (self.component, self.reason) == (other.component, other.reason)

    __hash__ = Failure.__hash__


def raised_by(failure: Failure) -> Raised | None:
    """Return the exception of a failed component; None = it did not raise."""
    return failure.raised if isinstance(failure, RaisedFailure) else None


def unlimited() -> float:
    """Return the remaining seconds where no caller waits: without a deadline nothing is timed."""
    return math.inf


class PartTime(NamedTuple):
    """When a part of a plan ran, in seconds that remained until the deadline."""

    name: str
    began_left_s: float
    ended_left_s: float
    error: str = ""
    """Type of the exception that it raised."""


class Account:
    """Account of one request: failed components, in order, and the time that each took."""

    __slots__ = ("errors", "failures", "remaining_s", "timeline", "took_s")

    def __init__(
        self,
        failures: Iterable[Failure] = (),
        remaining_s: Callable[[], float] = unlimited,
        errors: list[BaseException] | None = None,
    ) -> None:
        """Begin with the components that are left out from the start.

        Args:
            failures: Of the components that are skipped.
            remaining_s: Seconds to the deadline; the time of a component is the difference of two calls.
            errors: Collects exceptions with their tracebacks, for a caller that raises in turn. It holds all their
                frames, so a caller that continues must not keep it. None = exceptions are not kept.
        """
        self.failures = list(failures)
        self.remaining_s = remaining_s
        self.errors = errors
        self.took_s: dict[str, float] = {}
        """Seconds by the name of the part; of one that was asked twice those of both."""
        self.timeline: list[PartTime] | None = None
        """Begin and end of each part of a traced request, in the order of their ends; None = it is not traced."""

    def late(self, component: str) -> None:
        """Record a component that is skipped because the time is over."""
        self.failures.append(Failure(component, LATE))

    def aside(self) -> "Account":
        """Return an account of the same request, with the same times and errors and failures of its own."""
        found = Account((), self.remaining_s, self.errors)
        found.took_s, found.timeline = self.took_s, self.timeline
        return found


class boundary:  # noqa: N801  reads as a statement: with boundary(name, account)
    """Error boundary: turns an exception of a component into a named failure; the one place that catches ``Exception``.

    ``SystemExit`` and other exceptions outside ``Exception``, such as a panic of a Rust library, count as raised by the
    component. Only ``ENDS`` pass through, and where something is awaited ``ENDS_WAITING``. It is a class, because a
    generator costs 1 µs more, ten times a request.
    """

    __slots__ = ("_account", "_began", "_component", "_ends", "_is_timed")

    def __init__(self, component: str, account: Account, *, waits: bool = False) -> None:
        """Name the component; its exception becomes a failure of the account, which is logged and counted.

        Args:
            component: Its name.
            account: Of the request: gets the failure and the time of the component.
            waits: Something is awaited in the block. Then the time does not measure the component, and the caller may
                disconnect meanwhile, which ends the block from outside.
        """
        self._component = component
        self._account = account
        self._is_timed = not waits and account.remaining_s is not unlimited
        self._ends = ENDS_WAITING if waits else ENDS
        self._began = 0.0

    def __enter__(self) -> None:
        """Begin."""
        if self._is_timed or self._account.timeline is not None:
            self._began = self._account.remaining_s()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Note the time and an exception, and go on behind the block."""
        account = self._account
        if self._is_timed:
            took = self._began - account.remaining_s()
            account.took_s[self._component] = account.took_s.get(self._component, 0.0) + took
        if account.timeline is not None:
            said = "" if error is None else type(error).__name__
            account.timeline.append(PartTime(self._component, self._began, account.remaining_s(), said))
        if error is None or isinstance(error, self._ends):
            return False
        account.failures.append(RaisedFailure(self._component, told_of(error), raised_of(error)))
        if account.errors is not None:
            account.errors.append(error)
        return True
