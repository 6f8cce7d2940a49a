"""Memory report of a folder: its state tables, its external feature tables, the models in service, and vectors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from midstream.app.config.schema import Config
from midstream.app.inspect.feature_views import outside_size
from midstream.app.inspect.folder_view import LogView, served_of
from midstream.app.operate.model_registry import registry_of
from midstream.app.wiring import declarations
from midstream.core.errors import ArtifactInvalid, ExtraMissing, NotFound
from midstream.engine.active_config import Service
from midstream.engine.models.standing_models import CHAMPION
from midstream.models.artifact.memory import HELD_TIMES_MAX, held_bytes
from midstream.models.model import is_item_model
from midstream.models.text_encoder.encoders import spec_of
from midstream.models.vector_index import GRAPHS_MAX, graph_bytes
from midstream.retrieval.nearest import Nearest
from midstream.state.fold import Fold, Size
from midstream.state.structures.hashing import IdKey
from midstream.training.registry import Registry

VERSIONS_HELD = 2
"""Of a model: the one in service and the one before it."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by name, now and at the maximum."""

    tables: Mapping[str, Size]
    """Of the state, and those from outside, called ``tables.NAME``."""
    models: Mapping[str, Size]
    """Called ``models.NAME``: each that is configured or has a champion. Now: what the champion holds once loaded; 0
    without one, or where a start would not load it. A version that is being loaded comes on top."""
    vectors: Mapping[str, Size]
    """What a server makes of vectors: ``graphs.ATTRIBUTE``, of each that a source searches by a graph, now: once it is
    built; and ``encoders.NAME``, the child process that encodes texts, now: 0, since it ends with its work."""


def memory_of(folder: Path, config: Config) -> Memory:
    """Return the memory of what a folder serves.

    Cost: that of the newest snapshot and the log after it, and of loading each champion, one at a time.

    Raises:
        ConfigInvalid: A table from outside cannot be read, or a custom component cannot be loaded.
        LogDamaged: The log cannot be trusted.
    """
    (service, fold), registry = served_of(folder, config, LogView(folder)), registry_of(folder)
    outside = {f"tables.{each.name}": outside_size(each) for each in declarations(config, fold.settings, folder).tables}
    champions = {row.model: row.version for row in fold.promotions.rows if row.alias == CHAMPION and row.version}
    models: dict[str, Size] = {}
    for name in sorted({*champions, *(each.name for each in config.models)}):
        now = _held(registry, name, champions[name], fold.vocabulary.id_key) if name in champions else 0
        models[f"models.{name}"] = Size(now, VERSIONS_HELD * HELD_TIMES_MAX * registry.bytes_max)
    return Memory({**fold.sizes(), **outside}, models, dict((*_graphs(service, fold), *_encoders(config))))


def _graphs(service: Service, fold: Fold) -> Iterator[tuple[str, Size]]:
    """Yield the memory of the graphs of vectors by name."""
    plans = service.plans.values()
    sources = [source.options for plan in plans for source in plan.sources if isinstance(source, Nearest)]
    for name in sorted({each.attribute for each in sources if each.search == "usearch"}):
        column = fold.items.all_vectors(name)
        now = graph_bytes(int(np.count_nonzero(column.scale)), column.length)
        yield f"graphs.{name}", Size(now, GRAPHS_MAX * graph_bytes(len(column.scale), column.length))


def _encoders(config: Config) -> Iterator[tuple[str, Size]]:
    """Yield the memory of the child of each text encoder by name; of several one works at a time."""
    for name in sorted({each.model for each in config.encoders}):
        yield f"encoders.{name}", Size(0, spec_of(name).child_bytes)


def _held(registry: Registry, name: str, version: str, key: IdKey) -> int:
    """Return the bytes that a version holds once it is loaded; 0 = it cannot be."""
    try:
        model = registry.load(name, version).model
    except (ArtifactInvalid, ExtraMissing, NotFound):
        return 0
    if is_item_model(model):
        model.vocabulary.under(key)  # as who serves it does
    return held_bytes(model)
