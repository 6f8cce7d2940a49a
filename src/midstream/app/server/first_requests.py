"""Example requests of a server: an event and a recommendation that its configuration accepts.

They are derived from the configuration, never written down beside it: another set of event types, or a shop that
refuses unknown items, has another first event.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from midstream.app.config.schema import Config

_SESSION = "s1"
_USUAL = "view"


def first_event(config: Config, item_id: str, *, is_known: bool) -> Mapping[str, object]:
    """Return an event that a server with this configuration records.

    Args:
        config: In service.
        item_id: What it is about.
        is_known: Whether the log knows that item; an unknown one is put into the catalogue where acts on it are
            refused or held back.
    """
    types = config.events.types
    if not types or not (is_known or config.items.unknown_items == "accept"):
        return {"type": "item", "item_id": item_id, "operation": "put", "attributes": {}}
    best = max(types, key=lambda name: (name == _USUAL, types[name].weight))
    return {"type": best, "session_id": _SESSION, "item_id": item_id}


def first_question(placements: Sequence[str]) -> str:
    """Return the query of a question that goes on in the session of ``first_event``, ready to stand in a URL."""
    asked = {} if "default" in placements else {"placement": placements[0]}
    return urlencode({"session_id": _SESSION, "n": "5", **asked})
