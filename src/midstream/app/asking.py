"""One question to a folder, answered from its log alone: beside a running server, recording nothing.

The same pipeline, plan and state as the server's; only the deadline is longer, since kernels may have to be compiled.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from midstream.app.config import Config
from midstream.app.inspection import LogView, served_of
from midstream.app.running import Outside
from midstream.core.errors import NotFound
from midstream.core.nearest import nearest
from midstream.core.types import Served
from midstream.engine.answers import query_of
from midstream.engine.types import ANY_PLACEMENT, Ask
from midstream.ranking.explanation import SlateWhy
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.ranking.why_not import explain_with
from midstream.state.fold import Fold

DEADLINE_S = 300.0
"""Compiling all kernels takes about a minute on a slow machine."""
_SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What was answered, with all that led to it."""

    served: Served
    fold: Fold
    item_ids: tuple[str, ...]
    """The slate, best first."""
    scores: tuple[float, ...]
    ranks: tuple[tuple[int | None, ...], ...]
    """Of each item its place in each source's list, from 0, in the order of ``source_names``; None = not in it."""
    source_names: tuple[str, ...]
    recent_ids: tuple[str, ...]
    """Items of the session that was answered, oldest first."""
    plan: Plan


def ask_folder(folder: Path, config: Config, ask: Ask) -> Answered:
    """Answer one question from a folder's log.

    Raises:
        NotFound: The placement is not configured.
        RequestInvalid: The filter, the context or the size cannot be used.
        ConfigInvalid: A component of one's own cannot be loaded.
        LogDamaged: The log cannot be trusted.
    """
    service, fold = served_of(folder, config, LogView(folder))
    found = {name: each for name, each in service.plans.items() if name != ANY_PLACEMENT}
    if ask.placement not in found:
        message = (
            f"placement {ask.placement!r} is not configured.{nearest(ask.placement, found)} "
            f"There are {', '.join(sorted(found))}"
        )
        raise NotFound(message)
    return ask_fold(fold, found[ask.placement], ask)


def why_of(answered: Answered, items: Sequence[str] = ()) -> SlateWhy:
    """Return why an answer is what it is, and all of some items; the state must stand where it stood then."""
    served, plan = answered.served, answered.plan
    return explain_with(served, plan, answered.fold.moment(served.query, plan.models), items)


def ask_fold(fold: Fold, plan: Plan, ask: Ask) -> Answered:
    """Answer one question from a state at rest. Runs an event loop of its own, so call it where none runs."""
    query = query_of(ask, plan, "", _SEED, Outside().clock())
    served = asyncio.run(recommend(plan, lambda each: fold.moment(each, plan.models), query, lambda: DEADLINE_S))
    chosen = served.selection.chosen
    rows: list[list[int]] = served.candidates.source_rank[chosen].tolist()
    return Answered(
        served=served,
        fold=fold,
        item_ids=tuple(fold.vocabulary.item_ids(served.candidates.item_index[chosen])),
        scores=tuple(served.score[chosen].tolist()),
        ranks=tuple(tuple(None if rank < 0 else rank for rank in row) for row in rows),
        source_names=served.candidates.source_names,
        recent_ids=tuple(fold.vocabulary.item_ids(fold.moment(query, plan.models).recent_item_index)),
        plan=plan,
    )
