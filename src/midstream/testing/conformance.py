"""Conformance checks of components: the promises of each Protocol that a type cannot state. They need NumPy alone.

The tests run them over every implementation there is, fakes included, and ``midstream check`` runs them over components
of one's own. Each check raises ``NotConforming`` with what was promised and what came.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import MidstreamError, ScoresUnavailable, SourceUnavailable
from midstream.core.fold_step import FoldStep
from midstream.core.protocols import Feature, Filter, Scorer, Selector, Source, StateTable
from midstream.core.types import (
    Candidates,
    FeatureFrame,
    LogPosition,
    Mask,
    Models,
    Moment,
    Proposal,
    Query,
    Score,
    Selection,
)
from midstream.events.schema import cut
from midstream.ranking.fetched_columns import IDS_MAX, DeclaredFetch, FetchedRow, rows_of
from midstream.state.ids.vocabulary import Vocabulary

Arrays = Mapping[str, NDArray[np.generic]]


class NotConforming(MidstreamError):
    """A component does not keep a promise of its Protocol."""


def check_source(source: Source, moment: Moment) -> Proposal | None:
    """Check a source at one moment; return what it proposed, None = it is unavailable.

    Promised: the columns go together, items are distinct and exist, best first, at most ``limit``; the same moment
    gives the same; the state is as before, and what was returned is no part of it.
    """
    _require_name(source)
    before = _state(moment)
    try:
        proposal = source.retrieve(moment)
    except SourceUnavailable:
        return None
    _require_type(proposal, Proposal)
    item_index, score = proposal.item_index, proposal.score
    _require_type(item_index, np.ndarray)
    _require_type(score, np.ndarray)
    require(item_index.dtype == np.int32, f"item_index is int32, not {item_index.dtype}")
    require(score.dtype == np.float32, f"score is float32, not {score.dtype}")
    require(item_index.ndim == 1 and item_index.shape == score.shape, "one score an item")
    require(len(np.unique(item_index)) == len(item_index), "items are distinct")
    require(bool(np.isfinite(score).all()), "a proposed item has a finite score")
    require(bool((score[1:] <= score[:-1]).all()), "items come best first")
    if len(item_index):
        count = moment.table(Vocabulary).item_count
        require(int(item_index.min()) >= 0 and int(item_index.max()) < count, f"items exist: 0 to {count - 1}")
    limit = getattr(source, "limit", None)
    if isinstance(limit, int):
        require(len(item_index) <= limit, f"at most its limit of {limit}, not {len(item_index)}")
    kept = Proposal(item_index.copy(), score.copy())
    for column in (item_index, score):
        if column.flags.writeable:
            column[:] = 0  # a view of the state would now be wrong
    again = source.retrieve(moment)
    same = np.array_equal(again.item_index, kept.item_index) and np.array_equal(again.score, kept.score)
    require(same, "the same moment gives the same, and what is returned is a copy")
    _require_unchanged(before, moment)
    return kept


def check_filter(rule: Filter, moment: Moment, candidates: Candidates) -> Mask:
    """Check a filter on some candidates; return what it keeps.

    Promised: one truth a candidate; an item's answer depends on nothing but the moment and the item; the state is as
    before.
    """
    _require_name(rule)
    before = _state(moment)
    keep = rule.keep(moment, candidates)
    _require_type(keep, np.ndarray)
    count = len(candidates)
    require(
        keep.dtype == np.bool_ and keep.shape == (count,), f"bool of shape ({count},), not {keep.dtype} {keep.shape}"
    )
    reverse = _rows(candidates, np.arange(count)[::-1])
    require(np.array_equal(rule.keep(moment, reverse), keep[::-1]), "the order of the candidates changes no answer")
    half = _rows(candidates, np.arange(0, count, 2))
    require(np.array_equal(rule.keep(moment, half), keep[::2]), "the other candidates change no answer")
    none = _rows(candidates, np.arange(0))
    require(rule.keep(moment, none).shape == (0,), "no candidates, no answers")
    _require_unchanged(before, moment)
    return keep


def check_feature(block: Feature, moment: Moment, candidates: Candidates) -> Score:
    """Check a block of features on some candidates; return what it read.

    Promised: distinct names; a float32 for each candidate and column, in the order of both; the same moment gives the
    same; the state is as before, and what was returned is no part of it.
    """
    names, count = block.names, len(candidates)
    require(len(set(names)) == len(names), "columns have names of their own")
    before = _state(moment)
    values = block.read(moment, candidates)
    _require_type(values, np.ndarray)
    shape = (count, len(names))
    require(values.dtype == np.float32, f"values are float32, not {values.dtype}")
    require(values.shape == shape, f"values of shape {shape}, not {values.shape}")
    kept = values.copy()
    if values.flags.writeable:
        values[:] = 0  # a view of the state would now be wrong
    again = block.read(moment, candidates)
    require(again.tobytes() == kept.tobytes(), "the same moment gives the same, and what is returned is a copy")
    none = block.read(moment, _rows(candidates, np.arange(0)))
    require(none.shape == (0, len(names)), "no candidates, no values")
    _require_unchanged(before, moment)
    return kept


def check_scorer(
    scorer: Scorer, query: Query, features: FeatureFrame, models: Models, runner: asyncio.Runner | None = None
) -> Score | None:
    """Check a scorer on some candidates; return its scores, None = it is unavailable.

    Promised: one float32 a row, no infinity; the same question gives the same answer; the features are as before.

    Args:
        scorer: The component.
        query: Of the request.
        features: Of the candidates.
        models: That it reads.
        runner: Event loop of all checks, as a component may keep a client for the next call; None = one of its own.
            Call it where none runs.
    """
    with _running(runner) as loop:
        return _scored(scorer, query, features, models, loop)


def _running(runner: asyncio.Runner | None) -> AbstractContextManager[asyncio.Runner]:
    """Return a given event loop, which stays open, or one of its own."""
    return asyncio.Runner() if runner is None else nullcontext(runner)


def _scored(scorer: Scorer, query: Query, features: FeatureFrame, models: Models, loop: asyncio.Runner) -> Score | None:
    _require_name(scorer)
    before = features.values.copy()
    try:
        score = loop.run(_awaited(scorer, query, features, models))
    except ScoresUnavailable:
        return None
    _require_type(score, np.ndarray)
    shape = (len(features.values),)
    require(
        score.dtype == np.float32 and score.shape == shape, f"float32 of shape {shape}, not {score.dtype} {score.shape}"
    )
    require(not bool(np.isinf(score).any()), "a number or NaN, not infinity")
    again = loop.run(_awaited(scorer, query, features, models))
    require(np.array_equal(score, again, equal_nan=True), "the same question gives the same answer")
    none = FeatureFrame(features.names, features.values[:0])
    require(loop.run(_awaited(scorer, query, none, models)).shape == (0,), "no candidates, no scores")
    require(np.array_equal(before, features.values, equal_nan=True), "the features are as before")
    return score


async def _awaited(scorer: Scorer, query: Query, features: FeatureFrame, models: Models) -> Score:
    """Return the scores from within an event loop."""
    _require_type(score := scorer.score(query, features, models), Awaitable)
    return await score


def check_selector(selector: Selector, query: Query, features: FeatureFrame, score: Score) -> None:
    """Check a selector, at several slate sizes and with scores that are missing.

    Promised: at most ``slate_size`` distinct rows, all with a finite score, each with a propensity in (0, 1]; the same
    seed gives the same; a slate is not empty while there is a row with a score.
    """
    unknown = score.copy()
    unknown[::3] = np.nan
    nothing = np.full_like(score, np.nan)
    for given in (score, unknown, nothing):
        for size in (1, query.slate_size, len(score) + 1):
            _check_selection(selector, replace(query, slate_size=size), features, given)
    _check_selection(selector, query, FeatureFrame(features.names, features.values[:0]), score[:0])


def _check_selection(selector: Selector, query: Query, features: FeatureFrame, score: Score) -> None:
    """Check one choice."""
    before = score.copy()
    selection = selector.select(query, features, score)
    _require_type(selection, Selection)
    chosen, propensity = selection.chosen, selection.propensity
    require(chosen.dtype == np.intp, f"chosen is {np.dtype(np.intp)}, not {chosen.dtype}")
    require(propensity.dtype == np.float32 and propensity.shape == chosen.shape, "one float32 propensity a row")
    require(len(chosen) <= query.slate_size, f"at most {query.slate_size}, not {len(chosen)}")
    require(len(np.unique(chosen)) == len(chosen), "rows are distinct")
    require(bool(((chosen >= 0) & (chosen < len(score))).all()), "rows are rows of the candidates")
    require(bool(np.isfinite(score[chosen]).all()), "a chosen row has a finite score")
    require(bool(((propensity > 0) & (propensity <= 1)).all()), "a propensity lies in (0, 1]")
    require(len(chosen) > 0 or not bool(np.isfinite(score).any()), "something is chosen while something can be")
    again = selector.select(query, features, score)
    same = np.array_equal(again.chosen, chosen) and np.array_equal(again.propensity, propensity)
    require(same, "the same seed gives the same choice")
    require(np.array_equal(before, score, equal_nan=True), "the scores are as before")


def check_fetch(
    fetch: DeclaredFetch, ids: Sequence[str], runner: asyncio.Runner | None = None
) -> dict[str, FetchedRow]:
    """Check a declared fetch with some ids; return what is known of each.

    Promised: each declared column and no other, of its kind, one value an id in the order of the ids; an id that the
    system does not know is unknown, and not an error; the result comes within the fetch's timeout.

    What an outside system says may change between two calls, so the order is wrong only if it is in each of three.

    Args:
        fetch: The component, and what is declared of it.
        ids: Of users or items.
        runner: Event loop of all checks, as a component may keep a client for the next call; None = one of its own.
            Call it where none runs.
    """
    unknown = "midstream-check-unknown"
    asked = tuple(dict.fromkeys((*ids, unknown)))[:IDS_MAX]
    with _running(runner) as loop:
        if fetch.of == "user":
            return {each: _fetched(fetch, (each,), loop)[each] for each in asked}
        for _ in range(3):
            found = _fetched(fetch, asked, loop)
            if found == _fetched(fetch, asked[::-1], loop):
                return found
    raise NotConforming("promised: values stand in the order of the ids, not in one of their own")


def _fetched(fetch: DeclaredFetch, ids: tuple[str, ...], loop: asyncio.Runner) -> dict[str, FetchedRow]:
    """Return the rows of one call from within an event loop. A late call, which may connect first, has a second try."""

    async def ask() -> object:
        _require_type(came := fetch.component.fetch(ids), Awaitable)
        return await asyncio.wait_for(came, fetch.timeout_s)

    try:
        result = loop.run(ask())
    except TimeoutError:
        try:
            result = loop.run(ask())
        except TimeoutError as error:
            message = f"promised: an answer within its timeout of {fetch.timeout_s * 1_000:.0f} ms, and none came"
            raise NotConforming(message) from error
    return rows_of(fetch, ids, result)


def check_state_table(make: Callable[[], StateTable], steps: Sequence[FoldStep]) -> Arrays:
    """Check a table over steps that follow each other; return the state at their end.

    Promised: however the events are cut, the same arrays, and a step without any changes nothing; ``restore`` gives the
    table whose arrays they are, which goes on in the same way; ``arrays`` changes nothing; memory has its maximum.

    Args:
        make: Gives a fresh table each time.
        steps: Events with their indices and sessions, in parts in which the catalogue stands still.
    """
    whole = make()
    for step in steps:
        whole.apply(_piece(step, 0, len(step.events)))
    expected = _copies(whole.arrays())
    _require_equal(whole.arrays(), expected, "reading the arrays changes nothing")
    require(0 <= whole.bytes_now <= whole.bytes_max, f"of {whole.bytes_max} bytes {whole.bytes_now} are in use")
    whole.apply(_piece(steps[-1], 0, 0))
    _require_equal(whole.arrays(), expected, "a step without events changes nothing")
    for size in (1, 7):
        table = make()
        for step in steps:
            for start in range(0, len(step.events), size):
                table.apply(_piece(step, start, min(start + size, len(step.events))))
        _require_equal(table.arrays(), expected, f"batches of {size} give the same")
    for middle in (0, len(steps) // 2, len(steps)):
        first, second = make(), make()
        for step in steps[:middle]:
            first.apply(_piece(step, 0, len(step.events)))
        second.restore(_copies(first.arrays()))
        _require_equal(second.arrays(), _copies(first.arrays()), "what is restored is what was")
        for step in steps[middle:]:
            second.apply(_piece(step, 0, len(step.events)))
        _require_equal(second.arrays(), expected, "what is restored goes on in the same way")
    return expected


def _piece(step: FoldStep, start: int, stop: int) -> FoldStep:
    """Return the step of the events from ``start`` to before ``stop``; the last one has the change."""
    events = step.events
    columns: dict[str, Any] = {
        name: getattr(events, name)[start:stop]
        for name in events.__dataclass_fields__
        if name not in ("first", "source")
    }
    first, source, is_last = LogPosition(events.first + start), cut(events.source, start, stop), stop == len(events)
    change = step.change if is_last else None
    piece = FoldStep(first, source, changes_user=step.changes_user and is_last, change=change)
    piece.events = replace(events, first=first, source=source, **columns)
    piece.sessions = step.sessions[start:stop]
    return piece


def _rows(candidates: Candidates, rows: NDArray[np.intp]) -> Candidates:
    """Return some candidates, in the order given."""
    return Candidates(
        candidates.item_index[rows],
        candidates.source_names,
        candidates.source_score[rows],
        candidates.source_rank[rows],
    )


def _state(moment: Moment) -> dict[str, Arrays]:
    """Return a copy of all state that the moment can reach."""
    return {name: _copies(arrays) for name, arrays in _arrays(moment).items()}


def _arrays(moment: Moment) -> dict[str, Arrays]:
    """Return all state that the moment can reach, as it is."""
    return {kind.__name__: cast("StateTable", table).arrays() for kind, table in moment.tables.items()}


def _copies(arrays: Arrays) -> Arrays:
    """Return arrays that nothing else writes to."""
    return {name: array.copy() for name, array in arrays.items()}


def _require_unchanged(before: Mapping[str, Arrays], moment: Moment) -> None:
    """Require that reading did not write."""
    for name, arrays in _arrays(moment).items():
        _require_equal(arrays, before[name], f"reading leaves table {name} as it was")


def _require_equal(found: Arrays, expected: Arrays, promise: str) -> None:
    """Require the same names, types, shapes and bytes."""
    require(found.keys() == expected.keys(), promise)
    for name, array in expected.items():
        other = found[name]
        same = other.dtype == array.dtype and other.shape == array.shape and other.tobytes() == array.tobytes()
        require(same, f"{promise}: {name}")


def _require_name(component: Source | Filter | Scorer) -> None:
    """Require a name that can stand in an answer and in a metric."""
    name = component.name
    require(bool(name) and name.isascii() and name.isidentifier(), f"a name in snake_case, not {name!r}")


def _require_type(came: object, kind: type) -> None:
    """Raise unless what came is of a type: a function without ``return`` gives ``None``."""
    require(isinstance(came, kind), f"{kind.__name__}, not {'None' if came is None else type(came).__name__}")


def require(holds: bool, promise: str) -> None:  # noqa: FBT001  the one thing that is said
    """Raise unless a promise holds."""
    if not holds:
        raise NotConforming(f"promised: {promise}")
