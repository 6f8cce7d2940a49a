"""Models in service of a process that answers: its registry, and when it is told of other plans and snapshots."""

from midstream.app.config.schema import Config
from midstream.engine.engine import Engine
from midstream.engine.folder import DataFolder
from midstream.engine.listeners import Listener
from midstream.engine.models.champions import Champions
from midstream.training.registry import Registry


def champions_of(engine: Engine, data: DataFolder, config: Config) -> Champions:
    """Return the models in service, none yet, for an answering process."""
    registry = Registry(data.models, config.registry.version_bytes_max)
    champions = Champions(engine, registry, config.registry.versions_kept)
    engine.listeners.add(
        Listener(
            name="models", swapped=champions.swapped, gauges=champions.set_gauges, snapshot_written=champions.prune
        )
    )
    return champions
