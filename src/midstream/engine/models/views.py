"""Views of models: versions of the registry with the aliases of the state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from midstream.core.errors import ArtifactInvalid, NotFound
from midstream.models.artifact.artifact import Manifest
from midstream.state.control.promotions import Promotion
from midstream.training.registry import Registry


@dataclass(frozen=True, slots=True)
class Standing:
    """Versions of one model in service."""

    version: str
    """Empty = none: no version was loaded."""
    warm: str
    """The version that is loaded beside it; empty = none."""
    refused: str
    """The champion that was refused last, and why; empty = none since the last version was put in service."""


NOTHING = Standing("", "", "")


@dataclass(frozen=True, slots=True)
class VersionView:
    """One version."""

    version: str
    aliases: tuple[str, ...]
    kind: str
    made_ms: int
    bytes: int
    metrics: Mapping[str, float | None]
    invalid: str
    """Why it cannot be read; empty as it should be. Only the manifest is looked at."""


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model."""

    name: str
    aliases: Mapping[str, str]
    """Version of each alias; an alias without a version is missing."""
    previous: Mapping[str, str]
    """Version of each alias after a rollback."""
    serving: str
    """The version in service; empty = none, or no server was read."""
    warm: str
    """The version that is loaded beside it."""
    refused: str
    """The champion that was refused last, and why."""
    versions: tuple[VersionView, ...]
    """The oldest number first."""


def model_views(
    registry: Registry, promotions: Sequence[Promotion], standing: Callable[[str], Standing] = lambda _: NOTHING
) -> list[ModelView]:
    """Return a view of each model, by name: of the registry, and those of which there is an alias.

    Cost: reads the manifest of each version.
    """
    names = sorted({*registry.names(), *(row.model for row in promotions)})
    return [_view(registry, name, promotions, standing(name)) for name in names]


def model_view(
    registry: Registry, name: str, promotions: Sequence[Promotion], standing: Standing = NOTHING
) -> ModelView:
    """Return the view of a model.

    Raises:
        NotFound: It has no version and no alias.
    """
    found = _view(registry, name, promotions, standing)
    if not found.versions and not found.aliases and not found.previous:
        message = f"no model {name[:64]!r} is known. Models: {', '.join(registry.names()) or 'none'}"
        raise NotFound(message)
    return found


def compared(registry: Registry, name: str, versions: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
    """Return the differences of versions of a model: each metric and option, and the window, by version.

    Args:
        registry: Has them.
        name: Of the model.
        versions: As ``Registry.find`` reads them.

    Returns:
        By row, such as ``metric ndcg@20``, the value of each version; None = it has none.

    Raises:
        NotFound: One does not exist.
        ArtifactInvalid: A manifest is damaged.
    """
    found = {version: registry.manifest(name, version) for version in (registry.find(name, each) for each in versions)}
    told = {version: _facts(manifest) for version, manifest in found.items()}
    rows = dict.fromkeys(row for each in told.values() for row in each)
    return {row: {version: each.get(row) for version, each in told.items()} for row in rows}


def _facts(manifest: Manifest) -> Mapping[str, object]:
    window = manifest.window
    return {
        **{f"metric {name}": value for name, value in manifest.metrics.items()},
        **{f"option {name}": value for name, value in manifest.options.items()},
        "kind": manifest.kind,
        "runner": manifest.runner,
        "events": f"{window.first} to {window.end}",
        "bytes": manifest.bytes,
        "config": manifest.config_hash,
        "code": manifest.code_version,
    }


def _view(registry: Registry, name: str, promotions: Sequence[Promotion], standing: Standing) -> ModelView:
    rows = [row for row in promotions if row.model == name]
    aliases = {row.alias: row.version for row in rows if row.version}
    previous = {row.alias: row.previous for row in rows if row.previous}
    versions = tuple(
        _version(registry, name, version, tuple(alias for alias, each in aliases.items() if each == version))
        for version in registry.versions(name)
    )
    return ModelView(name, aliases, previous, standing.version, standing.warm, standing.refused, versions)


def _version(registry: Registry, name: str, version: str, aliases: tuple[str, ...]) -> VersionView:
    try:
        told = registry.manifest(name, version)
    except (ArtifactInvalid, NotFound) as error:
        return VersionView(version, aliases, "", 0, 0, {}, str(error))
    return VersionView(version, aliases, told.kind, told.made_ms, told.bytes, told.metrics, "")
