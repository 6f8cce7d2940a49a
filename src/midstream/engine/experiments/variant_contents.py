"""Contents of variants: a whole placement, a version that was set, or a change of one of both, resolved at the start.

What is resolved is kept whole, so that nothing that is set later changes a running group.

Reference: P. Hoffman, J. Snell, JSON Merge Patch, RFC 7396, 2014.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from midstream.core.errors import ConfigInvalid, Fault
from midstream.engine.experiments.views import VariantOrder
from midstream.engine.placements.views import document_of
from midstream.engine.requests.faults import json_pointer
from midstream.experiments.documents import PAGE
from midstream.state.control.placements import PlacementVersion

PATCH_DEPTH_MAX = 32
"""Of a change: a placement is nested less than half as deep."""


def told_of(
    number: int, order: VariantOrder, in_force: Mapping[str, Any], versions: Sequence[PlacementVersion]
) -> Mapping[str, Any]:
    """Return the content that a variant is to have, without its name.

    Args:
        number: Of the variant in its order.
        order: The variant.
        in_force: The experiment's placement as it answers now.
        versions: Of that placement, those that were set.

    Raises:
        ConfigInvalid: It says two that exclude each other, or names a version that is not kept.
    """
    where = f"/variants/{number}"
    if order.placement is not None:
        for name, each in (("version", order.version), ("change", order.change)):
            if each is not None:
                raise ConfigInvalid((Fault(f"{where}/{name}", "A placement came too.", "One of the two.", PAGE),))
        told = {name: each for name, each in order.placement.items() if name != "name"}
    else:
        told = dict(in_force if order.version is None else _version(where, order.version, versions))
    if order.change is not None:
        told = cast("dict[str, Any]", patched(told, order.change, f"{where}/change"))
    if order.models is not None:
        told["models"] = {**told.get("models", {}), **order.models}
    return told


def _version(where: str, wanted: int, versions: Sequence[PlacementVersion]) -> Mapping[str, Any]:
    kept = {each.version: each.content for each in versions}
    if not kept.get(wanted):
        known = ", ".join(str(version) for version, content in kept.items() if content)
        came = f"Version {wanted} of the placement is not kept."
        right = f"One of: {known}." if known else "Nothing: no version of it was set. A change says what differs."
        raise ConfigInvalid((Fault(f"{where}/version", came, right, PAGE),))
    return unnamed(kept[wanted])


def patched(told: object, change: object, where: str, depth: int = 0) -> object:
    """Return a document after a merge patch: tables are merged, null takes a setting away, all else replaces.

    Args:
        told: The document.
        change: The patch.
        where: Pointer to the patch, for a refusal.
        depth: Tables that it is within.

    Raises:
        ConfigInvalid: It is nested too deeply.

    Example:
        >>> patched({"slate_size": 20, "weights": {"a": 1, "b": 2}}, {"slate_size": 6, "weights": {"b": None}}, "")
        {'slate_size': 6, 'weights': {'a': 1}}
    """
    if not isinstance(change, Mapping):
        return change
    if depth >= PATCH_DEPTH_MAX:
        raise ConfigInvalid((Fault(where, "It is nested too deeply.", f"At most {PATCH_DEPTH_MAX} tables.", PAGE),))
    found: dict[str, object] = dict(cast("Mapping[str, object]", told)) if isinstance(told, Mapping) else {}
    for name, each in cast("Mapping[str, object]", change).items():
        if each is None:
            found.pop(name, None)
        else:
            found[name] = patched(found.get(name), each, where, depth + 1)
    return found


def unnamed(content: str) -> Mapping[str, Any]:
    """Return the document of a placement without its name."""
    return {name: each for name, each in (document_of(content) or {}).items() if name != "name"}


def places_of(orders: Sequence[VariantOrder]) -> Callable[[int, str], str]:
    """Return where in an order stands what is at a place in the placement of a variant."""

    def place_of(number: int, place: str) -> str:
        pointer = json_pointer(place)
        number %= len(orders)  # the placement of drafts is behind the variants, and has what the control has
        order = orders[number]
        first = pointer.removeprefix("/").partition("/")[0]
        if order.models is not None and first == "models":
            return f"/variants/{number}{pointer}"
        is_changed = order.change is not None and first in order.change
        return f"/variants/{number}/{'change' if is_changed else 'placement'}{pointer}"

    return place_of
