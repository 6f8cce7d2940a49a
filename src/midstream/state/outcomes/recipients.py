"""Recipients of the slates that are held: by user, or by session where no user was named.

Each asker's slates are chained through the places of the ring of slates, newest first, and a table finds the newest
one. The oldest slate of all is the last one of its chain, so when it leaves nothing has to be cut: a chain ends where
the next place holds no slate, or a newer one than the slate before. Links are a matter of layout; what a snapshot
holds is whose each slate is.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.hash_table import find, insert, remove
from midstream.state.structures.hashing import IdKey, id_hash
from midstream.state.structures.kernel import kernel, signed

ASKED = np.dtype([("asker", "u8"), ("placement", "u8"), ("older", "i4"), ("counted", "i4")])
"""24 bytes beside each slate. ``asker`` 0 = nobody's; ``older`` is the place of the asker's slate before, -1 = none;
``counted`` the number of the placement that cells of outcomes know it by, 0 = none names it."""
RECENT_SLATES_MAX: Final = 200
"""Slates of one asker that a question reads, the newest of its placement: eight an hour for a day, 40 µs at most."""
RECENT_STEPS_MAX: Final = 2_000
"""Slates of the asker that are gone through for these, of all placements: each passed over costs 0.1 µs or less."""
RECENT_ITEMS_MAX: Final = 4_000
"""Positions of these slates, 20 each."""
_SESSION = np.uint64(0x9E3779B97F4A7C15)
"""Sets a session apart from a user of the same id."""
_NONE = np.uint64(0)
Rows = NDArray[np.void]
Table = NDArray[np.int32]
Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]


def session_asker(session_hash: int) -> int:
    """Return under what the slates of a session without a user are found; 0 = no session."""
    return int(asker_of(_NONE, np.uint64(session_hash)))


def placement_hash(name: str, key: IdKey) -> int:
    """Return under what the slates of a placement are told from others; 0 = each placement."""
    return id_hash(name, key)


@kernel
def asker_of(user: np.uint64, session: np.uint64) -> np.uint64:
    """Return whose a slate is that was served to a user and a session, by their hashes; 0 = nobody's."""
    if user != _NONE or session == _NONE:
        return user
    return session ^ _SESSION


@kernel
def link(place: int, asker: np.uint64, placement: np.uint64, asked: Rows, table: Table) -> None:
    """Say whose the newest slate of all is."""
    row = asked[place]
    row["asker"] = asker
    row["placement"] = placement
    row["older"] = -1
    if asker == _NONE:
        return
    newest = find(asker, asked["asker"], table)
    if newest >= 0:
        remove(newest, asked["asker"], table)
        row["older"] = newest
    insert(place, asked["asker"], table)


@kernel
def unlink(place: int, asked: Rows, table: Table) -> None:
    """Let the oldest slate of all go."""
    asker = asked[place]["asker"]
    if asker != _NONE and find(asker, asked["asker"], table) == place:
        remove(place, asked["asker"], table)


@kernel
def relink(head: int, count: int, asked: Rows, table: Table) -> None:
    """Chain slates of which it is known whose they are, the oldest of which lies at ``head``."""
    table[:] = 0
    for number in range(count):
        place = (head + number) % len(asked)
        link(place, asked[place]["asker"], asked[place]["placement"], asked, table)


@kernel
def older_of(place: int, slates: Rows, rings: Rows, asked: Rows) -> int:
    """Return the place of the slate that its asker was served before one, -1 = none is held."""
    older = signed(asked[place]["older"])
    if older < 0 or (older - signed(rings[0]["head"])) % len(slates) >= signed(rings[0]["count"]):
        return -1
    return older if slates[older]["log_position"] < slates[place]["log_position"] else -1


@kernel
def forget_asker(asker: np.uint64, slates: Rows, rings: Rows, asked: Rows, table: Table) -> None:
    """Make all slates of one asker nobody's."""
    place = find(asker, asked["asker"], table) if asker != _NONE else -1
    if place >= 0:
        remove(place, asked["asker"], table)
    while place >= 0:
        older = older_of(place, slates, rings, asked)
        asked[place]["asker"] = _NONE
        asked[place]["older"] = -1
        place = older


@kernel
def merge_askers(into: np.uint64, other: np.uint64, slates: Rows, rings: Rows, asked: Rows, table: Table) -> None:
    """Let the slates of one asker be another's as well, in the order of the log."""
    left = find(other, asked["asker"], table)
    if left < 0:
        return
    remove(left, asked["asker"], table)
    right = find(into, asked["asker"], table)
    if right >= 0:
        remove(right, asked["asker"], table)
    newer = -1
    while left >= 0 or right >= 0:
        is_left = right < 0 or (left >= 0 and slates[left]["log_position"] > slates[right]["log_position"])
        place = left if is_left else right
        if is_left:
            left = older_of(place, slates, rings, asked)
        else:
            right = older_of(place, slates, rings, asked)
        asked[place]["asker"] = into
        asked[place]["older"] = -1
        if newer >= 0:
            asked[newer]["older"] = place
        else:
            insert(place, asked["asker"], table)
        newer = place


@kernel
def read_recent(
    asker: np.uint64,
    placement: np.uint64,
    slates: Rows,
    hashes: Hashes,
    rings: Rows,
    asked: Rows,
    table: Table,
    items: Hashes,
    times: Numbers,
) -> int:
    """Write the items of the newest slates of an asker, and when each was served; return how many there are.

    Args:
        asker: By ``asker_of``; 0 = nobody, who was served nothing.
        placement: 0 = each.
        slates: All that are held.
        hashes: Of the items at their positions.
        rings: Of both.
        asked: Whose each slate is.
        table: Of the newest slate of each asker.
        items: Is given the items, slate by slate, the newest first; a slate that does not fit whole ends it.
        times: Is given the log times.
    """
    place = find(asker, asked["asker"], table) if asker != _NONE else -1
    count = taken = 0
    for _ in range(RECENT_STEPS_MAX):
        if place < 0 or taken == RECENT_SLATES_MAX:
            break
        slate = slates[place]
        length = signed(slate["length"])
        if placement in (_NONE, asked[place]["placement"]):
            if count + length > len(items):
                break
            for each in range(length):
                items[count + each] = hashes[(signed(slate["first"]) + each) % len(hashes)]
                times[count + each] = slate["log_time_ms"]
            count += length
            taken += 1
        place = older_of(place, slates, rings, asked)
    return count
