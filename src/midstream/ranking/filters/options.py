"""Options of filters that are compiled into a plan, with names or numbers of the whole configuration."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from midstream.core.protocols import Filter
from midstream.features.expressions.names import Names
from midstream.state.settings import FoldSettings


@dataclass(frozen=True, slots=True)
class FilterScope:
    """Configuration against which options are compiled."""

    names: Names
    """Names that texts of the placement may use."""
    settings: FoldSettings
    where: str
    """Pointer to the options in the configuration."""


@runtime_checkable
class FilterOptions(Protocol):
    """A tagged part of ``filters`` that is no filter itself."""

    def compiled(self, scope: FilterScope) -> Filter:
        """Return the filter that runs.

        Raises:
            ConfigInvalid: A text cannot be read.
        """
        ...
