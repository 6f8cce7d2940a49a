"""Options of the format ``midstream``: a folder's log as a DataFrame, or as a stream from a position or a time on.

A DataFrame has no act that was taken back before it was made, wherever its retraction stands. A stream has each event
as it came: an act may be taken back long after the batch that had it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import msgspec
import numpy as np

from midstream.app.export.events import KINDS, moment_ms
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME, Outside
from midstream.app.spark.log_ranges import (
    LOG_SCHEMA,
    LogPlace,
    LogRange,
    event_batches,
    place_of,
    rewritten,
    with_positions,
)
from midstream.app.spark.taken_back import NONE_TAKEN_BACK, KeptEvents, TakenBack, taken_back_here
from midstream.core.errors import Fault, Invalid
from midstream.core.kinds import Kind
from midstream.core.nearest import nearest
from midstream.engine.folder import DataFolder
from midstream.events.arrow.to_arrow import to_table
from midstream.events.disk import RealDisk
from midstream.events.loose_arrow import Batch
from midstream.events.schema import pick
from midstream.events.segments.log_identity import read_identity
from midstream.events.segments.segment_scan import segment_firsts, segment_name
from midstream.events.whole_file import sync_file
from midstream.integrations.spark.log_source import POSITION, LogReads, source_class
from midstream.state.ids.event_ids import SPAN_S

FORMAT: Final = "midstream"
PAGE: Final = "/docs/spark.md"
EVENTS_MAX: Final = "maxeventspertrigger"
STREAM_EVENTS_MAX: Final = 1_000_000
"""Events of one batch of a stream without the option: some seconds of work, and 250 MB of rows."""
GENERATIONS: Final = "generations"
"""Option of a stream; "any" = it goes on in another writing of the log."""
WITHIN: Final = "within"
"""Option that ``fixed`` makes: which events of which log there were when it was called."""
_COPIES_MS: Final = (SPAN_S + 1) * 1_000
"""Log time after an act in which a copy of it may come that the state takes for one."""
SYNCED_SEGMENTS: Final = 2
"""The newest segments, of which a writer may have the last events in memory of the system alone."""
_OPTIONS: Final = {
    "path": "path",
    "since": "since",
    "until": "until",
    "kinds": "kinds",
    EVENTS_MAX: "maxEventsPerTrigger",
    GENERATIONS: "generations",
}
"""Options as Spark hands them over, and as they are written."""


class _Within(msgspec.Struct, frozen=True):
    """Events of a log that a DataFrame has, however often it is computed."""

    log: str
    """Public name; empty = there was none."""
    generation: int
    begin: int
    end: int
    first: int
    stop: int
    taken_back: TakenBack
    """Acts that it does not have."""


TakenBackFrom: TypeAlias = Callable[[LogPlace, int], TakenBack]
"""Finds the acts that the events of a log from a position on take back."""


@dataclass(frozen=True, slots=True)
class SourcePiece:
    """A range of a log as it goes to a task."""

    place: LogPlace
    part: LogRange
    kinds: tuple[str, ...]
    taken_back: TakenBack = NONE_TAKEN_BACK
    any_generation: bool = False


def source() -> type[Any]:
    """Return the class of the format, to register with a session.

    Raises:
        ExtraMissing: PySpark is not installed.
    """
    return source_class(LogReads(FORMAT, LOG_SCHEMA, ranges_of, begin_of, end_of, events_max_of, between, read))


def ranges_of(options: Mapping[str, str]) -> Sequence[SourcePiece]:
    """Return the ranges of a DataFrame: all events, or those from one log time to before another.

    Raises:
        Invalid: An option is none.
        LogDamaged: The log cannot be trusted.
    """
    place, first, stop, taken_back = _known(options) if WITHIN in options else _found(options, taken_back_here)
    kinds, parts = _kinds(options), place.ranges(first, stop)
    return [SourcePiece(place, each, kinds, taken_back.near(each)) for each in parts]


def fixed(options: Mapping[str, str], taken_back_from: TakenBackFrom = taken_back_here) -> dict[str, str]:
    """Return the options of a DataFrame that has what there is now, and the same whenever it is computed.

    Args:
        options: As they were given.
        taken_back_from: Looks for acts that were taken back: this process, or the tasks of a session.

    Raises:
        Invalid: An option is none.
        LogDamaged: The log cannot be trusted.
    """
    place, first, stop, taken_back = _found(options, taken_back_from)
    within = _Within(place.log_name, place.generation, place.begin, place.end, first, stop, taken_back)
    return {"path": place.folder, "kinds": ",".join(_kinds(options)), WITHIN: msgspec.json.encode(within).decode()}


def _found(options: Mapping[str, str], taken_back_from: TakenBackFrom) -> tuple[LogPlace, int, int, TakenBack]:
    """Return the log as it stands now, synced, the part of it that is asked for, and the acts that were taken back.

    A retraction stands behind its act, and a copy of the act within ``SPAN_S`` behind it: no earlier one is of matter.
    """
    folder, now_ms = _folder(options), Outside().clock()
    view = LogView(folder)
    _sync(view)
    place = place_of(folder, view)
    bounds = [moment_ms(_time(options.get(name)), now_ms, name) for name in ("since", "until")]
    first, stop = (None if bound is None else int(view.position_at(bound)) for bound in bounds)
    looked = place.begin if bounds[0] is None else int(view.position_at(bounds[0] - _COPIES_MS))
    part = place.begin if first is None else first, place.end if stop is None else stop
    return place, *part, taken_back_from(place, looked)


def _known(options: Mapping[str, str]) -> tuple[LogPlace, int, int, TakenBack]:
    """Return what ``fixed`` found.

    Raises:
        LogRewritten: There is another log by now, or another writing of it.
    """
    told, folder = msgspec.json.decode(options[WITHIN], type=_Within), Path(options["path"])
    place = LogPlace(str(folder), "", told.generation, told.begin, told.end, told.log)
    if not told.log:
        return place, 0, 0, NONE_TAKEN_BACK
    data = DataFolder(folder / DATA_NAME).log
    identity = read_identity(data, RealDisk()) if data.is_dir() else None
    if identity is None or (identity.public_name, identity.generation) != (told.log, told.generation):
        raise rewritten(data, place, identity)
    return replace(place, log_id=identity.log_id), told.first, told.stop, told.taken_back


def begin_of(options: Mapping[str, str]) -> dict[str, Any]:
    """Return where a new stream begins: at the log's oldest event, or at the first one from ``since`` on.

    Raises:
        Invalid: An option is none.
        LogDamaged: The log cannot be trusted.
    """
    view = LogView(_folder(options))
    if "until" in options:
        came = f"until = {options['until']!r} came for a stream."
        raise Invalid((Fault("until", came, "Leave it out: a stream goes on; a DataFrame has an end.", PAGE),))
    since = moment_ms(_time(options.get("since")), Outside().clock(), "since")
    return _offset(place_of(_folder(options), view), int(view.begin if since is None else view.position_at(since)))


def end_of(options: Mapping[str, str], start: Mapping[str, Any]) -> dict[str, Any]:
    """Return up to where a stream can be read. What is named here is durable, so a crash takes none of it back.

    Raises:
        Invalid: An option is none, or the stream stands in another log than there is.
        LogDamaged: The log cannot be trusted.
    """
    view = LogView(_folder(options))
    place = place_of(_folder(options), view)
    _require_same(options, place, start)
    _sync(view)
    return _offset(place, int(view.end))


def _sync(view: LogView) -> None:
    """Let what a view has be durable, where its writer did not see to it yet."""
    if view.reader is not None:
        folder = view.reader.folder
        for first in segment_firsts(folder, RealDisk())[-SYNCED_SEGMENTS:]:
            sync_file(folder / segment_name(first))


def _offset(place: LogPlace, position: int) -> dict[str, Any]:
    # The public name: a checkpoint is no place for the id, from which keys are made.
    return {POSITION: position, "log": place.log_name, "generation": place.generation}


def _require_same(options: Mapping[str, str], place: LogPlace, start: Mapping[str, Any]) -> None:
    """Refuse a log in which the position of a stream does not mean what it meant.

    Raises:
        Invalid: It is another log, another writing of it without a word that lets it be, or it ends before.
    """
    at, log, generation = int(start[POSITION]), start["log"], start["generation"]
    anew = "A new checkpoint reads from the beginning, or from the option since."
    came = right = ""
    if log and log != place.log_name:
        came, right = f"The stream stands in log {log}, and the folder holds log {place.log_name or 'none'}.", anew
    elif log and generation != place.generation and options.get(GENERATIONS) != "any":
        came = f"The stream stands in generation {generation} of log {log}, and the folder holds {place.generation}."
        right = (
            f'After an erasure or a retraction option("{GENERATIONS}", "any"): positions stayed. After a restore or '
        )
        right += "a repair events behind the position may be others: a new checkpoint."
    elif at > place.end:
        came, right = f"The stream stands at log position {at}, and log {log} ends at {place.end}.", anew
    if came:
        raise Invalid((Fault(place.folder, came, right, PAGE),))


def events_max_of(options: Mapping[str, str]) -> int:
    """Return how many events a batch of a stream has at most.

    Raises:
        Invalid: The option is none.
    """
    text = options.get(EVENTS_MAX, str(STREAM_EVENTS_MAX))
    if not (text.isascii() and text.isdecimal() and int(text)):
        came = f"{text!r} came."
        raise Invalid((Fault(_OPTIONS[EVENTS_MAX], came, "A whole number above 0, such as 100000.", PAGE),))
    return int(text)


def between(options: Mapping[str, str], start: Mapping[str, Any], end: Mapping[str, Any]) -> Sequence[SourcePiece]:
    """Return the ranges of one batch of a stream.

    Raises:
        Invalid: Retention cut events that the stream has not read, or it stands in another log than there is.
    """
    place, kinds = place_of(_folder(options)), _kinds(options)
    first, stop = int(start[POSITION]), int(end[POSITION])
    for offset in (start, end):
        _require_same(options, place, offset)
    if first < place.begin and first < stop:
        came = f"The stream stands at log position {first}, and the log begins at {place.begin}."
        right = "A stream that is read more often than history is cut, or a new checkpoint, which begins anew."
        raise Invalid((Fault(place.folder, came, right, PAGE),))
    return [SourcePiece(place, each, kinds, any_generation=True) for each in place.ranges(first, stop)]


def read(_: Mapping[str, str], piece: object) -> Iterator[Batch]:
    """Yield the events of a piece, as record batches of ``LOG_SCHEMA``.

    Raises:
        LogRewritten: The folder has another log, or another writing of it.
        LogDamaged: It cannot be trusted.
    """
    told = cast("SourcePiece", piece)
    wanted = [Kind[name.upper()] for name in told.kinds]
    kept = KeptEvents(told.place, told.part, told.taken_back)
    for first, batch in event_batches(told.place, told.part, any_generation=told.any_generation):
        chosen = np.flatnonzero(kept.of(first, batch) & np.isin(batch.rows["kind"], wanted))
        if len(chosen):
            events = batch if len(chosen) == len(batch) else pick(batch, chosen)
            yield with_positions(first + chosen.astype(np.int64), to_table(events))


def _folder(options: Mapping[str, str]) -> Path:
    unknown = [name for name in options if name.lower() not in (*_OPTIONS, WITHIN)]
    faults = [
        Fault(name, f"{name!r} came.{nearest(name, _OPTIONS.values())}", f"One of {_named(_OPTIONS.values())}.", PAGE)
        for name in unknown
    ]
    if "path" not in options:
        faults.append(Fault("path", "No folder came.", 'load("shop"): the folder that holds data.', PAGE))
    if faults:
        raise Invalid(tuple(faults))
    return Path(options["path"].removeprefix("file://").removeprefix("file:"))


def _named(names: object) -> str:
    return ", ".join(cast("Sequence[str]", names))


def _kinds(options: Mapping[str, str]) -> tuple[str, ...]:
    kinds = tuple(each.strip() for each in options.get("kinds", ",".join(KINDS)).split(","))
    faults = tuple(
        Fault("kinds", f"{each!r} came.{nearest(each, KINDS)}", f"Some of {_named(KINDS)}, with commas between.", PAGE)
        for each in kinds
        if each not in KINDS
    )
    if faults:
        raise Invalid(faults)
    return kinds


def _time(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else text
