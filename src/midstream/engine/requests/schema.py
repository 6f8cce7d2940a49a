"""Types of requests: each field with its bounds and its meaning, for HTTP bodies and the Python API."""

from typing import Annotated, Final

import msgspec
from msgspec.structs import replace

from midstream.core.durations import parse_duration_ms
from midstream.engine.types import Ask, Value
from midstream.features.expressions.tree import TEXT_CHARACTERS_MAX

PAGE: Final = "/docs/http.md"
ID_CHARS_MAX = 128
"""As events may have it."""
SLATE_MAX = 100
"""Items of a slate, as many as an impression may report at once."""
ITEMS_MAX = 200
"""Items of a basket: four times what the state keeps of a session."""
EXCLUDE_MAX = 1_000
"""Two hundred pages of five that were shown already."""
FIELDS_MAX = 32
CONTEXT_MAX = 64
TOKEN_CHARS_MAX = 128
DEADLINE_MS_MAX = 10_000
"""A page that waits longer has lost its visitor."""
ITEM_FIELDS_MAX = 1_000
"""Items of which a question may say something: as many as features are read of at once."""
FIELDS_OF_ITEM_MAX = 16
RANK_ITEMS_MAX = 1_000
"""Of a caller's own items: as many as the join of outcomes reads of one slate; about 3 ms of work."""
EXPLAIN_ITEMS_MAX = 100
"""Of a caller's own items that are explained with the answer: as many as any other slate has. About 0.1 ms of the loop
each, and 5 ms on a thread for a score of 300 trees."""
PAGE_PLACEMENTS_MAX = 16
"""Slates of one page. Each reads candidates and features of its own, all in one turn, as they see one log position:
about what it would cost alone, less the sources that are asked once for all."""
PAGE_ITEMS_MAX = 200
"""Of all slates of a page together: two slates of the largest size. A slate is read with room for all items of the
slates above, so what they hold is work for each that follows."""
USERS_MAX = 100
"""Users of one call, each a turn of its own: 50 ms of work."""
FEATURE_ITEMS_MAX = 1_000
"""Items whose features are read at once: 256 columns of them take about 2 ms, a turn of the event loop."""
FEATURES_MAX = 64
"""As many as may be declared."""


_TRUTHS = ("true", "false")


class Deadline(int):
    """Milliseconds that an answer may take."""


Text = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_CHARS_MAX)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Token = Annotated[str, msgspec.Meta(max_length=TOKEN_CHARS_MAX)]
Items = Annotated[tuple[Text, ...], msgspec.Meta(max_length=ITEMS_MAX)]
Exclude = Annotated[tuple[Text, ...], msgspec.Meta(max_length=EXCLUDE_MAX)]
Fields = Annotated[tuple[Name, ...], msgspec.Meta(max_length=FIELDS_MAX)]
Condition = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_CHARACTERS_MAX)]
Size = Annotated[int, msgspec.Meta(ge=1, le=SLATE_MAX)]
Context = Annotated[dict[Name, Value], msgspec.Meta(max_length=CONTEXT_MAX)]
ItemFields = Annotated[
    dict[Text, Annotated[dict[Name, float], msgspec.Meta(max_length=FIELDS_OF_ITEM_MAX)]],
    msgspec.Meta(max_length=ITEM_FIELDS_MAX),
]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """Common fields of all requests."""

    context: Context = {}
    item_fields: ItemFields = {}
    exclude: Exclude = ()
    min_log_position: Token | None = None
    deadline: Deadline | None = None
    explain: bool = False
    reasons: Name | None = None

    def asked_of(self, placement: str) -> Ask:
        """Return what is asked of a placement as far as every question says it."""
        return Ask(
            placement,
            context=self.context,
            item_fields=self.item_fields,
            exclude=self.exclude,
            min_log_position=self.min_log_position,
            deadline_ms=self.deadline,
            explain=self.explain,
            reasons=self.reasons,
        )


class SlateQuestion(Question, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """Fields of a request to one placement."""

    placement: Name | None = None
    filter: Condition | None = None
    fields: Fields = ()


class RecommendationQuestion(SlateQuestion, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """A question for one slate."""

    user_id: Text | None = None
    session_id: Text | None = None
    n: Size | None = None
    items: Items = ()
    cursor: Annotated[str, msgspec.Meta(min_length=1, max_length=TOKEN_CHARS_MAX)] | bool = False

    @property
    def continues(self) -> bool:
        """Whether the cursor of an earlier slate came."""
        return isinstance(self.cursor, str) and self.cursor not in _TRUTHS

    def ask(self, placement: str) -> Ask:
        """Return what is asked of a placement; a query string has ``true`` as text."""
        return replace(
            self.asked_of(placement),
            user_id=self.user_id,
            session_id=self.session_id,
            n=self.n,
            items=self.items,
            filter=self.filter,
            fields=self.fields,
            cursor=self.cursor == "true" if self.cursor in _TRUTHS else self.cursor,
        )


class RankQuestion(SlateQuestion, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """A question for the order of the caller's own items."""

    items: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=RANK_ITEMS_MAX)]
    user_id: Text | None = None
    session_id: Text | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=RANK_ITEMS_MAX)] | None = None
    basket: Items = ()

    def ask(self, placement: str) -> Ask:
        """Return what is asked of a placement."""
        return replace(
            self.asked_of(placement),
            user_id=self.user_id,
            session_id=self.session_id,
            n=self.n,
            items=self.basket,
            given=self.items,
            filter=self.filter,
            fields=self.fields,
        )


