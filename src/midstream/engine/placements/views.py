"""Views of placements: the parts that answer each, their origin, and the history of changes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from midstream.core.answers.placements import AsideView, Origin, PlacementVersionView, PlacementView
from midstream.core.errors import Fault
from midstream.engine.types import Answer
from midstream.ranking.compiled.obstacles import obstacle_of
from midstream.ranking.plan import Plan
from midstream.state.control.placements import PlacementVersion
from midstream.state.fold import Fold


class Preview(msgspec.Struct, frozen=True):
    """Two answers to one request, by a placement that is not in force and by the one that is."""

    answer: Answer
    today: Answer | None
    """None = there is no placement of that name."""


def placement_views(
    plans: Mapping[str, Plan],
    current: Mapping[str, PlacementVersion],
    own: frozenset[str],
    aside: frozenset[str],
    fold: Fold,
) -> list[PlacementView]:
    """Return the components of each placement, by name; ``*`` is any name while none is configured.

    Args:
        plans: In service.
        current: Newest version of each placement that was ever set.
        own: Names of the file's placements.
        aside: Names of set placements that are not in force.
        fold: The state in service.
    """
    found: list[PlacementView] = []
    for name, plan in sorted(plans.items()):
        said = current.get(name)
        origin = origin_of(name, said, own, aside)
        found.append(
            PlacementView(
                placement=name,
                config_hash=plan.config_hash,
                sources=[source.name for source in (*plan.sources, *plan.floor)],
                filters=[each.name for each in plan.filters],
                scorers=[each.name for each in plan.scorers],
                slate_size=plan.slate_size,
                deadline_ms=plan.deadline_ms,
                origin=origin,
                covers_file=origin == "api" and name in own,
                version=None if said is None else said.version,
                author=None if said is None else said.author,
                changed_ms=None if said is None else said.log_time_ms,
                not_compiled=obstacle_of(plan, fold),
            )
        )
    return found


def origin_of(name: str, said: PlacementVersion | None, own: frozenset[str], aside: frozenset[str]) -> Origin:
    """Return where the placement that answers a name comes from."""
    if said is not None and said.content and name not in aside:
        return "api"
    return "file" if name in own else "built_in"


def aside_views(aside: Mapping[str, Sequence[Fault]], current: Mapping[str, PlacementVersion]) -> list[AsideView]:
    """Return the set placements that are not in force, a row for each fault."""
    return [
        AsideView(name, current[name].version, each.where, each.came, each.right, each.page)
        for name, faults in sorted(aside.items())
        if name in current
        for each in faults
    ]


def document_of(content: str) -> Mapping[str, Any] | None:
    """Return the JSON document of a placement; None = an empty text, or one that no server wrote."""
    try:
        return msgspec.json.decode(content, type=dict[str, Any]) if content else None
    except (msgspec.MsgspecError, RecursionError):
        return None


def version_views(versions: Sequence[PlacementVersion], token: Callable[[int], str]) -> list[PlacementVersionView]:
    """Return the versions of a placement, in order; ``token`` gives the text of a log position."""
    return [
        PlacementVersionView(
            version=each.version,
            author=each.author,
            note=each.note,
            changed_ms=each.log_time_ms,
            log_position=token(each.position),
            sha256=each.sha256,
            content=document_of(each.content),
        )
        for each in versions
    ]
