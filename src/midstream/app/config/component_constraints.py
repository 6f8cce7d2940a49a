"""Allow list of code and of servers: custom components and model servers are those that ``midstream.toml`` names.

A placement from HTTP, from the log or from an earlier configuration is data from outside. It may use the names in
``[components]`` of the current file, or a path that one of the file's own placements has, with other options. Any other
path is refused before anything is imported or searched on the disk. A scorer on a model server may ask a server that
one of the file's own placements asks, under the same secrets: else whoever sets a placement could have columns and
tokens sent to an address of their choice.
"""

from collections.abc import Iterator

from midstream.app.config.bounds import known
from midstream.app.config.schema import PATH_BYTES_MAX, AnyFilter, AnyScorer, AnySource, Config, Custom, Placement
from midstream.core.errors import Fault
from midstream.core.paths import step
from midstream.integrations.model_servers.remote_scorer import RemoteScorer
from midstream.integrations.model_servers.urls import url_of

PAGE, SERVERS = "/docs/sources.md", "/docs/model-servers.md"


def component_faults(config: Config) -> Iterator[Fault]:
    """Yield the faults of the custom components of placements and fetches."""
    for where, part in _every_part(config):
        yield from _named_faults(config, part, where)


def unnamed_faults(file: Config, config: Config) -> Iterator[Fault]:
    """Yield the paths of a configuration that the file does not name.

    Args:
        file: Configuration of the current ``midstream.toml``.
        config: Has placements from elsewhere, or is from elsewhere as a whole.
    """
    known = {*file.components.values(), *(part.path for _, part in _every_part(file))}
    for where, part in _every_part(config):
        if part.path and part.path not in known:
            listed = ", ".join(sorted(file.components)) or "none yet"
            came = f"{part.path[:PATH_BYTES_MAX]!r} is not named in midstream.toml, so it is not imported."
            right = f"A name of its [components] ({listed}), or a path that a placement in it has."
            yield Fault(f"{where}.path", came, right, PAGE)
    for name, path in config.components.items():
        if path not in known:
            came = f"{path[:PATH_BYTES_MAX]!r} is not named in midstream.toml any more, so it is not imported."
            yield Fault(f"$.components{step(name)}", came, "A component that midstream.toml names.", PAGE)


def unnamed_server_faults(file: Config, config: Config) -> Iterator[Fault]:
    """Yield the model servers of a configuration that no placement of the file asks; a rerun asks none of them."""
    known = {each.server_key() for _, each in _remote_scorers(file)}
    for where, each in _remote_scorers(config):
        if each.server_key() not in known:
            came = f"{_shown(each.url)}, with these secrets and bounds, is asked by no placement of midstream.toml."
            right = "The server, model, secrets and bounds of a scorer of a placement in it; the rest may differ."
            yield Fault(f"{where}.url", came, right, SERVERS)


def _shown(url: str) -> str:
    """Return host and port of a server; of what is no address nothing, as it may have a password in it."""
    try:
        return url_of(url).shown
    except ValueError:
        return "What is no address of a server"


def _remote_scorers(config: Config) -> Iterator[tuple[str, RemoteScorer]]:
    """Yield the scorers on model servers of a configuration, with the place of each."""
    for number, placement in enumerate(config.placements):
        for place, each in enumerate(placement.scorers):
            if isinstance(each, RemoteScorer):
                yield f"$.placements[{number}].scorers[{place}]", each


def _every_part(config: Config) -> Iterator[tuple[str, Custom]]:
    """Yield the custom components of a configuration, with the place of each."""
    for number, placement in enumerate(config.placements):
        yield from ((f"$.placements[{number}].{where}", part) for where, part in custom_parts(placement))
    for number, each in enumerate(config.fetches):
        if isinstance(each.component, Custom):
            yield f"$.fetches[{number}].component", each.component


def custom_parts(placement: Placement) -> Iterator[tuple[str, Custom]]:
    """Yield the custom components of a placement, with the place of each."""
    lists: tuple[tuple[str, tuple[AnySource | AnyFilter | AnyScorer, ...]], ...] = (
        ("sources", placement.sources),
        ("filters", placement.filters),
        ("scorers", placement.scorers),
    )
    for name, parts in lists:
        yield from ((f"{name}[{number}]", each) for number, each in enumerate(parts) if isinstance(each, Custom))
    if isinstance(placement.selector, Custom):
        yield "selector", placement.selector


def _named_faults(config: Config, part: Custom, where: str) -> Iterator[Fault]:
    """Yield a fault unless a component has a path or a name that there is, and not both."""
    names = ", ".join(sorted(config.components)) or "none"
    if bool(part.path) == bool(part.name):
        came = "It has both a path and a name." if part.path else "It has neither a path nor a name."
        right = f'path = "components:Shelf", or the name of one of [components]: {names}.'
        yield Fault(f"{where}.path", came, right, PAGE)
    elif part.name:
        what = "in [components] of midstream.toml"
        yield from known(f"{where}.name", part.name, config.components, what, "Components", PAGE)
