"""The boundary around a component on the request path, and the account of one request: failures and times taken."""

import math
from asyncio import CancelledError
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType

from midstream.core.tracebacks import Raised, raised_of
from midstream.core.types import Failure

ENDS = (KeyboardInterrupt,)
"""What ends a program from outside, whatever runs then. ``SystemExit`` is none of them, since a component that calls
``sys.exit`` has failed: a signal that is to end a program raises a ``KeyboardInterrupt``.
"""
ENDS_WAITING = (KeyboardInterrupt, CancelledError, GeneratorExit)
"""What ends a task from outside while it waits. In a part that does not wait they are its own, such as those of a task
that it shares with others and that one of these cut off.
"""
LATE = "the time was over before it could begin"
"""Reason of the failure of a part that was not asked any more."""
REASON_CHARACTERS_MAX = 120
"""Of a failure's text: it goes into the served record, which is to stay below 1.5 kB."""


def told_of(error: BaseException) -> str:
    """Return the reason of a failure: of what type the error is, and what it says, cut to what a record may hold."""
    return f"{type(error).__name__}: {error}"[:REASON_CHARACTERS_MAX]


def sentence(text: str) -> str:
    """Return a text that a sentence may follow: with a full stop, also behind an error that says nothing."""
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
    """Return what a component raised that failed; None = it did not raise."""
    return failure.raised if isinstance(failure, RaisedFailure) else None


def unlimited() -> float:
    """Return the seconds that are left where nobody waits: without a deadline nothing is timed."""
    return math.inf


class Account:
    """What happened in one request: which parts failed, in order, and what each took of the time."""

    __slots__ = ("errors", "failures", "remaining_s", "took_s")

    def __init__(
        self,
        failures: Iterable[Failure] = (),
        remaining_s: Callable[[], float] = unlimited,
        errors: list[BaseException] | None = None,
    ) -> None:
        """Begin with what is left out from the start.

        Args:
            failures: Of the parts that are not asked.
            remaining_s: Seconds to the deadline; what a part took is the difference of two calls.
            errors: Gets what was raised, with its traceback, for a caller who raises in turn; it holds all frames, so
                nobody keeps it who goes on. None = it is not kept.
        """
        self.failures = list(failures)
        self.remaining_s = remaining_s
        self.errors = errors
        self.took_s: dict[str, float] = {}
        """Seconds by the name of the part; of one that was asked twice those of both."""

    def late(self, component: str) -> None:
        """Note a part that is not asked, as the time is over."""
        self.failures.append(Failure(component, LATE))

    def aside(self) -> "Account":
        """Return an account of the same request, with the same times and errors and failures of its own."""
        found = Account((), self.remaining_s, self.errors)
        found.took_s = self.took_s
        return found


class boundary:  # noqa: N801  reads as a statement: with boundary(name, account)
    """Turns whatever a component raises into a named failure: the one place that catches ``Exception``.

    ``SystemExit`` and what else is no ``Exception``, such as the panic of a library in Rust, counts as raised by the
    component; only ``ENDS`` go through, and where something is awaited ``ENDS_WAITING``. A class, because a generator
    costs 1 µs more, ten times a request.
    """

    __slots__ = ("_account", "_began", "_component", "_ends", "_is_timed")

    def __init__(self, component: str, account: Account, *, waits: bool = False) -> None:
        """Name the component; what it raises is a failure of the account, answered without, logged and counted.

        Args:
            component: Its name.
            account: Of the request: gets the failure, and what the component took.
            waits: Something is awaited in the block. What it took then says nothing of the component, and whoever asks
                may be gone meanwhile, which ends the block from outside.
        """
        self._component = component
        self._account = account
        self._is_timed = not waits and account.remaining_s is not unlimited
        self._ends = ENDS_WAITING if waits else ENDS
        self._began = 0.0

    def __enter__(self) -> None:
        """Begin."""
        if self._is_timed:
            self._began = self._account.remaining_s()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Note the time and an exception, and go on behind the block."""
        account = self._account
        if self._is_timed:
            took = self._began - account.remaining_s()
            account.took_s[self._component] = account.took_s.get(self._component, 0.0) + took
        if error is None or isinstance(error, self._ends):
            return False
        account.failures.append(RaisedFailure(self._component, told_of(error), raised_of(error)))
        if account.errors is not None:
            account.errors.append(error)
        return True
