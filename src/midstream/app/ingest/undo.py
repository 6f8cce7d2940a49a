"""Undo of import runs: lists them, and rewrites the log without the rows of one.

It runs on a folder without a server, under its lock: the new log and its state are complete before one rename puts them
in the place of the old ones. An interruption before leaves everything as it was.
"""

import shutil
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from midstream.app.config.schema import Config
from midstream.app.config_history import Remembered, Span, remember, remembered, settings_of
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME, Outside
from midstream.app.server_address import server_of
from midstream.core.errors import Fault, FolderLocked, Invalid
from midstream.core.nearest import nearest
from midstream.engine.child_process import Notify, Pace, nobody
from midstream.engine.erasure.log_rewrite import SNAPSHOTS_NAME, commit, new_log, settle
from midstream.engine.erasure.redaction import find_erased
from midstream.engine.erasure.retraction import Retracted, Retraction
from midstream.engine.folder import DataFolder, lock_history
from midstream.engine.ingest.import_runs import close_run, ended, import_runs, journal_of
from midstream.engine.ingest.log_reader import batches, catch_up
from midstream.engine.log_opening import open_log
from midstream.engine.log_readers import open_reader, read_folder
from midstream.engine.snapshots import base_state, compactions, snapshots
from midstream.engine.snapshots.base_state import everything
from midstream.events.disk import Disk, RealDisk
from midstream.events.segments.log_identity import LOG_ID_BYTES
from midstream.state.control.import_runs import ImportRun
from midstream.state.settings import FoldSettings

PAGE = "/docs/data.md"
_WHERE = "midstream import --undo"
"""No option alone: the use is right, and what is asked for fails."""
_RIGHT_RUN = "One of `midstream import --runs`."


@dataclass(frozen=True, slots=True)
class RunView:
    """One run of an import, as it is listed."""

    run: str
    time: str
    """When it began, ISO 8601."""
    file: str
    recorded: int
    counts: dict[str, int]
    mapping: dict[str, str]
    state: str
    """``recorded``, ``taken back``, ``under way``, or ``broken off``: killed, and nobody opened the folder since."""


@dataclass(frozen=True, slots=True)
class Undone:
    """Result of an undo."""

    run: str
    file: str
    removed: int
    """Rows that are gone."""
    erasures: int
    """Rows that stand: erasures, and merges of ids that were erased since. Who is erased stays erased."""
    log_position: int
    """Where the log ends now."""
    generation: int
    digest: str
    """Of the state that the new log gives."""
    seconds: float


def list_runs(folder: Path) -> Sequence[RunView]:
    """Return the runs of imports that the log holds accounts of, the oldest first; a server may have the folder open.

    Cost: a pass over the log, 0.1 µs an event beside reading it.

    Raises:
        LogDamaged: The log cannot be trusted.
    """
    log = LogView(folder)
    found = list(import_runs(batches(log.read, log.begin, log.end), log.identity.public_name).values())
    views = [_view(each, "taken back" if each.undone_ms else "recorded") for each in found]
    data = DataFolder(folder / DATA_NAME)
    left = journal_of(data.import_journal)
    if left is not None and left.log == log.identity.public_name:
        views.append(_view(ended(left, log.end), "under way" if _is_open(data) else "broken off"))
    return views


def _is_open(data: DataFolder) -> bool:
    """Return whether a process has the folder open; with a journal there it is the import, as all else closes that."""
    disk = RealDisk()
    try:
        disk.close(disk.lock(data.lock, data.root))
    except FolderLocked:
        return True
    return False


