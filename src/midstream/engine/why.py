"""Why, with the answer: an explanation for whoever debugs, and reasons for people, from the state that answered."""

import asyncio
from dataclasses import replace

from midstream.core.errors import Fault, RequestInvalid
from midstream.core.types import Served
from midstream.engine.types import Answer, Ask
from midstream.ranking.explanation import explain, with_parts
from midstream.ranking.plan import Plan
from midstream.ranking.reasons import reasons_for
from midstream.ranking.score_parts import score_parts
from midstream.state.fold import Fold

PAGE = "docs/explanations.md"


def require_language(ask: Ask, plan: Plan) -> None:
    """Refuse a language in which there are no reasons.

    Raises:
        RequestInvalid: There are none.
    """
    languages = plan.reasons.languages
    if ask.reasons is not None and ask.reasons not in languages:
        right = f"One of: {', '.join(languages)}; others are configured as [reasons.LANGUAGE]."
        raise RequestInvalid((Fault("/reasons", f'"{ask.reasons[:64]}" came.', right, PAGE),))


async def with_why(answer: Answer, ask: Ask, served: Served, plan: Plan, fold: Fold) -> Answer:
    """Return an answer that says why, as far as that was asked for.

    Nothing is said where the state moved on while a part of the answer was awaited: it could be untrue. What needs no
    state is done on a thread.
    """
    if (not ask.explain and ask.reasons is None) or fold.log_position != served.log_position:
        return answer
    moment = fold.moment(served.query, plan.models)
    if ask.reasons is not None:
        reasons = reasons_for(served, plan, moment, ask.reasons)
        items = tuple(replace(each, reason=text) for each, text in zip(answer.items, reasons, strict=True))
        answer = replace(answer, items=items)
    if ask.explain:
        why = explain(served, plan, moment)
        parts = await asyncio.to_thread(score_parts, served, plan, served.selection.chosen)
        answer = replace(answer, explanation=with_parts(why, parts))
    return answer
