"""Logged slates of one placement with the reward of each place, from one reading of the log each."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from midstream.app.config.schema import Config
from midstream.app.config_history import settings_of
from midstream.app.inspect.folder_view import LogView, beginning_of
from midstream.app.opening import DATA_NAME
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.evaluation.off_policy.intervals import Values
from midstream.events.schema import event_at
from midstream.events.served_body import ServedBody, decode_body
from midstream.feedback.examples import ExampleOptions, outcome_examples
from midstream.ranking.drafted_slate import SCORER


@dataclass(frozen=True, slots=True, eq=False)
class LoggedSlate:
    """One served slate, as it is in the log."""

    position: LogPosition
    """Of the served event; its state is of an earlier one."""
    state_position: LogPosition
    body: bytes
    unit: str
    """The user, else the session, else the request."""
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class LoggedSlates:
    """The newest slates of a placement, in the order of the states that they saw."""

    slates: tuple[LoggedSlate, ...]
    left_out: Mapping[str, int]
    """How many slates of the placement were not taken, by reason."""


def logged_slates(log: LogView, config: Config, placement: str, newest: int) -> LoggedSlates:
    """Return the newest slates of a placement that were drawn for themselves.

    Args:
        log: It is read as a whole. Cost: 1 s for 5 million events.
        config: Defines copies of events.
        placement: By which they were served.
        newest: Maximum number.
    """
    hidden = log.hidden(config)
    found: deque[LoggedSlate] = deque(maxlen=newest)
    left_out: dict[str, int] = {}
    for first, batch in batches(log.read, log.begin, log.end):
        for row in np.flatnonzero(batch.rows["kind"] == Kind.SERVED).tolist():
            event = event_at(batch, row)
            try:
                told = decode_body(event.body)
            except ValueError:
                continue  # of another version of the program: it has no placement to be counted under
            if told.placement != placement:
                continue
            reason = "of an erased user" if hidden(event, first + row) or not told.request_id else _unfit(told)
            if reason is not None:
                left_out[reason] = left_out.get(reason, 0) + 1
                continue
            unit = f"u{told.user_id}" if told.user_id else f"s{told.session_id}" if told.session_id else told.request_id
            state = LogPosition(told.log_position)
            found.append(LoggedSlate(LogPosition(first + row), state, event.body, unit, len(told.ids)))
    return LoggedSlates(tuple(sorted(found, key=lambda each: each.state_position)), left_out)


def rewards_by_place(
    folder: Path, log: LogView, config: Config, slates: tuple[LoggedSlate, ...], rewards: Mapping[str, float]
) -> dict[LogPosition, Values]:
    """Return the reward of each place, by the log position of the served event; acts that were taken back earn none.

    Args:
        folder: Of the log.
        log: It is folded from its beginning, outcomes alone. Cost: 1 µs an event, and that of ``acts_taken_back``.
        config: Of that folder.
        slates: Whose rewards are wanted.
        rewards: Of each action.
    """
    wanted = {each.position for each in slates}
    if not wanted:
        return {}
    options = ExampleOptions(min(wanted), LogPosition(max(wanted) + 1), rewards)
    data = DataFolder(folder / DATA_NAME)

    def read() -> Iterator[tuple[LogPosition, EventBatch]]:
        return batches(log.read, log.begin, log.end)

    found: dict[LogPosition, Values] = {}
    fold = log.pass_by(beginning_of(data, settings_of(data, config), log))
    for batch in outcome_examples(fold, read, options):
        at = batch.column("log_position").to_numpy()
        value = batch.column("reward").to_numpy(zero_copy_only=False).astype(np.float64)
        edges = np.flatnonzero(np.diff(at)) + 1
        starts = [0, *edges.tolist()]
        for start, part in zip(starts, np.split(value, edges), strict=True):
            if int(at[start]) in wanted:
                found[LogPosition(int(at[start]))] = part
    return found


def _unfit(told: ServedBody) -> str | None:
    """Return why a slate is no draw of its selector alone; None = it is."""
    if not told.ids:
        return "empty"
    if told.continues:
        return "it continues another slate"
    if told.scorer == SCORER:
        return "drafted of several placements"
    if told.spare or told.taken:
        return "of a page, whose earlier slates took items"
    return None
