"""The boundary around a component on the request path: what it raised, and what it took."""

from asyncio import CancelledError
from collections.abc import Callable
from types import TracebackType

from midstream.core.types import Failure

ENDS = (KeyboardInterrupt, CancelledError, GeneratorExit)
"""What ends a task from outside, whatever runs then. ``SystemExit`` is none of them, since a component that calls
``sys.exit`` has failed: a signal that is to end a program raises a ``KeyboardInterrupt``.
"""
REASON_CHARACTERS_MAX = 120
"""Of a failure's text: it goes into the served record, which is to stay below 1.5 kB."""


def told_of(error: BaseException) -> str:
    """Return the reason of a failure: of what type the error is, and what it says, cut to what a record may hold."""
    return f"{type(error).__name__}: {error}"[:REASON_CHARACTERS_MAX]


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
    component; only ``ENDS`` go through. A class, because a generator costs 1 µs more, ten times a request.
    """

    __slots__ = ("_account", "_began", "_component", "_errors", "_failures")

    def __init__(
        self,
        component: str,
        failures: list[Failure],
        errors: list[BaseException] | None = None,
        *,
        is_timed: bool = True,
    ) -> None:
        """Name the component; what it raises is added to ``failures``, answered without, logged and counted.

        Args:
            component: Its name.
            failures: Gets the name and the reason; an ``Account`` gets what the component took as well.
            errors: Gets what was raised, with its traceback, for a caller who raises in turn; it holds all frames, so
                nobody keeps it who goes on.
            is_timed: False = what it took says nothing of the component, such as of one that waits.
        """
        self._component = component
        self._failures = failures
        self._errors = errors
        self._account = failures if is_timed and isinstance(failures, Account) else None
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
        if error is None or isinstance(error, ENDS):
            return False
        self._failures.append(Failure(self._component, told_of(error)))
        if self._errors is not None:
            self._errors.append(error)
        return True
