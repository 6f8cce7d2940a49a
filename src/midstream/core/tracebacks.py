"""Tracebacks without texts: the type of an exception and the calls that led to it, to be kept and to be logged.

What an exception says may hold what a component read, such as the id of a user; its type and its places hold code
alone. Nothing of the frames is kept, so nothing that they refer to lives on.
"""

from collections import deque
from dataclasses import dataclass
from types import TracebackType

PLACES_MAX = 12
"""Newest calls that are kept: the pipeline's are five; a recursion without end has a thousand that say the same."""
CAUSES_MAX = 3
"""Exceptions behind an exception."""
_INSTALLED = "site-packages/"
_PACKAGE = __file__.removesuffix("midstream/core/tracebacks.py")


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception without what it says."""

    kind: str
    """Name of its type."""
    places: tuple[tuple[str, int, str], ...]
    """File, line and function of each call, the one that raised last."""
    cause: "Raised | None" = None
    """What it came of, or what was being handled when it was raised."""

    def lines(self) -> tuple[str, ...]:
        """Return the places in words, the one that raised first, then those of its cause."""
        found = tuple(f"{_short(path)}:{line} {function}" for path, line, function in reversed(self.places))
        if self.cause is None:
            return found
        return (*found, f"because of {self.cause.kind}", *self.cause.lines())

    def __str__(self) -> str:
        """Return type and place in one line."""
        return f"{self.kind} at {self.lines()[0]}" if self.places else self.kind


def raised_of(error: BaseException, causes_max: int = CAUSES_MAX) -> Raised:
    """Return what an exception is, without what it says. Cost: about 1 µs a call of its traceback."""
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    cause = raised_of(behind, causes_max - 1) if behind is not None and causes_max else None
    return Raised(type(error).__name__, _places(error.__traceback__), cause)


def _places(trace: TracebackType | None) -> tuple[tuple[str, int, str], ...]:
    found: deque[tuple[str, int, str]] = deque(maxlen=PLACES_MAX)
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append((code.co_filename, trace.tb_lineno, code.co_qualname))
        trace = trace.tb_next
    return tuple(found)


def _short(path: str) -> str:
    """Return the path of a file from the folder that packages are installed in, where it is in one."""
    return path.rpartition(_INSTALLED)[2].removeprefix(_PACKAGE)
