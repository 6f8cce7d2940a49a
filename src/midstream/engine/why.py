"""Why, with the answer: an explanation for whoever debugs, and reasons for people, from the state that answered."""

import asyncio
from dataclasses import replace

from midstream.core.errors import Fault, RequestInvalid
from midstream.core.types import Failure, Served
from midstream.engine.types import Answer, Ask
from midstream.ranking.explanation import by_part, explain, with_parts
from midstream.ranking.plan import Plan
from midstream.ranking.reasons import reasons_for
from midstream.ranking.score_parts import score_parts
from midstream.state.fold import Fold

PAGE = "docs/explanations.md"
MOVED = "events arrived while a part of the answer was awaited: ask for the explanation of the request"


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

    Where the state moved on while a part of the answer was awaited only that is said: the rest could be untrue. What
    needs no state is done on a thread.
    """
    wanted = tuple(
        name for name, is_asked in (("explanation", ask.explain), ("reasons", bool(ask.reasons))) if is_asked
    )
    if not wanted:
        return answer
    if fold.log_position != served.log_position:
        return replace(answer, unexplained=dict.fromkeys(wanted, MOVED))
    moment = fold.moment(served.query, plan.models)
    if ask.reasons is not None:
        failures: list[Failure] = []
        reasons = reasons_for(served, plan, moment, ask.reasons, failures)
        items = tuple(replace(each, reason=text) for each, text in zip(answer.items, reasons, strict=True))
        answer = replace(answer, items=items, unexplained=by_part(failures))
    if ask.explain:
        why = explain(served, plan, moment)
        parts = await asyncio.to_thread(score_parts, served, plan, served.selection.chosen)
        answer = replace(answer, explanation=with_parts(why, parts))
    return answer
