"""Offline query of a folder: answers from its log alone, beside a running server, recording nothing.

It has the pipeline, plan and state of the server; only the deadline is longer, since kernels may have to be compiled.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, answering_of
from midstream.app.inspect.model_standing import model_standings
from midstream.app.opening import Outside
from midstream.core.answers.explanations import SlateWhy
from midstream.core.coroutines import result_of
from midstream.core.types import Moment, Served
from midstream.engine.answer.query_mapping import query_of
from midstream.engine.stores.connector import closing_runner
from midstream.engine.types import Ask
from midstream.events.faults import shown
from midstream.ranking.explain.why_not import explain_with
from midstream.ranking.fetch_cache import FetchCache
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.state.fold import Fold

DEADLINE_S = 300.0
"""Compiling all kernels takes about a minute on a slow machine."""
_SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class OfflineAnswer:
    """Answer with its trace."""

    served: Served
    fold: Fold
    item_ids: tuple[str, ...]
    """The slate, best first."""
    scores: tuple[float, ...]
    ranks: tuple[tuple[int | None, ...], ...]
    """Rank of each item in each source's list, from 0, in the order of ``source_names``; None = not in it."""
    source_names: tuple[str, ...]
    recent_ids: tuple[str, ...]
    """Items of the session that was answered, oldest first."""
    plan: Plan
    concerns: tuple[str, ...] = ()
    """Models of the placement that are not in service, and why."""
    unknown: tuple[str, ...] = ()
    """What is not known of the user and the session that were named; empty = nothing is missing."""


def ask_folder(folder: Path, config: Config, ask: Ask) -> OfflineAnswer:
    """Answer one request from a folder's log.

    Raises:
        NotFound: The placement is not configured.
        RequestInvalid: The filter, the context or the size cannot be used.
        ConfigInvalid: A custom component cannot be loaded.
        LogDamaged: The log cannot be trusted.
    """
    view = answering_of(folder, config, LogView(folder), ask.placement)
    concerns = tuple(each.concern for each in model_standings(view) if each.concern)
    with closing_runner() as runner:
        return replace(ask_fold(view.fold, view.plans[ask.placement], ask, runner), concerns=concerns)


def unknown_of(moment: Moment) -> tuple[str, ...]:
    """Return in words whether the user and the session that a query names are not known at its moment."""
    query, found = moment.query, list[str]()
    if query.user_id is not None and moment.user_index < 0:
        found.append(f"nothing is known of user {shown(query.user_id)}")
    if query.session_id is not None and moment.session_number < 0:
        found.append(f"no session {shown(query.session_id)} is open: it has ended, or no event names it")
    return tuple(found)


def why_of(answered: OfflineAnswer, items: Sequence[str] = ()) -> SlateWhy:
    """Return the explanation of an answer and of some items; the state must be at the answer's position."""
    served, plan = answered.served, answered.plan
    return explain_with(served, plan, answered.fold.moment(served.query, plan.models), items)


def ask_fold(fold: Fold, plan: Plan, ask: Ask, runner: asyncio.Runner) -> OfflineAnswer:
    """Answer one request from a state at rest, with the rank of each item in each source's list."""
    served = served_at_rest(fold, plan, ask, _SEED, FetchCache(), runner)
    chosen = served.selection.chosen
    rows: list[list[int]] = served.candidates.source_rank[chosen].tolist()
    moment = fold.moment(served.query, plan.models)
    return OfflineAnswer(
        served=served,
        fold=fold,
        item_ids=tuple(fold.vocabulary.item_ids(served.candidates.item_index[chosen])),
        scores=tuple(served.score[chosen].tolist()),
        ranks=tuple(tuple(None if rank < 0 else rank for rank in row) for row in rows),
        source_names=served.candidates.source_names,
        recent_ids=tuple(fold.vocabulary.item_ids(moment.recent_item_index)),
        plan=plan,
        unknown=unknown_of(moment),
    )


def served_at_rest(fold: Fold, plan: Plan, ask: Ask, seed: int, cache: FetchCache, runner: asyncio.Runner) -> Served:
    """Run a plan on a state at rest.

    Args:
        fold: The state.
        plan: Of the placement.
        ask: The request.
        seed: Of chance.
        cache: Of fetched columns.
        runner: Event loop of all answers, as a component may keep a client for the next one. Call it where none runs.

    Raises:
        RequestInvalid: The filter, the context or the size cannot be used.
    """
    query = query_of(ask, plan, "", seed, Outside().clock())
    answering = recommend(plan, lambda each: fold.moment(each, plan.models), query, lambda: DEADLINE_S, cache=cache)
    return result_of(runner.run, answering)
