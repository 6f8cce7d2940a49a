"""Validation of a page's slates before they are made: queries of the valid ones, errors of the others."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from midstream.core.errors import Fault, MidstreamError, RequestInvalid
from midstream.core.types import Query
from midstream.engine.answer.because import going_by
from midstream.engine.answer.inline_explanation import require_why
from midstream.engine.answer.query_mapping import query_of
from midstream.engine.live import LiveState
from midstream.engine.requests.schema import PAGE_ITEMS_MAX
from midstream.engine.types import Ask, SlateRefused
from midstream.ranking.filters.expression_filter import request_faults
from midstream.ranking.plan import Plan

_OF_A_SLATE = ("/n", "/filter", "/exclude", "/fields", "/because")
"""Pointers to a slate's own fields; an error elsewhere is the page's."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Valid and invalid slates of a page, by place on the page."""

    made: Mapping[int, tuple[Plan, Query]]
    asks: Mapping[int, Ask]
    """Of the valid ones, about the items that rows go by."""
    refused: Mapping[int, SlateRefused]

    @property
    def page_id(self) -> str:
        """Request id of the first slate."""
        return next(iter(self.made.values()))[1].request_id


def slots_of(live: LiveState, asks: Sequence[Ask], *, chooses: bool = True) -> Slots:
    """Return the slates of a page, each with a request id, a seed and the time.

    Args:
        live: The state and its plans.
        asks: By falling priority.
        chooses: Choose the items that rows go by; False = their acts may come with the request, and are not there yet.

    Raises:
        MidstreamError: None can be made: the error of the first.
        RequestInvalid: They have too many items together.
    """
    made: dict[int, tuple[Plan, Query]] = {}
    kept: dict[int, Ask] = {}
    refused: dict[int, SlateRefused] = {}
    now_ms = live.clock()
    page_id = ""
    for place, sent in enumerate(asks):
        try:
            taken = [each.about for each in kept.values() if each.about is not None]
            ask = going_by(sent, live.fold, taken, now_ms) if chooses else sent
            plan = live.plan_for(ask.placement, ask.user_id, ask.session_id, may_draft=False)
            require_why(ask, plan)
            query = query_of(ask, plan, *live.host.request_ids.make(), now_ms)
            if faults := request_faults(plan.filters, query, plan.context_readers):
                raise RequestInvalid(faults)
        except MidstreamError as error:
            refused[place] = SlateRefused(sent.placement, _on_page(error, place))
            continue
        kept[place] = ask
        page_id = page_id or query.request_id
        made[place] = plan, replace(query, page_id=page_id)
    if not made:
        raise refused[0].error
    require_items((place, query.slate_size) for place, (_, query) in made.items())
    return Slots(made, kept, refused)


def require_count(where: str, count: int, count_max: int) -> None:
    """Refuse a list that is empty or too long.

    Raises:
        RequestInvalid: It is.
    """
    if not 1 <= count <= count_max:
        raise RequestInvalid((Fault(f"/{where}", f"{count} came.", f"1 to {count_max} {where}.", "/docs/http.md"),))


def require_items(sizes: Iterable[tuple[int, int]]) -> None:
    """Refuse a page with more items than it may have.

    Args:
        sizes: Place on the page and items of each slate, in order.

    Raises:
        RequestInvalid: It points at the first slate with which they are too many.
    """
    count = 0
    for place, size in sizes:
        if count + size > PAGE_ITEMS_MAX:
            came = f"{size} items came to {count} of the slates before."
            right = f"At most {PAGE_ITEMS_MAX} on a page, here at most {PAGE_ITEMS_MAX - count}; without n: slate_size."
            raise RequestInvalid((Fault(f"/placements/{place}/n", came, right, "/docs/http.md"),))
        count += size


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