def _view(run: ImportRun, state: str) -> RunView:
    time_text = datetime.fromtimestamp(run.time_ms / 1_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return RunView(run.run, time_text, run.file, run.counts.get("recorded", 0), run.counts, run.mapping, state)


def undo_run(folder: Path, config: Config, name: str, notify: Notify = nobody) -> Undone:
    """Rewrite the log without the rows of a run, and put it in service with its state.

    Args:
        folder: No process has it open.
        config: Of that folder; decides the state.
        name: Of the run.
        notify: Receives the progress.

    Raises:
        Invalid: There is no such run, it was undone before, retention cut some of it, or a server has the folder.
        FolderLocked: A process that is no server has the folder open.
        LogDamaged: The log cannot be trusted; nothing was changed.
        OSError: The disk; nothing was changed.
    """
    began = time.monotonic()
    data, disk = DataFolder(folder / DATA_NAME), RealDisk()
    if data.log.is_dir():
        _close_account(data, config)
    else:
        _wanted(LogView(folder), name)  # there is no run where there is no log
    with ExitStack() as locks:
        locks.callback(disk.close, disk.lock(data.lock, data.root))
        locks.callback(disk.close, lock_history(data, disk))
        log = LogView(folder)
        run = _wanted(log, name)
        notify("writing", 0, log.end)
        pace = Pace(notify, hurried=True)
        settings = _settings(data, config, run)
        reader = open_reader(data, disk)
        erased = find_erased(lambda: everything(reader, log.end), settings.limits.event_ids_max, settings.hash_key())
        retraction = Retraction(data, disk, run, erased, Outside().clock())
        with _removed_on_error(new_log(data)):
            made = retraction.make(log.end, config.log.segment_bytes_max, pace)
            digest = _write_state(data, settings, made, pace)
        _put_in_service(data, disk, Remembered(config, settings), Span(log.begin, made.end))
        _clean(data, config, settings)
    seconds = time.monotonic() - began
    return Undone(run.run, run.file, made.removed, made.erasures, made.end, made.identity.generation, digest, seconds)


def _close_account(data: DataFolder, config: Config) -> None:
    """Open the log once, so that what an earlier process broke off is put right.

    Raises:
        Invalid: A server has the folder open.
        FolderLocked: Another process has.
    """
    if data.topic_position.exists():
        came = "The log of this folder is shared by several nodes, which have events between the rows of a run."
        right = "A log of its own. In a shared one delete the items, or erase the users, of the run."
        raise Invalid((Fault(_WHERE, came, right, "/docs/replicas.md"),))
    try:
        log = open_log(data, Outside().entropy(LOG_ID_BYTES), config.log.segment_bytes_max)
    except FolderLocked:
        url = server_of(data)
        if not url:
            raise
        came = f"The server at {url} has the folder open, and goes on with what it knows."
        right = "Stop it, take the run back, and start it again: on a folder of a million events that takes seconds."
        raise Invalid((Fault(_WHERE, came, right, PAGE),)) from None
    try:
        data.remove_outdated_logs()
        settle(data)
        close_run(data, log)
    finally:
        log.close()


def _wanted(log: LogView, name: str) -> ImportRun:
    """Return a run that can be taken back.

    Raises:
        Invalid: It cannot.
    """
    found = import_runs(batches(log.read, log.begin, log.end), log.identity.public_name)
    run = found.get(name)
    if run is None:
        came = f'"{name[:64]}" is no run that the log has an account of.{nearest(name, found)}'
        cut = f" [history] keep cut what lay before log position {log.begin}, runs too." if log.begin else ""
        raise Invalid((Fault(_WHERE, f"{came}{cut}", _RIGHT_RUN, PAGE),))
    if run.undone_ms:
        when = datetime.fromtimestamp(run.undone_ms / 1_000, UTC)
        came = f"{name} was taken back already, on {when:%Y-%m-%d at %H:%M} UTC."
        raise Invalid((Fault(_WHERE, came, "A run that is listed as recorded.", PAGE),))
    first = min(begin for begin, _ in run.spans)
    if first < log.begin:
        came = f"{name} begins at log position {first}; [history] keep cut what lay before {log.begin}."
        right = "A run that the log still holds whole: of events that were cut only sums are left."
        raise Invalid((Fault(_WHERE, came, right, PAGE),))
    return run


def _settings(data: DataFolder, config: Config, run: ImportRun) -> FoldSettings:
    """Return the settings of the new state: without a compaction that looked at rows of the run."""
    settings = settings_of(data, config)
    dropped = compactions.dropped_by(data, settings)
    if dropped.before > min(begin for begin, _ in run.spans):
        return msgspec.structs.replace(settings, compaction=compactions.of_acts(dropped).name)
    return settings


def _write_state(data: DataFolder, settings: FoldSettings, made: Retracted, pace: Pace) -> str:
    """Fold the new log, and lay its state into it as a snapshot; return the digest."""
    reader = read_folder(new_log(data))
    fold = base_state.beginning(settings, compactions.dropped_by(data, settings), reader, pace)
    catch_up(fold, lambda after, limit: reader.read(after, limit, made.end), made.end, pace.say)
    return snapshots.write(new_log(data) / SNAPSHOTS_NAME, fold, made.identity, pace).digest


@contextmanager
def _removed_on_error(target: Path) -> Generator[None]:
    """Remove a log that did not become whole: it takes the room that a full disk lacks."""
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, target, ignore_errors=True)
        yield
        undo.pop_all()


def _put_in_service(data: DataFolder, disk: Disk, now: Remembered, span: Span) -> None:
    """Commit the new log under its settings; where that fails the old ones are in service as before.

    The settings come first, as a compaction that counted rows of the run is one of the old log alone.

    Raises:
        AppendFailed: Nobody knows which of the two logs the next start will find; it finds either without a compaction.
        OSError: The disk; the old log is in use still.
    """
    target = new_log(data)
    before = remembered(data) or Remembered(now.config, settings_of(data, now.config))
    try:
        with _removed_on_error(target):
            remember(data, now.config, now.settings, span)
        commit(data, disk)
    except (OSError, KeyboardInterrupt):
        if data.next_log() == target.with_suffix(""):
            shutil.rmtree(target, ignore_errors=True)
            remember(data, before.config, before.settings, span)
        raise


def _clean(data: DataFolder, config: Config, settings: FoldSettings) -> None:
    """Put the snapshot where it belongs, and remove what the new log replaced."""
    settle(data)
    data.remove_outdated_logs()
    identity = open_reader(data).identity
    snapshots.prune(data.snapshots, config.snapshots.keep, identity, {settings.version()})
    snapshots.remove_lost(data.snapshots)
