"""Program of a plan: its sources, filters and weights as numbers, which one kernel runs.

A plan is data: the kernel is compiled once for all plans, and a change of a placement compiles nothing. A plan that has
a part of another kind, such as a custom one, has no program, and the pipeline answers for it.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import NotFound
from midstream.core.protocols import Filter, Source
from midstream.core.traits import traits_of
from midstream.ranking.caller_items import GIVEN
from midstream.ranking.compiled.room import GIVEN_MAX
from midstream.ranking.filters.available import Available
from midstream.ranking.filters.excluded import Excluded
from midstream.ranking.filters.expression_filter import RequestFilter
from midstream.ranking.filters.repeats import Repeats
from midstream.ranking.plan import Plan
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.popular import Popular
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.trending import Trending
from midstream.state.fold import Fold
from midstream.state.pairs import covisitation_query
from midstream.state.sessions import session_query

SESSION_KNN: Final = 0
COVISITATION: Final = 1
HOT_LIST: Final = 2
CALLER: Final = 3
"""Operations of sources. The caller is the first one of a ranking: its items are the only candidates."""
OPERATION: Final = 0
LIMIT: Final = 1
HISTORY: Final = 2
HIDES: Final = 3
FIRST: Final = 4
SECOND: Final = 5
THIRD: Final = 6
SOURCE_WIDTH: Final = 7
"""Columns of a source: its operation, the most that it proposes, how many last items of the user stand in for those of
a session, which items of the session it leaves out, and three numbers by operation.

Session kNN: last items, entries and neighbours. Co-visitation: last items, quarters of the power, half-life. Hot list:
row of the list, half-life."""
HIDES_NONE: Final = 0
HIDES_LAST: Final = 1
HIDES_ALL: Final = 2

AVAILABLE: Final = 0
EXCLUDED: Final = 1
REPEATS: Final = 2
PASSES: Final = 3
OUTSIDE: Final = 4
"""Operations of filters. ``PASSES`` is that of a request's own text in a question without one. One that is ``OUTSIDE``
is asked of all candidates between two calls of the kernel; it is bounded and none of one's own, as it is asked again
where too few pass."""
FILTER_WIDTH: Final = 2
"""Columns of a filter: its operation, and of ``REPEATS`` one of the following."""
ALLOWS_ANY: Final = 0
ALLOWS_NOT_LAST: Final = 1
ALLOWS_NONE: Final = 2
_ALLOWS: Final = {"any": ALLOWS_ANY, "not_last": ALLOWS_NOT_LAST, "none": ALLOWS_NONE}

CANDIDATES_MAX: Final = 0
"""Place in ``PlanProgram.limits``."""
_SESSION_WEIGHTS: Final = 4 * session_query.PLACES - 1
Table: TypeAlias = NDArray[np.int64]
Values: TypeAlias = NDArray[np.float64]


class PlanProgram(NamedTuple):
    """A plan as numbers."""

    sources: Table
    """(sources, ``SOURCE_WIDTH``), in the order in which they propose, those of the floor last."""
    source_weights: Values
    """(sources, weights): the table of weights of a session kNN or of co-visitation, from the front."""
    source_numbers: Values
    """(sources,): power of the similarity in a vote of session kNN, weight of an item for itself in co-visitation."""
    filters: Table
    """(filters, ``FILTER_WIDTH``)."""
    blend: Values
    """(2, sources): weight of each source, and the term of one that did not propose an item."""
    offset: Values
    """(1,): what is added to each rank."""
    limits: Table
    """(1,): see ``CANDIDATES_MAX``."""


class NotCompiled(NamedTuple):
    """Why a plan has no program."""

    reason: str


def program_of(plan: Plan, fold: Fold, *, ranks: bool = False) -> PlanProgram | NotCompiled:
    """Return the program of a plan over a state, up to the cut at least, or the first part before it that has none.

    Args:
        plan: The plan.
        fold: The state.
        ranks: The items of the caller are the only candidates.
    """
    for reason in _obstacles(plan):
        return NotCompiled(reason)
    sources = (*plan.sources, *plan.floor)
    names = (*((GIVEN,) if ranks else ()), *(each.name for each in sources))
    rows = np.zeros((len(names), SOURCE_WIDTH), dtype=np.int64)
    weights = np.zeros((len(names), _SESSION_WEIGHTS), dtype=np.float64)
    numbers = np.zeros(len(names), dtype=np.float64)
    if ranks:
        rows[0, [OPERATION, LIMIT]] = CALLER, GIVEN_MAX
    for place, source in enumerate(sources, len(names) - len(sources)):
        try:
            row, table, number = _source(source, fold)
        except NotFound as error:
            return NotCompiled(f"source {source.name}: {error}")
        rows[place, : len(row)] = row
        weights[place, : len(table)] = table
        numbers[place] = number
    blend = plan.scorers[-1]
    if not isinstance(blend, Blend):
        return NotCompiled("the last scorer is no blend")
    shares = np.array([blend.weight(each) for each in names], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        absent = shares / (blend.rank_offset + np.float64(np.inf))
    return PlanProgram(
        sources=rows,
        source_weights=weights,
        source_numbers=numbers,
        filters=np.array([_filter(each) for each in plan.filters], dtype=np.int64).reshape(-1, FILTER_WIDTH),
        blend=np.stack((shares, absent)),
        offset=np.array([blend.rank_offset], dtype=np.float64),
        limits=np.array([plan.candidates_max], dtype=np.int64),
    )


def obstacle_to_slates(plan: Plan) -> str:
    """Return the first part behind the cut that no program has; empty = programs make whole slates."""
    return next(_obstacles_behind(plan), "")


def _obstacles(plan: Plan) -> Iterator[str]:
    """Yield what of a plan up to the cut no program has."""
    sources = (*plan.sources, *plan.floor)
    if plan.fetches:
        yield "parts that ask outside systems"
    if plan.pins is not None:
        yield "pinned items"
    yield from (f"source {each.name}" for each in sources if not _is_known(each))
    yield from (f"filter {each.name}" for each in plan.filters if not _may_run_again(each, plan))
    for names in ([each.name for each in sources], [each.name for each in plan.filters]):
        if len(set(names)) < len(names):
            yield f"two parts of one name: {', '.join(names)}"
    if not sources:
        yield "no source"
    if type(plan.scorers[-1]) is not Blend:
        yield f"scorer {plan.scorers[-1].name}"


def _obstacles_behind(plan: Plan) -> Iterator[str]:
    """Yield what of a plan no program has that makes whole slates."""
    yield from custom(plan)
    yield from (f"filter {each.name}" for each in plan.filters if type(each) not in _FILTERS)
    if plan.models.by_name or plan.model_names:
        yield "models"
    if plan.features:
        yield "features"
    if plan.arrangement is not None:
        yield "rules of the slate"
    if len(plan.scorers) != 1:
        yield f"scorer {plan.scorers[0].name}"
    if len(plan.selectors) != 1 or type(plan.selectors[0]) is not TopK:
        yield f"selector {type(plan.selectors[0]).__name__}"


def custom(plan: Plan) -> Iterator[str]:
    """Yield the parts of a plan that are one's own."""
    if plan.own:
        yield f"custom components: {', '.join(sorted(plan.own))}"


