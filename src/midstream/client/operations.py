"""Operations of a shop's program on a server, each defined once for clients that block and clients on an event loop.

Names are those of the Python API (``midstream.open``); fields, limits and errors are those of docs/http.md. Each
operation raises ``ServerUnreachable`` when no answer came, ``RequestRefused`` with the four parts of a problem
document, and ``AnswerUnreadable`` for any other answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar, Unpack

import msgspec

from midstream.client.bound_operations import Page, listing, operation
from midstream.client.client_errors import AnswerPending, ClientError, EventsRejected
from midstream.client.exchange import ClientSession, Exchange, HttpRequest, Pause, answer_to, decoded, reply_to
from midstream.client.fields import (
    ChangeFields,
    EventListFields,
    Events,
    FeatureFields,
    ItemSlateFields,
    ListFields,
    PageFields,
    PastFields,
    PlacementFields,
    PreviewFields,
    RankFields,
    RankingFields,
    RecommendationFields,
    RequestListFields,
)
from midstream.client.frames import FrameParts, sum_of
from midstream.client.letter_operations import LetterOperations
from midstream.client.questions import asked, asked_by_query, changed, recorded, streamed, valued
from midstream.client.requests import path_of, posted, sent, target
from midstream.core.answers import slates
from midstream.core.answers.events import BulkAnswer, EventsAnswer, RetractionAnswer
from midstream.core.answers.explanations import Explained
from midstream.core.answers.features import FeatureReadAnswer, PastFeaturesAnswer
from midstream.core.answers.lists import (
    EventPage,
    ItemPage,
    ListedItem,
    ListedRequest,
    ListedUser,
    RequestPage,
    UserPage,
    UserRanking,
    ValueRanking,
)
from midstream.core.answers.placements import PlacementDetail, PlacementList
from midstream.core.answers.users import ErasureView

T = TypeVar("T")
JsonObject: TypeAlias = dict[str, Any]
"""A document without a fixed set of fields, such as attributes by name."""
JOB_WAIT_S = 10
"""Of one request for what a process beside the server makes: it waits 30 s at most, and proxies often a minute."""


class Operations(LetterOperations):
    """Everything that a client does, in terms of exchanges."""

    session: ClientSession

    @property
    def position(self) -> str | None:
        """Log position of this client's newest change, for another client; None = it made none."""
        return self.session.positions.newest

    @position.setter
    def position(self, position: str | None) -> None:
        """Let every later question of this client wait for a position, as of another client's change."""
        if position is not None:
            self.session.positions.note(position, ())

    @operation
    def record(self, events: Events, *, results: bool = False, dry_run: bool = False) -> Exchange[EventsAnswer]:
        """Record events; they are durable and applied when this returns.

        Each event without an ``event_id`` gets one before the first attempt, so a repeated attempt counts once.

        Args:
            events: One event or up to 500 (docs/events.md).
            results: Return the outcome of every event, not only of those that were not recorded.
            dry_run: Judge the events and record nothing.

        Raises:
            EventsRejected: None of the events was taken.
        """
        return recorded(self.session, events, sent({"results": "all" if results else None, "dry_run": dry_run or None}))

    @operation
    def record_frame(
        self, frame: object, *, dry_run: bool = False, event_id_prefix: str | None = None
    ) -> Exchange[BulkAnswer]:
        """Record a table of events of any length as Arrow streams, in their order.

        Rows without an ``event_id`` get one, so a repeated attempt counts once. A second call counts them again, unless
        both have the same prefix.

        Args:
            frame: A frame of pandas or Polars, a table or reader of pyarrow, or another object with
                ``__arrow_c_stream__`` or ``to_arrow``. Columns are those of docs/events.md.
            dry_run: Judge the events and record nothing.
            event_id_prefix: Of the ids that are made, ``PREFIX-ROW`` with rows from 0; a random one when None. The same
                table sent again with the same prefix counts once; give each table another one.

        Returns:
            Counts over the whole table; places of rejections are those of its rows.

        Raises:
            EventsRejected: None of the events was taken.
            ClientError: A stream failed; ``partial`` has the counts up to there.

        Cost: a copy of 50,000 rows at a time.
        """
        parts = FrameParts(frame, event_id_prefix or self.session.edge.new_id())
        return _recorded_frame(self.session, parts, dry_run=dry_run)

    @operation
    def recommend(
        self, placement: str | None = None, **question: Unpack[RecommendationFields]
    ) -> Exchange[slates.Slate]:
        """Return a slate, best first.

        Args:
            placement: Surface and slot; the only one, or ``default``, when None.
            question: Fields of ``POST /v1/recommendations``.
        """
        return asked(self.session, "/v1/recommendations", {"placement": placement, **question}, slates.Slate)

    @operation
    def rank(
        self, items: Sequence[str], placement: str | None = None, **question: Unpack[RankFields]
    ) -> Exchange[slates.Slate]:
        """Return up to 1,000 items of the caller in the order of a placement."""
        return asked(self.session, "/v1/rank", {"items": items, "placement": placement, **question}, slates.Slate)

    @operation
    def page(
        self, placements: Sequence[str | Mapping[str, object]], **question: Unpack[PageFields]
    ) -> Exchange[slates.Page]:
        """Return the slates of several placements, by falling priority, with no item in two of them."""
        rows = [{"placement": each} if isinstance(each, str) else each for each in placements]
        return asked(self.session, "/v1/pages", {"placements": rows, **question}, slates.Page)

    @operation
    def recommend_many(
        self, user_ids: Sequence[str], placement: str | None = None, **question: Unpack[PlacementFields]
    ) -> Exchange[slates.Batch]:
        """Return a slate for each of up to 100 users."""
        fields = {"users": user_ids, "placement": placement, **question}
        return asked(self.session, "/v1/recommendations/batch", fields, slates.Batch)

    @operation
    def similar(self, item_id: str, **question: Unpack[ItemSlateFields]) -> Exchange[slates.Slate]:
        """Return items like one item, best first."""
        return asked_by_query(self.session, ("v1", "items", item_id, "similar"), question)

    @operation
    def search(self, text: str, **question: Unpack[ItemSlateFields]) -> Exchange[slates.Slate]:
        """Return items that have the words of a text, best first."""
        return asked_by_query(self.session, ("v1", "items", "search"), {"q": text, **question})

    @operation
    def users_for_item(
        self, item_id: str, *, acted: bool = False, **ranking: Unpack[RankingFields]
    ) -> Exchange[UserRanking]:
        """Return the users who are likely to act on an item, or with ``acted`` those who have."""
        path = target("v1", "items", item_id, "users", query={"acted": acted or None, **ranking})
        return answer_to(self.session, HttpRequest("GET", path), UserRanking)

    @operation
    def similar_users(self, user_id: str, **ranking: Unpack[RankingFields]) -> Exchange[UserRanking]:
        """Return the users who have acted on the same items."""
        path = target("v1", "users", user_id, "similar", query=ranking)
        return answer_to(self.session, HttpRequest("GET", path), UserRanking)

    @operation
    def values(
        self, user_id: str, attribute: str, *, new: bool = False, **ranking: Unpack[RankingFields]
    ) -> Exchange[ValueRanking]:
        """Return categories, brands or other values for a user; with ``new`` those that the user's acts have not."""
        query = {"attribute": attribute, "new": new or None, **ranking}
        path = target("v1", "users", user_id, "values", query=query)
        return answer_to(self.session, HttpRequest("GET", path), ValueRanking)

    @operation
    def features(self, items: Sequence[str], **question: Unpack[FeatureFields]) -> Exchange[FeatureReadAnswer]:
        """Return the values of features of up to 1,000 items, for a user and a session."""
        return asked(self.session, "/v1/features/read", {"items": items, **question}, FeatureReadAnswer)

    @operation
    def features_as_of(
        self, time: int | str, items: Sequence[str], **question: Unpack[PastFields]
    ) -> Exchange[PastFeaturesAnswer]:
        """Return the values that features of up to 20 items had at a past moment, from the log.

        Args:
            time: Milliseconds since 1970, or ISO 8601 with a zone.
            items: Ids.
            question: A user, a session, and names of features.

        Raises:
            AnswerPending: They are still being read after the deadline of the call.
        """
        wanted = {"user_id": question.get("user_id"), "session_id": question.get("session_id")}
        query = {"time": time, "item": list(items), "feature": list(question.get("features", ())), **wanted}
        return _made(self.session, ("v1", "features", "as-of"), query, PastFeaturesAnswer)

    @operation
    def set_feature_values(self, name: str, values: Sequence[Mapping[str, object]]) -> Exchange[EventsAnswer]:
        """Set up to 500 values of a feature that is an attribute or a field of profiles: ``id``, ``value``, ``time``.

        Each value without an ``event_id`` gets one, so a repeated attempt counts once.
        """
        return valued(self.session, name, values)

    @operation
    def item(self, item_id: str) -> Exchange[JsonObject]:
        """Return the attributes of an item, whether it can be served, and its acts by window."""
        return answer_to(self.session, HttpRequest("GET", path_of("items", item_id)), JsonObject)

    @operation
    def put_item(
        self, item_id: str, attributes: Mapping[str, object], **change: Unpack[ChangeFields]
    ) -> Exchange[EventsAnswer]:
        """Set all attributes of an item; those that are not named are gone."""
        return changed(self.session, "PUT", ("items", item_id), attributes, change)

    @operation
    def patch_item(
        self, item_id: str, attributes: Mapping[str, object], **change: Unpack[ChangeFields]
    ) -> Exchange[EventsAnswer]:
        """Set the named attributes of an item; None takes one away."""
        return changed(self.session, "PATCH", ("items", item_id), attributes, change)

    @operation
    def delete_item(self, item_id: str, **change: Unpack[ChangeFields]) -> Exchange[EventsAnswer]:
        """Remove an item from all answers."""
        return changed(self.session, "DELETE", ("items", item_id), None, change)

    @operation
    def change_items(self, changes: Events) -> Exchange[EventsAnswer]:
        """Change up to 500 items: ``item_id``, ``attributes``, and ``operation`` (``put``, ``patch`` or ``delete``)."""
        return recorded(self.session, changes, {}, "items")

    @operation
    def put_items(self, changes: Sequence[Mapping[str, object]]) -> Exchange[BulkAnswer]:
        """Set all attributes of any number of items in one stream: ``item_id`` and ``attributes`` of each."""
        return streamed(self.session, "PUT", "items", changes)

    @operation
    def patch_items(self, changes: Sequence[Mapping[str, object]]) -> Exchange[BulkAnswer]:
        """Set the named attributes of any number of items in one stream."""
        return streamed(self.session, "PATCH", "items", changes)

    @operation
    def user(self, user_id: str) -> Exchange[JsonObject]:
        """Return the profile, counts, last acts and affinities of a user."""
        return answer_to(self.session, HttpRequest("GET", path_of("users", user_id)), JsonObject)

    @operation
    def put_user(
        self, user_id: str, attributes: Mapping[str, object], **change: Unpack[ChangeFields]
    ) -> Exchange[EventsAnswer]:
        """Set all attributes of a user; those that are not named are gone."""
        return changed(self.session, "PUT", ("users", user_id), attributes, change)

    @operation
    def patch_user(
        self, user_id: str, attributes: Mapping[str, object], **change: Unpack[ChangeFields]
    ) -> Exchange[EventsAnswer]:
        """Set the named attributes of a user; None takes one away."""
        return changed(self.session, "PATCH", ("users", user_id), attributes, change)

    @operation
    def change_users(self, changes: Events) -> Exchange[EventsAnswer]:
        """Change up to 500 users: ``user_id``, ``attributes``, and ``operation``."""
        return recorded(self.session, changes, {}, "users")

    @operation
    def put_users(self, changes: Sequence[Mapping[str, object]]) -> Exchange[BulkAnswer]:
        """Set all attributes of any number of users in one stream: ``user_id`` and ``attributes`` of each."""
        return streamed(self.session, "PUT", "users", changes)

    @operation
    def patch_users(self, changes: Sequence[Mapping[str, object]]) -> Exchange[BulkAnswer]:
        """Set the named attributes of any number of users in one stream."""
        return streamed(self.session, "PATCH", "users", changes)

    @operation
    def merge(self, user_id: str, merged_id: str, **change: Unpack[ChangeFields]) -> Exchange[EventsAnswer]:
        """Make another user this one, as when an anonymous visitor signs in."""
        return changed(self.session, "POST", ("users", user_id, "merge"), {"user_id": merged_id}, change)

    @operation
    def erase(self, user_id: str) -> Exchange[ErasureView]:
        """Erase the personal data of a user; a repeated attempt erases nothing more."""
        return _erased(self.session, user_id)

    @operation
    def retract(self, event_id: str, *, user_id: str | None = None) -> Exchange[RetractionAnswer]:
        """Take the act with an event id back, as after a mis-click; a repeated attempt takes nothing else back.

        Args:
            event_id: As it was sent; of an event with several items all of them.
            user_id: User whose act it has to be; None = anybody's.
        """
        return _retracted(self.session, path_of("events", event_id, query={"user_id": user_id}), user_id)

    @operation
    def retract_newest(
        self, user_id: str, event_type: str, item_id: str, *, time: int | str | None = None
    ) -> Exchange[RetractionAnswer]:
        """Take the newest act of one type that a user did with an item back; a repeated attempt takes no other one.

        Args:
            user_id: Whose act it is.
            event_type: An interaction, or ``impression``.
            item_id: Its item.
            time: Event time of the act, as answers have it; None = the newest.
        """
        query = {"type": event_type, "item_id": item_id, "time": time}
        return _retracted(self.session, path_of("users", user_id, "events", query=query), user_id)

    @operation
    def served(self, request_id: str) -> Exchange[JsonObject]:
        """Return the served record of a slate."""
        return answer_to(self.session, HttpRequest("GET", path_of("requests", request_id)), JsonObject)

    @operation
    def explanation(self, request_id: str, items: Sequence[str] = ()) -> Exchange[Explained]:
        """Return why a slate is as it is, and why further items are where they are.

        Raises:
            AnswerPending: It is still being made after the deadline of the call.
        """
        return _made(self.session, ("v1", "requests", request_id, "explanation"), {"item": list(items)}, Explained)

    @operation
    def placements(self) -> Exchange[PlacementList]:
        """Return the components of each placement."""
        return answer_to(self.session, HttpRequest("GET", "/v1/placements"), PlacementList)

    @operation
    def placement(self, name: str) -> Exchange[PlacementDetail]:
        """Return one placement: what is in force, and its versions."""
        return answer_to(self.session, HttpRequest("GET", path_of("placements", name)), PlacementDetail)

    @operation
    def set_placement(
        self, name: str, placement: Mapping[str, object], *, author: str, note: str = "", if_version: int | None = None
    ) -> Exchange[PlacementDetail]:
        """Set a placement. It is attempted again only where the first attempt surely had no effect.

        Raises:
            StateConflict: The placement has a newer version than ``if_version``.
        """
        body = sent({"placement": placement, "author": author, "note": note, "if_version": if_version})
        request = HttpRequest("PUT", path_of("placements", name), msgspec.json.encode(body), repeat="without_effect")
        return answer_to(self.session, request, PlacementDetail)

    @operation
    def remove_placement(
        self, name: str, *, author: str, note: str = "", if_version: int | None = None
    ) -> Exchange[PlacementDetail]:
        """Give a placement back to the configuration file. It is attempted again only as ``set_placement`` is.

        Raises:
            StateConflict: The placement has a newer version than ``if_version``.
        """
        query = {"author": author, "note": note or None, "if_version": if_version}
        request = HttpRequest("DELETE", path_of("placements", name, query=query), repeat="without_effect")
        return answer_to(self.session, request, PlacementDetail)

    @operation
    def preview_placement(
        self, name: str, placement: Mapping[str, object], **question: Unpack[PreviewFields]
    ) -> Exchange[slates.PreviewSlates]:
        """Return the slate of a draft beside the one of today; nothing is recorded."""
        request = posted(
            target("v1", "placements", name, "preview"), {"placement": placement, "question": sent(question)}
        )
        return answer_to(self.session, request, slates.PreviewSlates)

    @operation
    def ready(self) -> Exchange[JsonObject]:
        """Return the health of the server, also where it is not ready: ``ready``, ``accepts_events``, ``reason``."""
        return _ready(self.session)

    @listing
    def items(self, cursor: str | None, **wanted: Unpack[ListFields]) -> Exchange[Page[ListedItem]]:
        """Yield the items that pass a filter, in the order in which they became known."""
        page = yield from answer_to(self.session, _listed(("v1", "items"), wanted, cursor), ItemPage)
        return page.items, page.next_cursor

    @listing
    def users(self, cursor: str | None, **wanted: Unpack[ListFields]) -> Exchange[Page[ListedUser]]:
        """Yield the users who pass a filter, the one seen last first."""
        page = yield from answer_to(self.session, _listed(("v1", "users"), wanted, cursor), UserPage)
        return page.users, page.next_cursor

    @listing
    def events(self, cursor: str | None, user_id: str, **wanted: Unpack[EventListFields]) -> Exchange[Page[JsonObject]]:
        """Yield the events of a user, the newest first."""
        page = yield from answer_to(
            self.session, _listed(("v1", "users", user_id, "events"), wanted, cursor), EventPage
        )
        return page.events, page.next_cursor

    @listing
    def requests(self, cursor: str | None, **wanted: Unpack[RequestListFields]) -> Exchange[Page[ListedRequest]]:
        """Yield served slates, the newest first."""
        page = yield from answer_to(self.session, _listed(("v1", "requests"), wanted, cursor), RequestPage)
        return page.requests, page.next_cursor


