"""Address of a page of the console, and the page that is shown for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ConsolePage:
    """A template and what it shows."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    status: int = 200


@dataclass(frozen=True, slots=True)
class PageAddress:
    """Ids of a path as they were sent, percent-encoded, and the first value of each query field that has one."""

    steps: Mapping[str, str]
    query: Mapping[str, str]
