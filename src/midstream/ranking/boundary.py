"""The boundary around a component on the request path."""

from collections.abc import Generator
from contextlib import contextmanager

from midstream.core.types import Failure

REASON_CHARACTERS_MAX = 120
"""Of a failure's text: it goes into the served record, which is to stay below 1.5 kB."""


@contextmanager
def boundary(component: str, failures: list[Failure]) -> Generator[None]:
    """Turn whatever a component raises into a named failure: the one place that catches ``Exception``."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  named in the served event, counted, and answered without
        failures.append(Failure(component, f"{type(error).__name__}: {error}"[:REASON_CHARACTERS_MAX]))
