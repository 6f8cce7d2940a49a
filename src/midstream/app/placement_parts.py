"""Placements that are set while a folder is open: from their text to plans, and back to the file's."""

from dataclasses import replace
from pathlib import Path

from midstream.app.config.effective import changes_of, content_of, drafted, with_changes, within_placement
from midstream.app.config.schema import Config, Custom, Placement
from midstream.app.config_history import keep_config
from midstream.app.wiring import placements, plan, with_any
from midstream.core.errors import ConfigInvalid
from midstream.core.field_bounds import Told
from midstream.core.types import Models
from midstream.engine.active_config import Service
from midstream.engine.engine import Engine
from midstream.engine.experiments.experimenting import Experimenting
from midstream.engine.folder import DataFolder
from midstream.engine.models.champions import Champions
from midstream.engine.placements.placing import Drafted, PlacementParts, Placing
from midstream.engine.rebuild.rebuilder import Rebuilder
from midstream.ranking.plan import Plan

_NONE = Models({})


def placement_parts(folder: Path, data: DataFolder) -> PlacementParts:
    """Return the operations on a folder's placements."""
    return PlacementParts(
        draft=lambda service, name, told, models: draft(folder, service, name, told, models),
        without=lambda service, name: without(folder, service, name),
        write=lambda service: keep_config(data, service.config),
        names=lambda config: frozenset(each.name for each in config.placements),
        content=lambda config, name: next((content_of(each) for each in placements(config) if each.name == name), ""),
    )


def placement_services(
    engine: Engine, rebuilder: Rebuilder, champions: Champions, folder: Path, data: DataFolder
) -> tuple[Placing, Experimenting]:
    """Return what changes placements and experiments of a folder."""
    parts = placement_parts(folder, data)
    return Placing(engine, rebuilder, parts, champions), Experimenting(engine, rebuilder, parts, champions)


def draft(folder: Path, service: Service, name: str, told: Told, models: Models) -> Drafted:
    """Return a placement of a name, wired beside all others in service.

    Args:
        folder: Of custom components.
        service: Configuration and plans in service.
        name: Of the placement.
        told: Its content, as JSON or TOML gives it.
        models: Those in service, whose inputs are checked.

    Raises:
        ConfigInvalid: It cannot be used; every fault is named, with pointers into ``told``.
    """
    placement = drafted(service.file, service.config, name, told)
    changes = {**changes_of(service.file, service.config), name: placement}
    config = with_changes(service.file, changes)
    try:
        made = _with(folder, service, config, models, name)
    except ConfigInvalid as error:
        raise within_placement(error, config, name) from error
    return Drafted(content_of(placement), made.plans[name], made, _places(placement, made.plans[name]))


def _places(placement: Placement, made: Plan) -> dict[str, str]:
    """Return pointers to the components of one's own in the lists of a placement, by name.

    Wiring keeps their order.
    """
    found: dict[str, str] = {}
    for kind, told, wired in (
        ("sources", placement.sources, made.sources),
        ("filters", placement.filters, made.filters),
        ("scorers", placement.scorers, made.scorers),
    ):
        at = [f"$.{kind}[{number}]" for number, each in enumerate(told) if isinstance(each, Custom)]
        own = [each.name for each in wired if each.name in made.own]
        if len(at) == len(own):
            found |= dict(zip(own, at, strict=True))
    return found


def without(folder: Path, service: Service, name: str) -> Service:
    """Return configuration and plans with a placement as in the file, or without it.

    Raises:
        ConfigInvalid: A custom component that the file names cannot be loaded any more.
    """
    changes = {each: placement for each, placement in changes_of(service.file, service.config).items() if each != name}
    return _with(folder, service, with_changes(service.file, changes), _NONE, name)


def _with(folder: Path, service: Service, config: Config, models: Models, name: str) -> Service:
    """Return a service of a configuration that differs in one placement; the other plans are those that there are.

    Raises:
        ConfigInvalid: A placement that is another one cannot be wired.
    """
    before: dict[str, Placement] = {each.name: each for each in placements(service.config)}
    declared = next(iter(service.plans.values())).declared
    found = {
        each.name: replace(service.plans[each.name], config_hash=config.config_hash)
        if before.get(each.name) == each
        else plan(config, each, service.settings, models, folder, declared).serving(_NONE)
        for each in placements(config)
    }
    aside = {each: why for each, why in service.aside.items() if each != name}
    return replace(service, config=config, config_hash=config.config_hash, plans=with_any(config, found), aside=aside)
