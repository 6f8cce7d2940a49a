"""``POST`` and ``GET /v1/recommendations``: from a typed request to the bytes of a slate.

An answer without work must cost under 50 µs, so msgspec encodes structs that omit unrequested fields, and scores are
cut to the seven digits of a float32.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from math import isfinite
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from midstream.core.answers.events import EventsAnswer
from midstream.core.answers.problems import Problem
from midstream.core.answers.slates import FailedPart, RemovedItem, Slate, SlateItem
from midstream.core.errors import AppendFailed, CommitTooSlow, Fault, NotFound, Overloaded, RequestInvalid
from midstream.engine.answer.compiled_slates import EncodedSlate, Stamp
from midstream.engine.requests.faults import NameUnknown, field_refusal, reading
from midstream.engine.requests.schema import PAGE, RankQuestion, RecommendationQuestion, read_deadline
from midstream.engine.types import Answer, Ask, Value
from midstream.events.faults import shown
from midstream.experiments.names import MARK
from midstream.ranking.plan import SEARCH, SIMILAR, Plan
from midstream.serving.events.ingest import PLAINLY, Ingest, IngestOptions
from midstream.serving.http.parsing import decode_json, query_fields, single
from midstream.serving.http.problems import problem_of
from midstream.serving.http.responses import NO_STORE, Reply, Scope

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


class RecommendationBody(RecommendationQuestion, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """Body of ``POST /v1/recommendations``."""

    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class RankBody(RankQuestion, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """Body of ``POST /v1/rank``."""

    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


BODY_FIELDS = RecommendationBody.__struct_fields__
QUERY_FIELDS = tuple(name for name in BODY_FIELDS if name not in {"events", "context", "item_fields"})
SIMILAR_FIELDS = tuple(name for name in QUERY_FIELDS if name not in {"placement", "items", "cursor"})
SEARCH_FIELDS = ("q", *SIMILAR_FIELDS)
_LISTS = frozenset({"items", "exclude", "fields"})
_CONTEXT = "context."
# Twenty digits are enough for any number a person types, and keep the float finite.
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?")
_decoder = msgspec.json.Decoder(RecommendationBody, dec_hook=read_deadline)
_encode = msgspec.json.Encoder().encode


Record = Callable[[bytes], Awaitable[EventsAnswer | Problem]]
"""Records the events that come with a question; a problem when they cannot be kept now."""


class Recommendations:
    """Answers questions; holds the engine and the way in for the events that come with them."""

    def __init__(self, engine: "Engine", record: Record) -> None:
        """Answer with ``engine``; record with ``record``."""
        self._engine = engine
        self._record = record
        self._unnamed = OnlyPlacement(engine)

    async def from_body(self, body: bytes) -> Reply:
        """Answer ``POST``.

        Raises:
            RequestInvalid: The body or something it names cannot be used.
            Overloaded: Too many requests wait for a log position.
        """
        return await self._answer(decode_json(_decoder, body))

    async def from_query(self, scope: Scope) -> Reply:
        """Answer ``GET``: the fields of the body as query fields, lists repeated, context as ``context.name``."""
        return await self._answer(question_of(query_fields(scope, QUERY_FIELDS, _CONTEXT)))

    async def similar(self, scope: Scope, item_id: str) -> Reply:
        """Answer ``GET /v1/items/{item_id}/similar``: as a question in a query string that is about one item.

        Raises:
            ItemUnknown: Nothing is known of the item.
            RequestInvalid: A query field, the filter or the context cannot be used.
            Overloaded: Too many requests wait for a log position.
        """
        question = question_of(query_fields(scope, SIMILAR_FIELDS, _CONTEXT))
        ask = replace(question.ask(SIMILAR), about=item_id)
        answer = await self._engine.recommend(ask)
        return Reply(200, _encode(slate_of(answer, None)), headers=NO_STORE)

    async def search(self, scope: Scope) -> Reply:
        """Answer ``GET /v1/items/search``: as a question in a query string that has a text.

        Raises:
            NotFound: No attribute is searched.
            RequestInvalid: There is no text, or a query field, the filter or the context cannot be used.
            Overloaded: Too many requests wait for a log position.
        """
        fields = query_fields(scope, SEARCH_FIELDS, _CONTEXT)
        text = single(fields, "q")
        fields.pop("q", None)
        if not text or not text.strip():
            came = "It is missing." if text is None else f"{shown(text)} came."
            raise RequestInvalid((Fault("q", came, "Words to search for.", PAGE),))
        if SEARCH not in self._engine.plans:
            message = (
                'No attribute is searched here: [items] search = ["title"] names those that are (docs/sources.md).'
            )
            raise NotFound(message)
        ask = question_of(fields).ask(SEARCH)
        answer = await self._engine.recommend(replace(ask, context={**ask.context, "q": text}))
        return Reply(200, _encode(slate_of(answer, None)), headers=NO_STORE)

    async def _answer(self, question: RecommendationBody) -> Reply:
        placement = question.placement or ("" if question.continues else self._unnamed.name())
        return await answered(self._engine, self._record, question, placement)


def encoded_reply(slate: EncodedSlate, events: EventsAnswer | None = None) -> bytes:
    """Return the bytes of a ``Slate`` with encoded items, and of the fields that may be left out only these."""
    told = b""
    if slate.read_your_writes is not None:
        told = b',"read_your_writes":true' if slate.read_your_writes else b',"read_your_writes":false'
    if events is not None:
        told += b',"events":' + _encode(events)
    if slate.models:
        told += b',"models":' + _encode(slate.models)
    if slate.removed:
        told += b',"removed":' + _encode([RemovedItem(each.id, each.filter) for each in slate.removed])
    if slate.not_selected:
        told += b',"not_selected":%d' % slate.not_selected
    if slate.arm.experiment:
        told += b',"experiment":%b,"variant":%b' % (_encode(slate.arm.experiment), _encode(slate.arm.variant))
    return b"".join(
        (
            b'{"request_id":"%b","placement":%b,"items":[' % (slate.request_id.encode(), _encode(slate.placement)),
            slate.items,
            b'],"tier":"full","applied_log_position":"%b","state_age_ms":%d,"config_hash":%b%b}'
            % (slate.log_position.encode(), slate.state_age_ms, _encode(slate.config_hash), told),
        )
    )


async def _reply_of(
    engine: "Engine", ask: Ask, events: EventsAnswer | Problem | None, stamp: Stamp | None = None
) -> Reply:
    """Answer by the pipeline, with the stamp of an answer that was begun, if any.

    Raises:
        NameUnknown: The placement is not configured.
        RequestInvalid: Something that the question names cannot be used.
        Overloaded: Too many requests wait for a log position.
    """
    try:
        answer = await engine.recommend(ask, stamp)
    except NotFound as error:
        raise placement_unknown(engine, ask.placement) from error
    return Reply(200, _encode(slate_of(answer, events)), headers=NO_STORE)


async def answered(engine: "Engine", record: Record, question: RecommendationBody | RankBody, placement: str) -> Reply:
    """Record the events that came with a question, then answer it, by the kernels of compiled plans where they can.

    Raises:
        NameUnknown: The placement is not configured.
        RequestInvalid: The events, or something that the question names, cannot be used.
        Overloaded: Too many requests wait for a log position.
    """
    told: EventsAnswer | None = None
    if question.events is not msgspec.UNSET:
        ask, outcome = await _after_events(engine, record, question.ask(placement), question.events)
        if not isinstance(outcome, EventsAnswer):
            return await _reply_of(engine, ask, outcome)
        told, question = outcome, replace(question, min_log_position=ask.min_log_position)
    found = engine.encoded_slate(question, placement)
    if isinstance(found, EncodedSlate):
        return Reply(200, encoded_reply(found, told), headers=NO_STORE)
    return await _reply_of(engine, question.ask(placement), told, found)


async def _after_events(
    engine: "Engine", record: Record, ask: Ask, events: msgspec.Raw | msgspec.UnsetType
) -> tuple[Ask, EventsAnswer | Problem | None]:
    """Record the events that came with a question; return what is to be answered then, and their outcomes."""
    try:
        min_log_position, told = await recorded(record, events, lambda: engine.check(ask))
    except NotFound as error:
        raise placement_unknown(engine, ask.placement) from error
    return (ask if min_log_position is None else replace(ask, min_log_position=min_log_position)), told


async def recorded(
    record: Record, events: msgspec.Raw | msgspec.UnsetType, check: Callable[[], None]
) -> tuple[str | None, EventsAnswer | Problem | None]:
    """Record the events of a request, if it has any.

    Args:
        record: Records them.
        events: The events.
        check: Refuses the request: a refused one must not leave its events behind.

    Returns:
        The log position after them, which is later than any that the caller could name, None = there is nothing to wait
        for; and their outcomes.
    """
    if events is msgspec.UNSET:
        return None, None
    check()
    told = await record(bytes(events))
    return (told.log_position if isinstance(told, EventsAnswer) else None), told


def only_placement(engine: "Engine") -> str:
    """Return ``default``, or the one placement there is beside ``similar``."""
    plans = engine.plans.keys() - {SIMILAR} or engine.plans.keys()
    if len(plans) > 1:
        plans = {name for name in plans if MARK not in name}
    return next(iter(plans)) if len(plans) == 1 and "*" not in plans else "default"


class OnlyPlacement:
    """``only_placement`` of an engine, found once for all questions between two swaps of its plans."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._plans: Mapping[str, Plan] | None = None
        self._name = ""

    def name(self) -> str:
        """Return the name."""
        if (plans := self._engine.plans) is not self._plans:
            self._name, self._plans = only_placement(self._engine), plans
        return self._name