def _listed(steps: Sequence[str], wanted: Mapping[str, object], cursor: str | None) -> HttpRequest:
    return HttpRequest("GET", target(*steps, query={**wanted, "cursor": cursor}))


def _recorded_frame(session: ClientSession, parts: FrameParts, *, dry_run: bool) -> Exchange[BulkAnswer]:
    path = target("v1", "events", "bulk", query={"dry_run": dry_run or None})
    answers: list[tuple[int, BulkAnswer]] = []
    refusals: list[EventsRejected] = []
    for first, body in parts:
        failure: ClientError | None = None
        answer: EventsAnswer | BulkAnswer | None
        try:
            answer = yield from answer_to(session, HttpRequest("POST", path, body, parts.content_type), BulkAnswer)
        except EventsRejected as error:
            answer = error.answer
            refusals.append(error)
        except ClientError as error:
            answer = error.partial
            failure = error
        if isinstance(answer, BulkAnswer):
            answers.append((first, answer))
            if answer.log_position is not None:
                session.positions.note(answer.log_position, ())
        if failure is not None:
            failure.partial = sum_of(answers)
            raise failure
    total = sum_of(answers)
    if refusals and total.nothing_taken:
        raise EventsRejected(refusals[0].problem, session.url, total)
    return total


def _erased(session: ClientSession, user_id: str) -> Exchange[ErasureView]:
    answer = yield from answer_to(session, HttpRequest("DELETE", path_of("users", user_id)), ErasureView)
    session.positions.note(answer.log_position, [("user_id", user_id)])
    return answer


