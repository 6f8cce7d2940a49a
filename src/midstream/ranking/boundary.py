"""The boundary around a component on the request path."""

from types import TracebackType

from midstream.core.types import Failure

REASON_CHARACTERS_MAX = 120
"""Of a failure's text: it goes into the served record, which is to stay below 1.5 kB."""


class boundary:  # noqa: N801  reads as a statement: with boundary(name, failures)
    """Turns whatever a component raises into a named failure: the one place that catches ``Exception``.

    What ends a task (cancellation, exit) goes through. A class, because a generator costs 1 µs more, ten times a
    request.
    """

    __slots__ = ("_component", "_errors", "_failures")

    def __init__(self, component: str, failures: list[Failure], errors: list[Exception] | None = None) -> None:
        """Name the component; what it raises is added to ``failures``, answered without, logged and counted.

        Args:
            component: Its name.
            failures: Gets the name and the reason.
            errors: Gets what was raised, with its traceback, for a caller who raises in turn; it holds all frames, so
                nobody keeps it who goes on.
        """
        self._component = component
        self._failures = failures
        self._errors = errors

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Note an exception and go on behind the block."""
        if not isinstance(error, Exception):
            return False
        reason = f"{type(error).__name__}: {error}"
        self._failures.append(Failure(self._component, reason[:REASON_CHARACTERS_MAX]))
        if self._errors is not None:
            self._errors.append(error)
        return True