_SOURCES: Final[frozenset[type]] = frozenset((SessionKnn, Covisitation, Trending, Popular))
_FILTERS: Final[frozenset[type]] = frozenset((Available, Excluded, Repeats, RequestFilter))


def _is_known(source: Source) -> bool:
    """Return whether a source has an operation; a type derived from one of these may be another source."""
    if isinstance(source, Trending) and source.by_segment:
        return False
    return type(source) in _SOURCES


def _may_run_again(rule: Filter, plan: Plan) -> bool:
    """Return whether the pipeline may ask a filter again of the same candidates: a custom one may count its calls."""
    return type(rule) in _FILTERS or (traits_of(rule).bounded and rule.name not in plan.own)


def _source(source: Source, fold: Fold) -> tuple[list[int], Values, float]:
    """Return the columns, the weights and the number of a source.

    Raises:
        NotFound: The state has no list of its half-life.
    """
    if isinstance(source, SessionKnn):
        row = [SESSION_KNN, source.limit, source.history_items_max, _hides(source)]
        row += [source.last_items_max, source.entries_max, source.neighbours_max]
        return row, session_query.weights_of(source), session_query.POWERS[source.sharpness]
    if isinstance(source, Covisitation):
        row = [COVISITATION, source.limit, source.history_items_max, _hides(source)]
        row += [source.last_items_max, covisitation_query.QUARTERS[source.popularity], fold.pairs.half_life_ms]
        return row, covisitation_query.weights_of(source), source.same_item
    if isinstance(source, Trending | Popular):
        number, limit = fold.items.hot_row(source.half_life.ms, source.limit)
        return [HOT_LIST, max(limit, 0), 0, HIDES_NONE, number, source.half_life.ms], np.empty(0), 0.0
    message = f"{type(source).__name__} has no operation"
    raise NotFound(message)


def _hides(source: SessionKnn | Covisitation) -> int:
    if not source.allow_session_items:
        return HIDES_ALL
    return HIDES_LAST if source.exclude_last_item else HIDES_NONE


def _filter(rule: Filter) -> tuple[int, int]:
    """Return the columns of a filter."""
    if type(rule) not in _FILTERS:
        return OUTSIDE, 0
    if isinstance(rule, Available):
        return AVAILABLE, 0
    if isinstance(rule, Excluded):
        return EXCLUDED, 0
    if isinstance(rule, Repeats):
        return REPEATS, _ALLOWS[rule.allow]
    return PASSES, 0