def placement_unknown(engine: "Engine", name: str, where: str = "/placement") -> NameUnknown:
    """Return the refusal of a placement that is not configured."""
    return NameUnknown(where, "placement", name, [each for each in engine.plans if MARK not in each])


def recording(ingest: Ingest, how: IngestOptions = PLAINLY) -> Record:
    """Return a function that records in this process; a request is answered even if its events are not recorded."""

    async def record(events: bytes) -> EventsAnswer | Problem:
        try:
            return await ingest.take(events, how)
        except (AppendFailed, CommitTooSlow, Overloaded) as error:
            return problem_of(error)

    return record


def question_of(query: dict[str, list[str]]) -> RecommendationBody:
    """Return the request of a query string.

    Raises:
        RequestInvalid: A field has the wrong type or range, or is repeated and is no list.
    """
    values: dict[str, object] = {}
    context: dict[str, Value] = {}
    for name, each in query.items():
        if name.startswith(_CONTEXT):
            context[name.removeprefix(_CONTEXT)] = context_value(single(query, name) or "")
        else:
            values[name] = each if name in _LISTS else single(query, name)
    if context:
        values["context"] = context
    try:
        return msgspec.convert(values, RecommendationBody, strict=False, dec_hook=read_deadline)
    except msgspec.ValidationError as error:
        raise field_refusal(error, values, RecommendationBody, reading(read_deadline, strict=False)) from error


