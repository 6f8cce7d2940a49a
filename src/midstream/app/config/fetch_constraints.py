"""Constraints of fetches: names of their own, kinds that items can have, and what a placement lists."""

from collections.abc import Iterator

from midstream.app.config.bounds import listed
from midstream.app.config.schema import Config, Placement
from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.core.paths import step

PAGE = "/docs/fetches.md"


def fetch_faults(config: Config) -> Iterator[Fault]:
    """Yield what is wrong with ``[[fetches]]``."""
    names: set[str] = set()
    for number, fetch in enumerate(config.fetches):
        where = f"$.fetches[{number}]"
        if fetch.name in names:
            yield Fault(f"{where}.name", f'"{fetch.name}" is there already.', "A name of its own.", PAGE)
        names.add(fetch.name)
        for column, kind in fetch.columns.items():
            if fetch.of == "item" and kind == "category":
                right = '"number" or "boolean": what is known of items at a request are numbers.'
                yield Fault(f"{where}.columns{step(column)}", '"category" came for a column of items.', right, PAGE)


def listed_fetch_faults(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield what is wrong with the fetches that a placement lists."""
    known = {each.name: each for each in config.fetches}
    owners: dict[tuple[str, str], str] = {}
    for number, name in enumerate(placement.fetches):
        place = f"{where}.fetches[{number}]"
        if name not in known:
            came = f'"{name}" is not a declared fetch.{nearest(name, known)}'
            right = f"Fetches: {listed(known)}" if known else "The name of one of [[fetches]]; there is none."
            yield Fault(place, came, right, PAGE)
            continue
        if name in placement.fetches[:number]:
            yield Fault(place, f'"{name}" is there already.', "Each once.", PAGE)
            continue
        fetch = known[name]
        for column in fetch.columns:
            owner = owners.setdefault((fetch.of, column), name)
            if owner != name:
                came = f'"{name}" and "{owner}" both have a column {column} of the {fetch.of}.'
                yield Fault(place, came, "Columns with names of their own.", PAGE)
