"""The slates of a page before they are made: which of them can be, and what is wrong with the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from midstream.core.errors import Fault, MidstreamError, RequestInvalid
from midstream.core.types import Query
from midstream.engine.answers import query_of
from midstream.engine.types import Ask, SlateRefused
from midstream.ranking.expression_filter import request_faults
from midstream.ranking.plan import Plan

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

_OF_A_SLATE = ("/n", "/filter", "/exclude", "/fields")
"""Where what is wrong may stand that a slate has for itself; the rest is the page's."""


@dataclass(frozen=True, slots=True)
class Slots:
    """What of a page can be made, and what cannot, by place on the page."""

    made: Mapping[int, tuple[Plan, Query]]
    refused: Mapping[int, SlateRefused]

    @property
    def page_id(self) -> str:
        """Request id of the first slate."""
        return next(iter(self.made.values()))[1].request_id


def slots_of(engine: "Engine", asks: Sequence[Ask]) -> Slots:
    """Return the slates of a page, each with a request id, a seed and the time.

    Raises:
        MidstreamError: None can be made: what is wrong with the first.
    """
    made: dict[int, tuple[Plan, Query]] = {}
    refused: dict[int, SlateRefused] = {}
    now_ms = engine.clock()
    page_id = ""
    for place, ask in enumerate(asks):
        try:
            plan = engine.plan(ask.placement)
            query = query_of(ask, plan, *engine.host.request_ids.make(), now_ms)
            if faults := request_faults(plan.filters, query, plan.conditions):
                raise RequestInvalid(faults)
        except MidstreamError as error:
            refused[place] = SlateRefused(ask.placement, _on_page(error, place))
            continue
        page_id = page_id or query.request_id
        made[place] = plan, replace(query, page_id=page_id)
    if not made:
        raise refused[0].error
    return Slots(made, refused)


def require_count(where: str, count: int, count_max: int) -> None:
    """Refuse a list that is empty or too long.

    Raises:
        RequestInvalid: It is.
    """
    if not 1 <= count <= count_max:
        raise RequestInvalid((Fault(f"/{where}", f"{count} came.", f"1 to {count_max} {where}.", "docs/http.md"),))


def _on_page(error: MidstreamError, place: int) -> MidstreamError:
    """Return the error with pointers into the page's list of placements."""
    if type(error) is not RequestInvalid:
        return error
    return RequestInvalid(
        tuple(
            replace(fault, where=f"/placements/{place}{fault.where}") if fault.where.startswith(_OF_A_SLATE) else fault
            for fault in error.faults
        )
    )
