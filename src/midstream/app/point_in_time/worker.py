"""Child process that reads features as of one past moment, for a server: the code of ``midstream features as-of``.

It runs beside the server at a lower priority, and changes nothing.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from midstream.app.point_in_time.api import past_of
from midstream.app.point_in_time.lookup import Past
from midstream.app.point_in_time.requests import of_batches
from midstream.core.answers.features import ItemValues, PastFeaturesAnswer
from midstream.core.errors import Fault, Invalid
from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.child_process import Notify, Pace, nobody
from midstream.engine.explain.past_features import COMMAND, PAGE, PastOrder, iso
from midstream.events.loose_arrow import pa
from midstream.features.as_of import as_of
from midstream.features.declared import DeclaredFeatures
from midstream.state.fold import Fold


def features_at(order: PastOrder, notify: Notify = nobody) -> PastFeaturesAnswer:
    """Return the features of an order.

    Args:
        order: Its user is not erased, and its time not in the future.
        notify: Told how far the fold is.

    Raises:
        Invalid: There is no such feature, the log begins after the moment, the moment is too far from a snapshot, or
            the session is of an erased user.
        LogDamaged: The log cannot be trusted.
        FeatureFailed: A feature cannot be read.
    """
    past = past_of(Path(order.folder), None)
    position = _begun_position(past, order.time_ms)
    block = _block(past, order.features)
    question: dict[str, list[Any]] = {"time": [order.time_ms], "items": [list(order.items)]}
    for name, value in (("user_id", order.user_id), ("session_id", order.session_id)):
        if value is not None:
            question[name] = [value]
    with ExitStack() as stack:
        (chunk,) = of_batches(pa.table(question).to_batches(), "question", stack).chunks()
    cursor = past.cursor(position, notify, position)
    _require_near(position - cursor.fold.log_position, order.events_max)
    (found,) = as_of(cursor, chunk.questions, past.reader(block))
    _require_not_erased(cursor.fold, order)
    items = [ItemValues(*each) for each in zip(order.items, found.values.tolist(), strict=True)]
    return PastFeaturesAnswer(order.time_ms, tuple(block.names), items, found.log_position)


def _block(past: Past, names: tuple[str, ...] | None) -> DeclaredFeatures:
    """Return the block of some features.

    Raises:
        Invalid: There is no such feature; the fault is at the field of the route, and not at an option of the command.
    """
    try:
        return past.block(names)
    except Invalid as error:
        raise Invalid(tuple(replace(each, where="feature") for each in error.faults)) from error


def _begun_position(past: Past, time_ms: int) -> LogPosition:
    """Return the log position of a moment.

    Raises:
        Invalid: It is before the first event of the log, or there is none.
    """
    log = past.log
    if log.end <= log.begin:
        raise Invalid((Fault("time", "The log holds no event.", "A moment after the first one.", PAGE),))
    position = past.position_at(time_ms)
    if position <= log.begin:
        ((_, batch), *_) = log.read(log.begin, 1)
        right = f"After {iso(int(batch.rows['log_time_ms'][0]))}, the log time of its first event."
        raise Invalid((Fault("time", f"{iso(time_ms)} is before the log begins.", right, PAGE),))
    return position


def _require_near(events: int, events_max: int) -> None:
    """Refuse a fold of too many events.

    Raises:
        Invalid: The nearest snapshot is farther from the moment.
    """
    if events > events_max:
        came = f"{events:,} events lie between the nearest snapshot and that moment."
        right = f"At most {events_max:,} here; {COMMAND} reads any number of them."
        raise Invalid((Fault("time", came, right, PAGE),))


def _require_not_erased(fold: Fold, order: PastOrder) -> None:
    """Refuse a session of an erased user, of whom the files of the log still hold what was.

    Raises:
        Invalid: It is one.
    """
    if order.session_id is None or not order.erased:
        return
    sessions, now_ms = fold.sessions, order.time_ms
    asked = sessions.find(fold.vocabulary.id_hash_of(order.session_id), 0, now_ms)
    if asked is not None and any(asked.number in sessions.open_of_user(each, now_ms) for each in order.erased):
        came = "This session is of a user who was erased: nothing of the time before is shown."
        raise Invalid((Fault("session_id", came, "A session of another user, or none.", PAGE),))


def run(order: PastOrder, pace: Pace) -> PastFeaturesAnswer:
    """Read the features that were ordered; see ``features_at``."""

    def told(stage: str, done: int, total: int) -> None:
        pace.say(stage, done, total)
        pace.rest()

    return features_at(order, told)


if __name__ == "__main__":
    child_process.main(PastOrder, run)
