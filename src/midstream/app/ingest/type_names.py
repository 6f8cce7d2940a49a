"""Check of event types that a command names, against the configuration, before a row is read.

A mistyped type is one error then, instead of the same error in each of a million rows.
"""

from collections.abc import Iterable, Iterator

from midstream.app.config.schema import Config
from midstream.app.opening import accept_of
from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.kinds import RESERVED_TYPES
from midstream.core.nearest import nearest
from midstream.events.faults import listed, shown
from midstream.events.rows import MORE_TYPES

PAGE = "/docs/events.md"


def require_types(config: Config, named: Iterable[tuple[str, str]]) -> None:
    """Refuse types that no row can have.

    Args:
        config: Has the types.
        named: Option of the command and the type that it names, such as ``("--type", "view")``.

    Raises:
        ConfigInvalid: All of them are named, each once.
    """
    if faults := tuple(dict.fromkeys(_faults(config, named))):
        raise ConfigInvalid(faults)


def _faults(config: Config, named: Iterable[tuple[str, str]]) -> Iterator[Fault]:
    accept = accept_of(config, trusted=True)
    offered = sorted({*accept.actions, *accept.open_types} - accept.against)
    types = (*sorted(accept.actions), *sorted(accept.open_types))
    for option, name in named:
        if name not in accept.actions and name.lower() not in RESERVED_TYPES:
            came = f"{shown(name)} is not a type of this shop.{nearest(name, offered)}"
            yield Fault(option, came, f"Types: {listed(types)}. {MORE_TYPES}", PAGE)
