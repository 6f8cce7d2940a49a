"""Placements in answers: the parts that answer each, their origin, and the history of changes."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Origin = Literal["file", "api", "built_in"]
"""The configuration file, a change while serving, or neither: ``similar``, and ``*`` while none is configured."""


class PlacementView(msgspec.Struct, frozen=True):
    """Components of a placement, by their names in answers, records and metrics."""

    placement: str
    config_hash: str
    sources: list[str]
    filters: list[str]
    scorers: list[str]
    slate_size: int
    deadline_ms: int
    origin: Origin
    covers_file: bool
    """Whether the file has one of that name too, which is not in force."""
    version: int | None
    """Newest version that was set or given back; None = it never was."""
    author: str | None
    """Of that version."""
    changed_ms: int | None
    """Its log time."""
    not_compiled: str = ""
    """First part for which no kernel makes its slates, so that the pipeline answers; empty = kernels make them."""


class AsideView(msgspec.Struct, frozen=True):
    """A placement that was set and is not in force, because it does not hold beside the file."""

    placement: str
    version: int
    where: str
    came: str
    right: str
    page: str


class PlacementVersionView(msgspec.Struct, frozen=True):
    """One version of a placement."""

    version: int
    author: str
    note: str
    changed_ms: int
    """Log time."""
    log_position: str
    """Token of the position before its event."""
    sha256: str
    """Of the content as canonical JSON."""
    content: Mapping[str, Any] | None
    """The placement, every default included; None = given back to the file."""


class PlacementDetail(msgspec.Struct, frozen=True):
    """All that is known of one placement."""

    placement: str
    origin: Origin
    in_force: Mapping[str, Any] | None
    """The placement that answers, every default included; None = none of that name does."""
    file: Mapping[str, Any] | None
    """Placement of that name in the file; None = there is none."""
    aside: list[AsideView]
    versions: list[PlacementVersionView]
    """Oldest first, the newest twenty."""
    not_compiled: str | None = None
    """As in the list; None = none of that name answers."""


class PlacementList(msgspec.Struct, frozen=True):
    """Of ``GET /v1/placements``."""

    placements: list[PlacementView]
    aside: list[AsideView]
    """Placements that were set and are not in force, because they do not hold beside the file."""
