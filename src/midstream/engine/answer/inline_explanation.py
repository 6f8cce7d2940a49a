"""Inline explanation: evidence of an answer and reasons for visitors, from the state of the answer."""

import asyncio

from msgspec import structs

from midstream.core.errors import Fault, RequestInvalid
from midstream.core.types import Served
from midstream.engine.requests.schema import EXPLAIN_ITEMS_MAX
from midstream.engine.types import Answer, Ask
from midstream.ranking.boundary import Account
from midstream.ranking.explain.explanation import by_part, explain, with_parts
from midstream.ranking.explain.reasons import reasons_for
from midstream.ranking.plan import Plan
from midstream.ranking.plan_run import PlanRun
from midstream.state.fold import Fold

PAGE = "/docs/explanations.md"
MOVED = "events arrived while a part of the answer was awaited: ask for the explanation of the request"


def require_why(ask: Ask, plan: Plan) -> None:
    """Refuse a language without reasons, and an explanation of more positions of a ranking than a slate has.

    Raises:
        RequestInvalid: The request asks for it.
    """
    given = len(ask.given or ())
    places = given if ask.n is None else min(ask.n, given)
    if ask.explain and ask.given is not None and places > EXPLAIN_ITEMS_MAX:
        right = f"At most {EXPLAIN_ITEMS_MAX} places, by n; later GET /v1/requests/{{request_id}}/explanation has all."
        raise RequestInvalid((Fault("/explain", f"It came with {places:,} places.", right, PAGE),))
    if ask.reasons is None:
        return
    languages = plan.reasons.languages
    if ask.reasons not in languages:
        right = f"One of: {', '.join(languages)}; others are configured as [reasons.LANGUAGE]."
        raise RequestInvalid((Fault("/reasons", f'"{ask.reasons[:64]}" came.', right, PAGE),))


async def with_why(answer: Answer, ask: Ask, served: Served, plan: Plan, fold: Fold) -> Answer:
    """Return an answer with the requested explanation; its parts that need no state are computed on a thread."""
    return await with_score_parts(with_what_is_read(answer, ask, served, plan, fold), served, plan)


def with_what_is_read(answer: Answer, ask: Ask, served: Served, plan: Plan, fold: Fold) -> Answer:
    """Return an answer with the parts of the explanation that read state.

    Where the state moved on while a component was awaited, the explanation names only that: the rest could be wrong.
    """
    if not ask.explain and not ask.reasons:
        return answer
    wanted = tuple(
        name for name, is_asked in (("explanation", ask.explain), ("reasons", bool(ask.reasons))) if is_asked
    )
    if fold.log_position != served.log_position:
        return structs.replace(answer, unexplained=dict.fromkeys(wanted, MOVED))
    moment = fold.moment(served.query, plan.models)
    if ask.reasons is not None:
        run = PlanRun(plan, moment, Account())
        reasons = reasons_for(served, run, ask.reasons)
        items = tuple(structs.replace(each, reason=text) for each, text in zip(answer.items, reasons, strict=True))
        answer = structs.replace(answer, items=items, unexplained=by_part(run.account.failures))
    if ask.explain:
        answer = structs.replace(answer, explanation=explain(served, plan, moment))
    return answer


async def with_score_parts(answer: Answer, served: Served, plan: Plan) -> Answer:
    """Return an answer whose explanation, if it has one, has the parts of each score."""
    if answer.explanation is None:
        return answer
    return structs.replace(answer, explanation=await asyncio.to_thread(with_parts, answer.explanation, served, plan))
