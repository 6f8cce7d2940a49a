"""Every setting that changes the fold. Its hash is the fold version: equal version, log and position, equal state."""

from hashlib import sha256
from typing import Annotated, Final, Literal

import msgspec

from midstream.core.durations import Duration
from midstream.events.wire import AttributeKind
from midstream.state.expressions.program import Cell
from midstream.state.structures.hashing import NO_KEY, IdKey, id_key_of

KERNEL_VERSION = 22
"""A change of what any table holds after the same events raises this number."""

INDEX_ITEMS_MAX: Final = 255
"""Of a session in the session index: they are counted in a byte."""
PAIR_NEIGHBOURS_MAX: Final = 255
"""Of an item: they are counted in a byte."""
PAIR_ITEMS_MAX: Final = 50
"""Of a session: as long as the table of weights by distance."""
SEGMENT_VALUES_MAX: Final = 32_766
"""Two bytes beside each user hold 1 + the code."""
WEIGHT_MAX = 1_000_000
"""Of an interaction or a source: sums of it stay finite as float32, and the last scorer cannot fail."""
Size = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
"""A maximum: indices are 32 bits wide."""
UnknownItems = Literal["accept", "hold", "reject"]


class EventType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weight of one interaction."""

    weight: Annotated[float, msgspec.Meta(ge=-WEIGHT_MAX, le=WEIGHT_MAX)] = 1.0
    """Added to trending and popular; below 0 an act against the item, which opens no session and no list."""


class StateLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The maxima from which memory follows. ``midstream size`` prints the bytes of each."""

    users_max: Size = 1_000_000
    """Users with a row; then the one seen longest ago starts cold."""
    items_max: Size = 200_000
    """Items, those known only from interactions included."""
    click_items_max: Size = 20_000
    """Items known only from interactions, 10 % of all, so that made-up ids cannot fill the catalogue."""
    sessions_max: Size = 200_000
    """Open sessions."""
    session_items_max: Size = 50
    """Items kept of an open session, the newest ones."""
    index_sessions_max: Size = 1_000_000
    """Newest sessions that session_knn looks for neighbours in."""
    index_items_max: Annotated[int, msgspec.Meta(ge=1, le=INDEX_ITEMS_MAX)] = 20
    """Distinct items of a session that session_knn sees, the first ones; 255 at most."""
    index_entries_max: Size = 500
    """Newest sessions kept for each item: the largest m of session_knn."""
    user_ring_max: Size = 50
    """Last interactions kept of each user, and items with counted impressions."""
    event_ids_max: Size = 10_000_000
    """Event ids remembered to recognize duplicates, for 24 h of log time at most."""
    requests_max: Size = 200_000
    """Newest answers that can be looked up by request id."""
    outcome_slates_max: Size = 200_000
    """Newest slates to which what follows is joined, and of which it is known to whom: 72 bytes each.
    A day at 2 requests a second are 172,800."""
    outcome_items_max: Size = 4_000_000
    """Positions of these slates: 20 each, 32 bytes a position."""
    outcomes_waiting_max: Size = 10_000
    """Impressions and interactions that came before the slate they name."""
    hot_items_max: Size = 1_000
    """Length of each list of the hottest items: the largest limit of popular and trending."""
    new_items_max: Size = 1_000
    """Newest items of the catalogue, which recent_items knows."""
    pair_neighbours_max: Annotated[int, msgspec.Meta(ge=1, le=PAIR_NEIGHBOURS_MAX)] = 32
    """Items kept beside each item that were acted on in the same sessions, 384 bytes an item; 255 at most."""
    pair_items_max: Annotated[int, msgspec.Meta(ge=1, le=PAIR_ITEMS_MAX)] = 10
    """Last distinct items of a session that a new act makes pairs with; it decides the cost of an event; 50 at most."""
    segment_values_max: Annotated[int, msgspec.Meta(ge=1, le=SEGMENT_VALUES_MAX)] = 32
    """Values of the attribute that makes segments, 8 bytes an item each; later ones are unknown."""
    attribute_values_max: Size = 65_536
    """Distinct values of each category or tags attribute; later ones are unknown."""
    item_tags_max: Size = 16
    """Tags kept of one item."""
    document_bytes_max: Size = 134_217_728
    """Bytes of the attributes of all items as text, and again of all users: 128 MiB are 200,000 items x 670 bytes."""
    feature_user_items_max: Size = 1_000_000
    """Pairs of a user and an item that features count; then the one that was counted longest ago goes."""
    feature_user_values_max: Size = 1_000_000
    """The same of a user and a value, for each attribute that features count by."""
    aliases_max: Size = 200_000
    """User ids that were merged into others, 7 MB; then the first made is a user of its own again."""
    erased_max: Size = 10_000
    """Erased user ids that may wait for the log to be rewritten, half of them unknown ones."""


class OnlineModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model that goes on learning in the state."""

    name: str
    clicks: tuple[str, ...]
    """Interactions that make a position a click, by name."""
    wait: Duration = Duration("0s")
    """Log time after a slate at which a position that was seen counts as not clicked, until it is."""
    slates_max: Size = 50_000
    """Newest slates whose outcomes are learned, 32 bytes each."""
    items_max: Size = 500_000
    """Positions of these slates, 24 bytes each and one for each input."""


class FoldSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings that decide the state after the same events."""

    types: dict[str, EventType] = msgspec.field(
        default_factory=lambda: {
            "view": EventType(),
            "click": EventType(),
            "cart": EventType(weight=3.0),
            "purchase": EventType(weight=8.0),
            "dismiss": EventType(weight=-2.0),
        }
    )
    attributes: dict[str, AttributeKind] = {}
    """Item attributes that filters and features may read."""
    search: tuple[str, ...] = ()
    """Item attributes whose words can be searched, distinct."""
    unknown_items: UnknownItems = "accept"
    """What an interaction with an id that is not in the catalogue does: makes an item, is kept unserved, is refused."""
    session_gap: Duration = Duration("30m")
    """Silence, in log time, after which a session is over."""
    half_lives: tuple[Duration, ...] = (Duration("6h"), Duration("7d"))
    """Half-lives for which a list of the hottest items is kept."""
    pair_half_life: Duration = Duration("30d")
    """Of what one session says about two items."""
    outcome_window: Duration = Duration("7d")
    """Log time for which what follows a slate is joined to it."""
    cells: tuple[Cell, ...] = ()
    """What declared features need; distinct, in the order of their JSON."""
    segment: str = ""
    """One attribute, ``user.country`` or ``context.device``, for whose values heat is kept apart; empty = none."""
    online: tuple[OnlineModel, ...] = ()
    """Models that go on learning, in the order of the file."""
    limits: StateLimits = StateLimits()
    compaction: str = ""
    """Names the deleted items whose slots are not kept and the acts that were taken back before the last rebuild
    (``state.ids.compacted_items``); empty = there are none. No setting of a file."""
    id_key: str = NO_KEY
    """32 hex digits under which ids are hashed: ``LogIdentity.id_key`` of the log. No setting of a file; a secret."""

    def version(self) -> str:
        """Return the fold version: 16 hex digits of a hash of the kernels' version and all of this."""
        text = msgspec.json.encode((KERNEL_VERSION, self), enc_hook=str, order="deterministic")
        return sha256(text).hexdigest()[:16]

    def hash_key(self) -> IdKey:
        """Return the key of ids as kernels take it."""
        return id_key_of(self.id_key)

    def action_names(self) -> tuple[str, ...]:
        """Return the configured interactions in the order of their numbers: by name, however a file has them."""
        return tuple(sorted(self.types))


def encode_settings(settings: FoldSettings) -> str:
    """Return the settings as JSON, for a child process."""
    return msgspec.json.encode(settings, enc_hook=str).decode()


def decode_settings(text: str) -> FoldSettings:
    """Return the settings that ``encode_settings`` wrote."""
    return msgspec.json.decode(text, type=FoldSettings, dec_hook=read_duration)


def read_duration(kind: type, value: object) -> object:
    """Read the one type of ours that msgspec does not know: a hook for its decoders.

    Raises:
        ValueError: The text is no duration.
        TypeError: Another type was asked for, or something else than text came.
    """
    if kind is not Duration or not isinstance(value, str):
        message = f"{value!r} is not a duration: text such as 30m is right"
        raise TypeError(message)
    return Duration(value)
