"""What a folder takes of memory: its tables, those from outside, and the models in service."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from midstream.app.config import Config
from midstream.app.feature_views import outside_size
from midstream.app.inspection import LogView, state_of
from midstream.app.models import registry_of
from midstream.app.wiring import declarations
from midstream.core.errors import ArtifactInvalid, NotFound
from midstream.engine.champions import CHAMPION
from midstream.state.fold import Size

VERSIONS_HELD = 2
"""Of a model: the one in service and the one before it."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by name, now and at the maximum."""

    tables: Mapping[str, Size]
    """Of the state, and those from outside, called ``tables.NAME``."""
    models: Mapping[str, Size]
    """Called ``models.NAME``: each that is configured or has a champion. Now: the champion, about its files, as a start
    loads it; 0 without one. A version that is being loaded comes on top."""


def memory_of(folder: Path, config: Config) -> Memory:
    """Return the memory of what a folder serves. Cost: that of the newest snapshot and the log after it.

    Raises:
        ConfigInvalid: A table from outside cannot be read.
        LogDamaged: The log cannot be trusted.
    """
    fold, registry = state_of(folder, config, LogView(folder)).fold, registry_of(folder)
    outside = {f"tables.{each.name}": outside_size(each) for each in declarations(config, folder).tables}
    champions = {row.model: row.version for row in fold.promotions.rows if row.alias == CHAMPION and row.version}
    models: dict[str, Size] = {}
    for name in sorted({*champions, *(each.name for each in config.models)}):
        try:
            now = registry.manifest(name, champions[name]).bytes if name in champions else 0
        except (ArtifactInvalid, NotFound):
            now = 0
        models[f"models.{name}"] = Size(now, VERSIONS_HELD * registry.bytes_max)
    return Memory({**fold.sizes(), **outside}, models)