def _retracted(session: ClientSession, path: str, user_id: str | None) -> Exchange[RetractionAnswer]:
    answer = yield from answer_to(session, HttpRequest("DELETE", path), RetractionAnswer)
    session.positions.note(answer.log_position, [] if user_id is None else [("user_id", user_id)])
    return answer


def _made(session: ClientSession, steps: Sequence[str], wanted: Mapping[str, object], kind: type[T]) -> Exchange[T]:
    """Ask for what a process beside the server makes, again and again until it is there."""
    path = target(*steps, query={**wanted, "wait": f"{JOB_WAIT_S}s"})
    end = session.edge.monotonic() + max(session.options.deadline_s, JOB_WAIT_S)
    bound_s = session.options.pause_s
    while True:
        reply = yield from reply_to(session, HttpRequest("GET", path, wait_s=JOB_WAIT_S))
        if reply.status != HTTPStatus.ACCEPTED:
            return decoded(session, reply, kind)
        pause_s = max(session.edge.uniform() * bound_s, reply.retry_after_s)
        if session.edge.monotonic() + pause_s >= end:
            message = f"{'/'.join(steps)} is still being made; the same call later returns it."
            raise AnswerPending(message)
        yield Pause(pause_s)
        bound_s = min(2 * bound_s, session.options.pause_s_max)


def _ready(session: ClientSession) -> Exchange[JsonObject]:
    reply = yield from reply_to(session, HttpRequest("GET", "/health/ready", repeat="never"))
    if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
        reply = replace(reply, status=HTTPStatus.OK)
    return decoded(session, reply, JsonObject)