class Because(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Choice of the item that a row of a page goes by, among the visitor's last acts."""

    actions: Annotated[tuple[Name, ...], msgspec.Meta(max_length=16)] = ()
    """Interactions that count; none = all with a weight above 0, and without an act of the user the session's items."""


class PlacementBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One slate of a page, with its own fields."""

    placement: Name
    n: Size | None = None
    filter: Condition | None = None
    exclude: Exclude = ()
    fields: Fields = ()
    because: Because | None = None
    """The slate is about an item that the visitor has acted on, another one in each row; None = it is about none."""


class PageQuestion(Question, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """Request for slates of several placements by falling priority, with their common fields."""

    placements: Annotated[tuple[PlacementBody, ...], msgspec.Meta(min_length=1, max_length=PAGE_PLACEMENTS_MAX)]
    user_id: Text | None = None
    session_id: Text | None = None
    items: Items = ()

    def asks(self) -> tuple[Ask, ...]:
        """Return the question of each slate: what it has for itself, and all that the page excludes."""
        return tuple(
            replace(
                self.asked_of(each.placement),
                user_id=self.user_id,
                session_id=self.session_id,
                items=self.items,
                n=each.n,
                filter=each.filter,
                exclude=(*self.exclude, *each.exclude),
                fields=each.fields,
                because=None if each.because is None else each.because.actions,
            )
            for each in self.placements
        )


class BatchBody(SlateQuestion, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The same question for many users."""

    users: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=USERS_MAX)]
    n: Size | None = None

    def asks(self, placement: str) -> tuple[Ask, ...]:
        """Return the question of each user."""
        one = replace(self.asked_of(placement), n=self.n, filter=self.filter, fields=self.fields)
        return tuple(replace(one, user_id=each) for each in self.users)

    def questions(self) -> tuple[RecommendationQuestion, ...]:
        """Return the question of each user, with nothing to wait for: they wait for the log position together."""
        one = RecommendationQuestion(
            context=self.context,
            item_fields=self.item_fields,
            exclude=self.exclude,
            deadline=self.deadline,
            explain=self.explain,
            reasons=self.reasons,
            placement=self.placement,
            filter=self.filter,
            fields=self.fields,
            n=self.n,
        )
        return tuple(replace(one, user_id=each) for each in self.users)


class FeatureAsk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Request for feature values of items, for one user and session."""

    user_id: Text | None = None
    session_id: Text | None = None
    items: Annotated[tuple[Text, ...], msgspec.Meta(max_length=FEATURE_ITEMS_MAX)]
    """Items in this order; one may be repeated."""
    item_fields: ItemFields = {}
    context: Context = {}
    features: Annotated[tuple[Name, ...], msgspec.Meta(max_length=FEATURES_MAX)] = ()
    """Names of declared features, all columns of each; none = all of them."""
    min_log_position: Token | None = None
    """Token of an earlier answer: wait until that is applied."""


def read_deadline(kind: type, sent: object) -> Deadline:
    """Decode a deadline such as ``50ms``: the ``dec_hook`` of bodies and query strings.

    Raises:
        ValueError: Not a duration, or not within 1 ms and 10 s; the text says what would be right.
    """
    try:
        found = parse_duration_ms(sent) if kind is Deadline and isinstance(sent, str) else 0
    except ValueError:
        found = 0
    if not 1 <= found <= DEADLINE_MS_MAX:
        message = "A whole number and ms or s, such as 50ms, from 1ms to 10s."
        raise ValueError(message)
    return Deadline(found)


def read_deadline_ms(kind: type, sent: object) -> Deadline:
    """Decode a deadline in milliseconds: the ``dec_hook`` of the Python API.

    Raises:
        ValueError: Not a whole number, or not within 1 and 10,000.
    """
    if kind is not Deadline or isinstance(sent, bool) or not isinstance(sent, int) or not 1 <= sent <= DEADLINE_MS_MAX:
        message = f"A whole number from 1 to {DEADLINE_MS_MAX}."
        raise ValueError(message)
    return Deadline(sent)
