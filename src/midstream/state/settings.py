"""Every setting that changes the fold. Its hash is the fold version: equal version, log and position, equal state."""

from hashlib import sha256
from typing import Literal

import msgspec

from midstream.core.durations import Duration
from midstream.events.wire import AttributeKind
from midstream.state.expressions.program import Cell
from midstream.state.structures.hashing import NO_KEY, IdKey, id_key_of

KERNEL_VERSION = 17
"""Raised by whoever changes what any table holds after the same events."""

UnknownItems = Literal["accept", "hold", "reject"]


class EventType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one interaction is worth."""

    weight: float = 1.0
    """Added to trending and popular; below 0 an act against the item, which opens no session and no list."""


class StateLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The maxima from which memory follows. ``midstream size`` prints the bytes of each."""

    users_max: int = 1_000_000
    items_max: int = 200_000
    click_items_max: int = 20_000
    """Items known only from interactions, within ``items_max``: 10 %, so that made-up ids cannot fill the catalogue."""
    sessions_max: int = 200_000
    """Open sessions."""
    session_items_max: int = 50
    """Items kept of a session, oldest first; later ones move the oldest out."""
    index_sessions_max: int = 1_000_000
    """Newest sessions in the session index."""
    index_items_max: int = 20
    """Distinct items of a session that enter the session index: the first ones."""
    index_entries_max: int = 500
    """Newest sessions kept for each item: the largest m that a query may ask for."""
    user_ring_max: int = 50
    """Last interactions kept for each user, and items with counted impressions."""
    event_ids_max: int = 10_000_000
    """Event ids remembered, for 24 h of log time at most."""
    requests_max: int = 200_000
    """Newest served requests that can be looked up."""
    outcome_slates_max: int = 200_000
    """Newest slates for which what follows is noted, and of which it is known to whom they were served: 72 bytes each.
    A day at 2 requests a second are 172,800."""
    outcome_items_max: int = 4_000_000
    """Positions of these slates: 20 each, 32 bytes a position."""
    outcomes_waiting_max: int = 10_000
    """Impressions and interactions that came before the slate they name."""
    hot_items_max: int = 1_000
    """Length of each kept list of the hottest items."""
    new_items_max: int = 1_000
    """Items of the catalogue whose arrival is remembered, the newest: as many as a list of the hottest holds."""
    pair_neighbours_max: int = 32
    """Items kept beside each item that are acted on in the same sessions: 384 bytes an item."""
    pair_items_max: int = 10
    """Last distinct items of a session that a new act makes pairs with; it decides the cost of an event."""
    segment_values_max: int = 32
    """Values of the attribute that makes segments; later ones count as unknown. Each has heat of 8 bytes an item."""
    attribute_values_max: int = 65_536
    """Distinct values of each category or tags attribute; later ones count as unknown."""
    item_tags_max: int = 16
    """Tags kept of one item."""
    document_bytes_max: int = 134_217_728
    """Attributes of all items, and again of all users, as text: 128 MiB are 200,000 items x 670 bytes."""
    feature_user_items_max: int = 1_000_000
    """Pairs of a user and an item for which features count something; the one that was counted longest ago goes."""
    feature_user_values_max: int = 1_000_000
    """Pairs of a user and a value of an attribute, of each attribute that features count by."""
    aliases_max: int = 200_000
    """User ids that were merged into others: one for every fifth of the users; 7 MB. Full, the first made goes."""
    erased_max: int = 10_000
    """Erased user ids that are remembered: each for 24 h, and until the log is rewritten, which is due after 7 days."""


class FoldSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides what the state is after the same events."""

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
    limits: StateLimits = StateLimits()
    compaction: str = ""
    """Names the deleted items whose slots are not kept (``state.ids.compacted_items``); empty = all are. No setting of
    a file."""
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
