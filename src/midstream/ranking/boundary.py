"""The boundary around a component on the request path: what it raised, and what it took."""

from asyncio import CancelledError
from collections.abc import Callable
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


class Account(list[Failure]):
    """What failed in one answer, in order, and beside it what each part took of the time."""

    __slots__ = ("remaining_s", "took_s")

    def __init__(
        self, failures: tuple[Failure, ...], remaining_s: Callable[[], float], took_s: dict[str, float] | None = None
    ) -> None:
        """Begin with what is left out from the start.

        Args:
            failures: Of the parts that are not asked.
            remaining_s: Seconds to the deadline; what a part took is the difference of two calls, NaN in a rerun.
            took_s: Gets the seconds of each part by its name; of one that was asked twice those of both.
        """
        super().__init__(failures)
        self.remaining_s = remaining_s
        self.took_s = {} if took_s is None else took_s


def beside(failures: list[Failure]) -> list[Failure]:
    """Return an empty list of failures; where the given one is an account, one with the same times."""
    return Account((), failures.remaining_s, failures.took_s) if isinstance(failures, Account) else []


class boundary:  # noqa: N801  reads as a statement: with boundary(name, failures)
    """Turns whatever a component raises into a named failure: the one place that catches ``Exception``.

    ``SystemExit`` and what else is no ``Exception``, such as the panic of a library in Rust, counts as raised by the
    component; only ``ENDS`` go through, and where something is awaited ``ENDS_WAITING``. A class, because a generator
    costs 1 µs more, ten times a request.
    """

    __slots__ = ("_account", "_began", "_component", "_ends", "_errors", "_failures")

    def __init__(
        self,
        component: str,
        failures: list[Failure],
        errors: list[BaseException] | None = None,
        *,
        waits: bool = False,
    ) -> None:
        """Name the component; what it raises is added to ``failures``, answered without, logged and counted.

        Args:
            component: Its name.
            failures: Gets the name and the reason; an ``Account`` gets what the component took as well.
            errors: Gets what was raised, with its traceback, for a caller who raises in turn; it holds all frames, so
                nobody keeps it who goes on.
            waits: Something is awaited in the block. What it took then says nothing of the component, and whoever asks
                may be gone meanwhile, which ends the block from outside.
        """
        self._component = component
        self._failures = failures
        self._errors = errors
        self._account = failures if not waits and isinstance(failures, Account) else None
        self._ends = ENDS_WAITING if waits else ENDS
        self._began = 0.0

    def __enter__(self) -> None:
        """Begin."""
        if self._account is not None:
            self._began = self._account.remaining_s()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Note the time and an exception, and go on behind the block."""
        if self._account is not None:
            took_s = self._account.took_s
            took = self._began - self._account.remaining_s()
            took_s[self._component] = took_s.get(self._component, 0.0) + took
        if error is None or isinstance(error, self._ends):
            return False
        self._failures.append(RaisedFailure(self._component, told_of(error), raised_of(error)))
        if self._errors is not None:
            self._errors.append(error)
        return True
