"""Constraints of fetches: names of their own, kinds that items can have, and what a placement lists."""

from collections.abc import Iterator

from midstream.app.config.bounds import distinct, known
from midstream.app.config.schema import Config, Placement
from midstream.core.errors import Fault
from midstream.core.paths import step

PAGE = "/docs/fetches.md"


def fetch_faults(config: Config) -> Iterator[Fault]:
    """Yield what is wrong with ``[[fetches]]``."""
    names = ((f"$.fetches[{number}].name", fetch.name) for number, fetch in enumerate(config.fetches))
    yield from distinct(names, page=PAGE)
    for number, fetch in enumerate(config.fetches):
        where = f"$.fetches[{number}]"
        for column, kind in fetch.columns.items():
            if fetch.of == "item" and kind == "category":
                right = '"number" or "boolean": what is known of items at a request are numbers.'
                yield Fault(f"{where}.columns{step(column)}", '"category" came for a column of items.', right, PAGE)


def listed_fetch_faults(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield what is wrong with the fetches that a placement lists."""
    declared = {each.name: each for each in config.fetches}
    owners: dict[tuple[str, str], str] = {}
    for number, name in enumerate(placement.fetches):
        place = f"{where}.fetches[{number}]"
        if name not in declared:
            yield from known(place, name, declared, "a declared fetch", "One of [[fetches]]", PAGE)
            continue
        if name in placement.fetches[:number]:
            yield Fault(place, f'"{name}" is there already.', "Each once.", PAGE)
            continue
        fetch = declared[name]
        for column in fetch.columns:
            owner = owners.setdefault((fetch.of, column), name)
            if owner != name:
                came = f'"{name}" and "{owner}" both have a column {column} of the {fetch.of}.'
                yield Fault(place, came, "Columns with names of their own.", PAGE)
