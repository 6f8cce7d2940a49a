"""Arrow's C stream: the protocol by which a table of any library is told from other values, without Arrow itself."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class DataFrameLike(Protocol):
    """A table of any library."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return an Arrow C stream in a capsule."""
        ...
