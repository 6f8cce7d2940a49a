"""Effective configuration: the file's, with set placements instead of those of their name.

A set placement replaces the file's of that name, or is added, until it is removed. The file alone decides the state:
snapshots are found by the version of their settings, and the set placements are only known once one is loaded. So a
placement that needs another state is refused, and the effective configuration declares every half-life of the file,
whether a placement in force uses it or not.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import msgspec

from midstream.app.config.component_constraints import unnamed_faults, unnamed_server_faults
from midstream.app.config.constraints import SOURCES, relation_faults
from midstream.app.config.reader import FILE_NAME, placement_readings, with_relations
from midstream.app.config.schema import Config, Placement
from midstream.core.durations import Duration
from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.field_bounds import Told
from midstream.core.type_faults import is_table
from midstream.experiments.names import is_document
from midstream.retrieval.popular import Popular
from midstream.retrieval.trending import Trending

T = TypeVar("T")
PAGE = "/docs/placements.md"
_PLACE = re.compile(r"\$\.placements\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Effective(Generic[T]):
    """Result of combining a file with set placements."""

    config: Config
    made: T
    """Result of ``make`` for ``config``, such as plans."""
    aside: Mapping[str, tuple[Fault, ...]]
    """Placements that were set and do not hold beside this file, and why; the file's of that name is in force."""


def with_changes(file: Config, changes: Mapping[str, Placement]) -> Config:
    """Return the configuration with some placements replaced by name; the same object if none differs.

    New ones are behind the others, by name.
    """
    known = {each.name: each for each in file.placements}
    if all(known.get(name) == each for name, each in changes.items()):
        return file
    kept = [changes.get(each.name, each) for each in file.placements]
    added = [changes[name] for name in sorted(changes.keys() - known.keys())]
    trending = msgspec.structs.replace(file.trending, half_life=file.half_lives())
    return msgspec.structs.replace(file, placements=(*kept, *added), trending=trending)


def changes_of(file: Config, config: Config) -> dict[str, Placement]:
    """Return the placements of an effective configuration that are not the file's, by name."""
    own = {each.name: each for each in file.placements}
    return {each.name: each for each in config.placements if own.get(each.name) != each}


def drafted(file: Config, config: Config, name: str, told: Told) -> Placement:
    """Return a placement that may be set, checked like one of the file.

    Args:
        file: The file's configuration.
        config: The effective one, to which it is added.
        name: Of the placement; ``told`` may repeat it.
        told: Its content, as JSON or TOML gives it.

    Raises:
        ConfigInvalid: Every fault is named, with pointers into ``told``.
    """
    faults, found = _readings(name, told)
    changes = changes_of(file, config)
    wanted = [with_changes(file, {**changes, name: each}) for each in found]
    if all_faults := with_relations(faults, [_within(_held(file, each), each, name) for each in wanted]):
        raise ConfigInvalid(all_faults)
    return found[0]


def read_placement(name: str, told: Told) -> Placement:
    """Return the placement of one table, by itself.

    Raises:
        ConfigInvalid: Every fault is named, with pointers into ``told``.
    """
    faults, found = _readings(name, told)
    if faults:
        raise ConfigInvalid(faults)
    return found[0]


def _readings(name: str, told: Told) -> tuple[tuple[Fault, ...], tuple[Placement, ...]]:
    """Return ``placement_readings`` of one placement, with pointers into ``told``, and raise as they do."""
    if is_table(told) and told.get("name", name) != name:
        came = f"{msgspec.json.encode(told['name'], enc_hook=str).decode()[:80]} came for the placement {name}."
        raise ConfigInvalid((Fault("$.name", came, f'"{name}", or no name.', PAGE),))
    try:
        faults, found = placement_readings({**told, "name": name} if is_table(told) else told, "$.placements[0]")
    except ConfigInvalid as error:
        raise ConfigInvalid(tuple(_moved(error.faults, 0))) from error
    return tuple(_moved(faults, 0)), found


def content_of(placement: Placement) -> str:
    """Return a placement as canonical JSON, defaults included: equal placements have equal text."""
    return msgspec.json.encode(placement, enc_hook=str, order="deterministic").decode()


def require_holds(file: Config, config: Config) -> None:
    """Refuse an effective configuration that breaks a relation, or needs another state than the file's.

    Raises:
        ConfigInvalid: Every fault is named.
    """
    if faults := _held(file, config):
        raise ConfigInvalid(faults)


def _held(file: Config, config: Config) -> tuple[Fault, ...]:
    """Return where an effective configuration needs another state or code than the file's, and relations it breaks.

    Relations are looked at twice, with one and another half-life that is kept in the place of each that is not: what
    only a half-life too many, or one that nobody wrote, breaks is not told.
    """
    faults, kept = tuple(_state_faults(file, config)), file.half_lives()
    wholes = [config] if not faults else [_with_half_life(config, kept, each) for each in (kept[0], kept[-1])]
    unnamed = (*unnamed_faults(file, config), *unnamed_server_faults(file, config))
    return with_relations((*unnamed, *faults), [tuple(relation_faults(each)) for each in wholes])