def context_value(text: str) -> Value:
    """Return the value of a context field in a query string: ``true`` and ``false``, a finite number, else text.

    Example:
        >>> context_value("20"), context_value("true"), context_value("nan")
        (20.0, True, 'nan')
    """
    if text in {"true", "false"}:
        return text == "true"
    return float(text) if _NUMBER.fullmatch(text) else text


def slate_of(answer: Answer, events: EventsAnswer | Problem | None) -> Slate:
    """Return the wire form of an answer."""
    read_your_writes = answer.read_your_writes
    if isinstance(events, Problem) and read_your_writes is None:
        read_your_writes = False
    return Slate(
        request_id=answer.request_id,
        placement=answer.placement,
        items=[
            SlateItem(
                each.id,
                # A float32 holds seven digits; as a double it would be written with seventeen. 0.2 µs an item.
                float(f"{each.score:.7g}") if isfinite(each.score) else None,
                each.position,
                each.fields,
                each.reason,
            )
            for each in answer.items
        ],
        tier=answer.tier,
        applied_log_position=answer.applied_log_position,
        state_age_ms=answer.state_age_ms,
        config_hash=answer.config_hash,
        read_your_writes=read_your_writes,
        failures=tuple(FailedPart(each.component, each.reason) for each in answer.failures),
        events=events if isinstance(events, EventsAnswer) else None,
        events_problem=events if isinstance(events, Problem) else None,
        models=answer.models,
        removed=tuple(RemovedItem(each.id, each.filter) for each in answer.removed),
        not_selected=answer.not_selected,
        explanation=answer.explanation,
        cursor=answer.cursor,
        unexplained=answer.unexplained,
        experiment=answer.experiment,
        variant=answer.variant,
        because=answer.because,
    )
