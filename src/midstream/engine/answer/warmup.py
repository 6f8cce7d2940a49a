"""Warm-up: runs every kernel once before the first request, since compiling takes a minute and loading half a second.

A small state of its own is folded and queried, so nothing real is touched. The kernels' types depend on the kinds of
the settings and not on their maxima, so the compiled code is that of the real state. The state has items of the plans'
models, and each plan answers with its models: a model without an item of the history would not run, and would be slow
at its first request, so that the circuit breaker would skip its source.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import msgspec

from midstream.core.kinds import Kind, Operation
from midstream.core.types import Failure, LogPosition, Query, TimestampMs
from midstream.engine.answer.lookups import item_view, user_view
from midstream.engine.circuit_breaker import overruns
from midstream.engine.requests.schema import ID_CHARS_MAX
from midstream.events.json.decode import decode
from midstream.events.json.plain import PLAIN_BYTES_MIN
from midstream.events.schema import Event, build, pick
from midstream.events.wire import Accept, vector_length
from midstream.models.model import is_item_model
from midstream.models.rows.online_sums import OnlineSums, part_count
from midstream.ranking.boundary import Account
from midstream.ranking.compiled.compiled_plan import CompiledPlan, compiled_plan
from midstream.ranking.compiled.composed_plan import composed_plan
from midstream.ranking.compiled.machine_code import has_code, has_slate_code
from midstream.ranking.compiled.room import SHORTLIST
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.retrieval.nearest import Nearest
from midstream.state.control.promotions import promotion_body
from midstream.state.fold import Fold
from midstream.state.ids.event_ids import EventIds
from midstream.state.ids.pending_ids import PendingIds
from midstream.state.ids.retraction_event import retraction_of
from midstream.state.one_pass import is_usual
from midstream.state.online.online_models import CHAMPION
from midstream.state.outcomes.recipients import session_asker
from midstream.state.settings import FoldSettings, StateLimits

_LIMITS = StateLimits(
    users_max=8,
    items_max=64,
    click_items_max=8,
    sessions_max=8,
    index_sessions_max=8,
    event_ids_max=64,
    requests_max=8,
    outcome_slates_max=8,
    outcome_items_max=64,
    outcomes_waiting_max=8,
    document_bytes_max=65_536,
)
MODELS_MAX = 40
"""Models whose items the state takes, one of each: it has room for 64, and names some itself."""
_FILTER = "item.available"
TURNS_MAX = 3
"""The first turn may load and compile; the third repeats components that were slow in the second: the machine may
have been busy."""
WAIT_S_MAX = 10.0
"""For all components that wait in all turns, as long as any request may wait: a component that never answers blocks
neither a start nor a change. Each turn has a third of it, so that the second one has its time also where the first
one compiled."""
_LEFT_S_MIN = 0.001
"""Minimum time of components that do not wait, so that their kernels are compiled."""
_NOW = TimestampMs(1_700_000_000_000)


_PARTS = bytes(8 * part_count(1, 1))
_SUMS = OnlineSums(1, 1, 1, 1.0, 1.0, 1.0, 1.0, by_position=False, z=_PARTS, n=_PARTS)
"""Of a model that goes on learning and knows nothing."""
_PLAIN = b'{"type":"view","user_id":"u","item_id":"i","time":"2026-01-31T12:00:00Z","context":{"a":"b"}}'


@dataclass(frozen=True, slots=True)
class WarmupResult:
    """Failures and overruns of the warm-up."""

    failures: tuple[Failure, ...]
    """In the answers of every turn."""
    overruns: tuple[Failure, ...]
    """Custom components that held the thread for longer than allowed, in each turn after compilation."""


async def warm_up(settings: FoldSettings, plans: Sequence[Plan], monotonic: Callable[[], float]) -> WarmupResult:
    """Fold some events of each kind and answer from each plan, twice, in a state of its own.

    Args:
        settings: Of the state.
        plans: Each answers in each turn.
        monotonic: Seconds that never go back.

    Returns:
        Failures of the answers, and components that took too long.
    """
    fold = Fold(msgspec.structs.replace(settings, limits=_LIMITS, compaction=""))
    actions = settings.action_names() or ("view",)
    failures: list[Failure] = []
    slow: dict[tuple[str, str], Failure] = {}
    known = _known_items(plans)
    for turn in range(TURNS_MAX):
        _let_happen(fold, turn, actions, tuple(dict.fromkeys(known.values())))
        left_s = partial(_left_s, monotonic() + WAIT_S_MAX / TURNS_MAX, monotonic)
        overran: dict[tuple[str, str], Failure] = {}
        for plan in plans:
            # The filter: columns are computed for it also where no placement has a text or a feature.
            items = ("i0", *(known[name] for name in plan.models.by_name if name in known))
            query = Query("warm", plan.name, "u0", "s", plan.slate_size, _NOW, 1, items=items, filter=_FILTER)
            query = replace(query, context=_context(plan))
            served = await recommend(plan, partial(fold.moment, models=plan.models), query, left_s)
            failures.extend(served.failures)
            _warm_compiled(plan, fold)
            overran |= {(plan.name, each.component): each for each in overruns(plan, served)}
        if turn:
            slow = {key: each for key, each in overran.items() if turn == 1 or key in slow}
            if not slow:
                break
    warm_decoding()
    return WarmupResult(tuple(failures), tuple(slow.values()))


def _warm_compiled(plan: Plan, fold: Fold) -> None:
    """Ask the compiled form of a plan that has one, with a question in which all that it has to look up is known."""
    compiled = compiled_plan(plan, fold) if has_code() else None
    if isinstance(compiled, CompiledPlan):
        compiled.ask(("u0", "s", "warm"), (("i0",), ("a",)), 1, _NOW)
        filtered = Query("warm", plan.name, "u0", "s", 1, _NOW, 1, items=("i0",), filter=_FILTER)
        compiled.gather(filtered, SHORTLIST, Account())
    if compiled is not None and has_slate_code() and (composed := composed_plan(compiled)) is not None:
        query = Query("warm", plan.name, "u0", "s", 1, _NOW, 1, items=("i0",), exclude=("a",))
        composed.ask(query, Account())


def _context(plan: Plan) -> dict[str, str]:
    """Return vectors for the sources that read one of the context."""
    return {name: text for each in plan.sources if isinstance(each, Nearest) for name, text in each.example().items()}


def _left_s(until: float, monotonic: Callable[[], float]) -> float:
    return max(until - monotonic(), _LEFT_S_MIN)


def _known_items(plans: Sequence[Plan]) -> dict[str, str]:
    """Return the first item of each model of the plans that has a vocabulary, by the model's name."""
    models = {name: model for plan in plans for name, model in plan.models.by_name.items()}
    items = {name: each.vocabulary for name, each in models.items() if is_item_model(each) and len(each.vocabulary)}
    found = {name: vocabulary.id_of(0) for name, vocabulary in islice(items.items(), MODELS_MAX)}
    return {name: item for name, item in found.items() if len(item) <= ID_CHARS_MAX}


