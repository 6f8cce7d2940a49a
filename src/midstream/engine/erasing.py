"""What is still to be done of erasures: at once a user is gone from the state, within days from every file."""

from collections.abc import Sequence
from itertools import groupby

from midstream.core.errors import Fault, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition, TimestampMs
from midstream.engine.question import ID_CHARS_MAX, PAGE
from midstream.engine.types import ErasureDue
from midstream.events.faults import shown
from midstream.events.schema import Event
from midstream.events.values import NOT_IN_IDS
from midstream.state.fold import Fold
from midstream.state.hashing import id_hash

DAY_MS = 86_400_000


def erase_event(user_id: str) -> Event:
    """Return the event that erases a user.

    Raises:
        RequestInvalid: No id looks like that.
    """
    if not 0 < len(user_id) <= ID_CHARS_MAX or NOT_IN_IDS.search(user_id):
        right = f"Text of 1 to {ID_CHARS_MAX} characters, none of them a control character."
        raise RequestInvalid((Fault("user_id", f"{shown(user_id)} came.", right, PAGE),))
    return Event(Kind.ERASE, user_id=user_id)


def erasures_due(fold: Fold, days_max: int) -> Sequence[ErasureDue]:
    """Return the erasures whose events in the log are not blanked yet, oldest first."""
    found: list[ErasureDue] = []
    for position, rows in groupby(fold.vocabulary.erasures.pending, key=lambda row: row.position):
        members = list(rows)
        log_time_ms = members[0].log_time_ms
        due_ms = TimestampMs(log_time_ms + days_max * DAY_MS)
        found.append(ErasureDue(LogPosition(position), TimestampMs(log_time_ms), len(members), due_ms))
    return found


def last_erasure(due: Sequence[ErasureDue], fold: Fold, user_id: str) -> ErasureDue:
    """Return the last of the erasures of a user, which has one."""
    wanted = id_hash(user_id, fold.vocabulary.id_key)
    position = max(row.position for row in fold.vocabulary.erasures.pending if row.user_hash == wanted)
    return next(each for each in due if each.log_position == position)
