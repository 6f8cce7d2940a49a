"""Pinned versions of models: a plan that reads a version of its own, beside others that read the champion.

All loaded versions are one set of models. In it a champion stands under its name, and a pinned version under name and
version, which no model is named. A plan that pins gets that version under the name that its parts ask for, or nothing:
never the champion, since its answers would be compared as those of another version.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, TypeAlias

from midstream.core.field_bounds import Length, Name
from midstream.core.types import Models

PINS_MAX = 8
"""Of a placement: as many models as one plan reads."""
_VERSION = Length(1, 64, "characters")
_MARK = "@"
PinnedVersions: TypeAlias = Annotated[dict[Name, Annotated[str, _VERSION]], Length(0, PINS_MAX)]
"""Version of each model that a placement reads in place of the champion, by name."""


def pin_key(name: str, version: str) -> str:
    """Return under which name a pinned version stands among all loaded ones.

    Example:
        >>> pin_key("taste", "0007-3fa9c2d41b22")
        'taste@0007-3fa9c2d41b22'
    """
    return f"{name}{_MARK}{version}"


def pin_of(key: str) -> tuple[str, str] | None:
    """Return name and version of a key; None = it is the name of a champion.

    Example:
        >>> pin_of("taste@0007-3fa9c2d41b22")
        ('taste', '0007-3fa9c2d41b22')
        >>> pin_of("taste")
    """
    name, mark, version = key.partition(_MARK)
    return (name, version) if mark else None


def chosen(models: Models, names: Collection[str], pinned: Mapping[str, str]) -> Models:
    """Return what a plan reads of all loaded versions, under the names that its parts ask for.

    Args:
        models: All that are loaded.
        names: Models that the parts of the plan read.
        pinned: Versions that it reads in place of the champions, by name.
    """
    keys = {name: pin_key(name, pinned[name]) if name in pinned else name for name in names}
    return Models(
        {name: models.by_name[key] for name, key in keys.items() if key in models.by_name},
        {name: models.versions[key] for name, key in keys.items() if key in models.versions},
        {name: models.calibrations[key] for name, key in keys.items() if key in models.calibrations},
    )