def _let_happen(fold: Fold, turn: int, actions: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Fold events of each kind, some about items of models, and read the result."""
    # A value for each attribute, so that the item that is asked about has one like it.
    values = {"category": "warm", "tags": ["warm"], "number": 1, "boolean": True}
    body = msgspec.json.encode(
        {name: [1] * vector_length(kind) or values[kind] for name, kind in fold.settings.attributes.items()}
    )
    events = [
        *(
            Event(
                Kind.CONTROL,
                event_id=f"{name}{turn}",
                body=promotion_body(name, CHAMPION, f"{turn}", "", _SUMS),
                log_time_ms=_NOW,
            )
            for name in sorted(fold.online.names)
        ),
        *(
            Event(Kind.ITEM, Operation.PUT, f"{item}{turn}", item_id=item, body=body, log_time_ms=_NOW)
            for item in ("a", "i0", *known)
        ),
        Event(Kind.USER, Operation.PATCH, f"user{turn}", user_id="u", body=b"{}", log_time_ms=_NOW),
        Event(Kind.IMPRESSION, 0, f"seen{turn}", user_id="u", item_id="a", request_id="r0", log_time_ms=_NOW),
        Event(Kind.SERVED, request_id=f"r{turn}", user_id="u", event_time_ms=_NOW, log_time_ms=_NOW),
        Event(Kind.TICK, log_time_ms=_NOW),
    ]
    events.extend(
        Event(
            Kind.INTERACTION,
            event_id=f"{turn}{number}",
            action=action,
            user_id=f"u{number}",
            item_id=f"i{number % 4}",
            session_id="s",
            event_time_ms=_NOW,
            log_time_ms=_NOW,
        )
        for number, action in enumerate(actions * 2)
    )
    fold.apply(LogPosition(fold.log_position), build(events))
    batch = build((Event(Kind.TICK, log_time_ms=_NOW),))
    prints = fold.event_ids.fingerprints(batch)
    PendingIds().admit(prints, fold.event_ids.find(prints), turn)
    PendingIds().admit_batch(fold.event_ids, batch, turn)
    PendingIds().release(prints, turn)
    fold.apply(LogPosition(fold.log_position), batch)
    is_usual(batch)  # what the fold asks of batches that are longer than a run
    item_view(fold, "a", _NOW)
    # How what a model proposes is found in the state: also where no model is in service yet.
    fold.vocabulary.item_indices_of_hashes(fold.vocabulary.item_hash[:1])
    warm_people(fold, actions[0])


def warm_people(fold: Fold, action: str) -> None:
    """Merge users, one of whom alone has seen an item, take an act back, read a user and a session, and erase one."""
    merge = Event(Kind.USER, Operation.MERGE, user_id="u0", body=b'{"from":"u1"}', log_time_ms=_NOW)
    act = Event(Kind.INTERACTION, action=action, user_id="u1", item_id="a", event_time_ms=_NOW, log_time_ms=_NOW)
    fold.apply(LogPosition(fold.log_position), build((act, act._replace(user_id="u0"), merge, act)))
    seen = Event(Kind.IMPRESSION, user_id="u3", item_id="a", event_time_ms=_NOW, log_time_ms=_NOW)
    other = Event(Kind.USER, Operation.MERGE, user_id="u2", body=b'{"from":"u3"}', log_time_ms=_NOW)
    fold.apply(
        LogPosition(fold.log_position), build((act._replace(user_id="u3"), seen, act._replace(user_id="u2"), other))
    )
    acts = ((LogPosition(fold.log_position - at), each) for at, each in ((3, seen), (4, act)))
    taken_back = [retraction_of(*each)._replace(user_id="u2", log_time_ms=_NOW) for each in acts]
    fold.apply(LogPosition(fold.log_position), build(taken_back))
    user_view(fold, "u1", _NOW)
    session_asker(1)
    fold.apply(LogPosition(fold.log_position), build((Event(Kind.ERASE, user_id="u1", log_time_ms=_NOW),)))
    late = build((act,))
    fold.vocabulary.erasures.late_copies(late, fold.vocabulary.id_key)
    fold.apply(LogPosition(fold.log_position), late)


def warm_decoding() -> None:
    """Decode a body of plain events in each of its forms."""
    accept = Accept(frozenset({"view"}), _NOW)
    lines = [_PLAIN] * (PLAIN_BYTES_MIN // len(_PLAIN) + 1)
    decode(b"[" + b",".join(lines) + b"]", accept)
    pick(decode(b"\n".join(lines), accept).batch, [0])


def warm_tables() -> None:
    """Decode a table, and let that of event ids grow: what no first answer needs, a tenth of a start. Any thread."""
    import pyarrow as pa

    from midstream.events.arrow.arrow import decode_arrow

    columns = {"type": "view", "user_id": "u", "item_id": "i", "time": "soon"}
    decode_arrow(pa.RecordBatch.from_pylist([columns]), Accept(frozenset({"view"}), _NOW))
    EventIds(_LIMITS.event_ids_max, FoldSettings().hash_key(), table_begin=1).make_room(_LIMITS.event_ids_max)