def _with_half_life(config: Config, kept: Sequence[Duration], half_life: Duration) -> Config:
    """Return a configuration whose sources have another half-life where theirs is not kept."""
    placements = [
        msgspec.structs.replace(
            placement,
            sources=tuple(
                msgspec.structs.replace(each, half_life=half_life)
                if isinstance(each, Popular | Trending) and each.half_life not in kept
                else each
                for each in placement.sources
            ),
        )
        for placement in config.placements
    ]
    return msgspec.structs.replace(config, placements=tuple(placements))


def within_placement(error: ConfigInvalid, config: Config, name: str) -> ConfigInvalid:
    """Return an error with pointers into one placement of a configuration instead of into all of it."""
    return ConfigInvalid(_within(error.faults, config, name))


def _within(faults: Sequence[Fault], config: Config, name: str) -> tuple[Fault, ...]:
    return tuple(_moved(faults, [each.name for each in config.placements].index(name)))


def effective(file: Config, said: Iterable[tuple[str, str]], make: Callable[[Config], T]) -> Effective[T]:
    """Return the effective configuration and the result of ``make`` for it.

    A placement that does not fit this file (an attribute of its filter was removed, for instance) is disabled, so that
    a changed file never prevents a start.

    Args:
        file: The file's configuration, whose relations hold.
        said: Name and content of each set placement, from the table of placements; experiments among them are no
            placements.
        make: Makes a result of a configuration, or raises ``ConfigInvalid``.

    Raises:
        ConfigInvalid: Nothing can be made of the file alone.
    """
    changes: dict[str, Placement] = {}
    aside: dict[str, tuple[Fault, ...]] = {}
    for name, content in said:
        if is_document(name):
            continue
        try:
            changes[name] = read_placement(name, _decoded(content))
        except ConfigInvalid as error:
            aside[name] = error.faults
    while True:
        config = with_changes(file, changes)
        try:
            if changes:
                require_holds(file, config)
            return Effective(config, make(config), aside)
        except ConfigInvalid as error:
            if not changes:
                raise
            found = _by_placement(error, config, changes)
            aside |= found
            changes = {name: each for name, each in changes.items() if name not in found}


def _decoded(content: str) -> Told:
    """Return the content of a text from the log.

    Raises:
        ConfigInvalid: It is no JSON, or nested too deeply: no server wrote that event.
    """
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        right = "A placement as JSON: set it anew, or give it back to the file."
        raise ConfigInvalid((Fault("$", f"It cannot be read: {error}.", right, PAGE),)) from error


def _by_placement(
    error: ConfigInvalid, config: Config, changes: Mapping[str, Placement]
) -> Mapping[str, tuple[Fault, ...]]:
    """Return the faults of each changed placement, or, where no fault names one, all faults for every one."""
    found: dict[str, tuple[Fault, ...]] = {}
    for fault in error.faults:
        place = _PLACE.search(fault.where)
        number = int(place[1]) if place else len(config.placements)
        name = config.placements[number].name if number < len(config.placements) else ""
        if name in changes:
            found[name] = (*found.get(name, ()), *_moved((fault,), number))
    return found or dict.fromkeys(changes, error.faults)


def _moved(faults: Sequence[Fault], number: int) -> Iterator[Fault]:
    """Yield faults with pointers into a placement where they were into the configuration that has it at a place.

    Of what is wrong elsewhere in the configuration they have the file's name before them.
    """
    prefix = f"$.placements[{number}]"
    for fault in faults:
        where = fault.where.removeprefix(f"{FILE_NAME}: ")
        if where.startswith(prefix):
            where = f"${where.removeprefix(prefix)}"
        elif where.startswith("$."):
            where = f"{FILE_NAME}: {where}"
        yield replace(fault, where=where)


def _state_faults(file: Config, config: Config) -> Iterator[Fault]:
    """Yield why an effective configuration needs another state than the file's."""
    kept = file.half_lives()
    is_named = False
    for number, placement in enumerate(config.placements):
        for place, source in enumerate(placement.sources):
            if isinstance(source, Popular | Trending) and source.half_life not in kept:
                is_named = True
                came = f"{source.half_life} came, and no list of that half-life is kept."
                right = (
                    f"One of {', '.join(str(each) for each in kept)}; or first [trending] half_life = "
                    f'["{source.half_life}"] in {FILE_NAME}, which rebuilds the state.'
                )
                yield Fault(f"$.placements[{number}].sources[{place}].half_life", came, right, SOURCES)
    if not is_named and config.fold_settings() != file.fold_settings():
        came = f"It needs another state than what {FILE_NAME} leads to."
        yield Fault("$", came, f"The same placement in {FILE_NAME}, then midstream rebuild.", PAGE)
