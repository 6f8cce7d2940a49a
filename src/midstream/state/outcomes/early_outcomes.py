"""Outcomes whose slate is not there yet, in the order in which they came; of one request, one after another.

A row lies in two lists: that of all, from the one that has waited longest on, and that of its request, whose first row
is found by the request's hash and knows the last one. So to wait, to be joined, to be too old and to make room are a
few steps each, however many wait for one request. A free row has request 0; free ones follow each other by ``next``.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.hash_table import find, insert, remove
from midstream.state.structures.kernel import kernel, signed

WAITING_ROW = np.dtype(
    [
        ("request", "u8"),
        ("item", "u8"),
        ("user", "u8"),
        ("value", "f8"),
        ("event_time_ms", "i8"),
        ("log_time_ms", "i8"),
        ("action", "i4"),
        ("older", "i4"),
        ("newer", "i4"),
        ("next", "i4"),
        ("last", "i4"),
        ("item_index", "i4"),
    ]
)
"""72 bytes. ``item_index`` is that of when it came, -1 = none; ``next`` is the next one of the same request, ``last``
its last one, true in its first row alone."""
WAITING_META = np.dtype([("count", "i8"), ("used", "i8"), ("free", "i8"), ("oldest", "i8"), ("newest", "i8")])


def nobody_waits() -> NDArray[np.void]:
    """Return the meta of no rows, (1,)."""
    meta = np.zeros(1, dtype=WAITING_META)
    for name in ("free", "oldest", "newest"):
        meta[name] = -1
    return meta


@kernel
def await_slate(
    request: np.uint64,
    item: np.uint64,
    item_index: int,
    user: np.uint64,
    action: int,
    value: float,
    event_time_ms: int,
    log_time_ms: int,
    rows: NDArray[np.void],
    table: NDArray[np.int32],
    meta: NDArray[np.void],
) -> None:
    """Let one more wait. There must be a free row."""
    place = signed(meta[0]["free"])
    if place >= 0:
        meta[0]["free"] = rows[place]["next"]
    else:
        place = signed(meta[0]["used"])
        meta[0]["used"] = place + 1
    row = rows[place]
    row["request"] = request
    row["item"] = item
    row["item_index"] = item_index
    row["user"] = user
    row["action"] = action
    row["value"] = value
    row["event_time_ms"] = event_time_ms
    row["log_time_ms"] = log_time_ms
    row["next"] = -1
    row["last"] = place
    row["newer"] = -1
    row["older"] = meta[0]["newest"]
    if meta[0]["newest"] >= 0:
        rows[meta[0]["newest"]]["newer"] = place
    else:
        meta[0]["oldest"] = place
    meta[0]["newest"] = place
    meta[0]["count"] += 1
    first = find(request, rows["request"], table)
    # The row's own hash is set, and it is not in the table: what is found is another one.
    if first < 0:
        insert(place, rows["request"], table)
    else:
        rows[rows[first]["last"]]["next"] = place
        rows[first]["last"] = place


@kernel
def drop_oldest(rows: NDArray[np.void], table: NDArray[np.int32], meta: NDArray[np.void]) -> None:
    """Let the one that has waited longest wait no more: it is the first one of its request, too."""
    place = signed(meta[0]["oldest"])
    following = signed(rows[place]["next"])
    remove(place, rows["request"], table)
    if following >= 0:
        rows[following]["last"] = rows[place]["last"]
        insert(following, rows["request"], table)
    release(place, rows, meta)


@kernel
def release(place: int, rows: NDArray[np.void], meta: NDArray[np.void]) -> None:
    """Free a row that the table does not name any more."""
    older, newer = signed(rows[place]["older"]), signed(rows[place]["newer"])
    if older >= 0:
        rows[older]["newer"] = newer
    else:
        meta[0]["oldest"] = newer
    if newer >= 0:
        rows[newer]["older"] = older
    else:
        meta[0]["newest"] = older
    rows[place]["request"] = 0
    rows[place]["next"] = meta[0]["free"]
    meta[0]["free"] = place
    meta[0]["count"] -= 1


@kernel
def write_waiting(rows: NDArray[np.void], meta: NDArray[np.void], order: NDArray[np.int32]) -> None:
    """Write the places of all that wait, the longest first."""
    place = signed(meta[0]["oldest"])
    for at in range(len(order)):
        order[at] = place
        place = signed(rows[place]["newer"])


@kernel
def read_waiting(
    source: NDArray[np.void], rows: NDArray[np.void], table: NDArray[np.int32], meta: NDArray[np.void]
) -> None:
    """Let all that ``source`` holds wait, in order."""
    for at in range(len(source)):
        row = source[at]
        await_slate(
            row["request"],
            row["item"],
            signed(row["item_index"]),
            row["user"],
            signed(row["action"]),
            row["value"],
            signed(row["event_time_ms"]),
            signed(row["log_time_ms"]),
            rows,
            table,
            meta,
        )
