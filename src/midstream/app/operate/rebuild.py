"""Rebuild and verification of the state from the log."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from midstream.app.config.schema import Config
from midstream.app.config_history import Span, remember, settings_of
from midstream.app.inspect.folder_view import LogView, beginning_of, state_from_the_beginning, state_of
from midstream.app.opening import DATA_NAME
from midstream.app.server_address import server_of
from midstream.app.server_refusals import faults_of, problem_of, server_client, unavailable
from midstream.core.errors import ConfigInvalid, LogRewritten, RebuildFailed, RebuildRunning, StoreUnavailable
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.child_process import Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.snapshots import compactions, snapshots
from midstream.engine.snapshots.base_state import everything
from midstream.engine.types import RebuildView
from midstream.events.disk import RealDisk
from midstream.state.settings import FoldSettings

if TYPE_CHECKING:
    import httpx

ANSWER_S_MAX = 60.0
"""An order reads a file and loads components of one's own before it answers."""
_POLL_S = 0.2
_PER_MILLE = 1_000


@dataclass(frozen=True, slots=True)
class Verified:
    """Two ways to one state."""

    log_position: LogPosition
    from_the_beginning: str
    """Digest of the fold over the whole log."""
    from_snapshot: str
    """Digest of the newest good snapshot and the fold over what lies after it."""
    snapshot_position: LogPosition
    """0 = there is no good one, so both ways are the same."""
    refused_snapshots: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Whether both ways lead to the same state, as they should."""
        return self.from_the_beginning == self.from_snapshot


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A snapshot of the whole log."""

    log_position: LogPosition
    digest: str
    removed: tuple[str, ...]
    """Older snapshots that were too many."""
    dropped_items: int = 0
    """Deleted items that have no slot any more."""
    acts_taken_back: int = 0
    """Acts that were taken back, and are passed by."""


def verify(folder: Path, config: Config, notify: Notify = nobody) -> Verified:
    """Fold a log in both ways and digest what comes out. Changes nothing; a server may have the folder open.

    Raises:
        LogDamaged: The log cannot be trusted.
        LogRewritten: A server rewrote it meanwhile.
    """
    log = LogView(folder)
    view = state_of(folder, config, log)
    digest = view.fold.digest()
    whole = state_from_the_beginning(folder, config, log, notify)
    if log.is_rewritten:
        message = "the log was rewritten while it was read twice, so the two are of different writings; verify again"
        raise LogRewritten(message)
    return Verified(log.end, whole.digest(), digest, view.snapshot_position, view.refused_snapshots)


def rebuild(folder: Path, config: Config, notify: Notify = nobody, *, compact: bool = False) -> Rebuilt:
    """Fold a log from the beginning and write the state as its newest snapshot.

    Args:
        folder: Nobody has it open.
        config: Decides the state.
        notify: Told how far it is.
        compact: Leave out the items that are deleted and that nothing has named since.

    Raises:
        FolderLocked: Another process has the folder open.
        LogDamaged: The log cannot be trusted.
        OSError: The disk.
    """
    data = DataFolder(folder / DATA_NAME)
    disk = RealDisk()
    disk.make_folder(data.log)
    lock = disk.lock(data.lock, data.root)
    try:
        log = LogView(folder)
        settings = _compacted(folder, config, log, notify) if compact else _taken_back(data, config, log, notify)
        fold = beginning_of(data, settings, log)
        catch_up(fold, log.read, log.end, notify)
        if log.end == 0:
            return Rebuilt(log.end, fold.digest(), ())
        manifest = snapshots.write(data.snapshots, fold, log.identity)
        each = config.snapshots
        removed = snapshots.prune(data.snapshots, each.keep, log.identity, {settings.version()}, each.hourly)
        remember(data, config, settings, Span(log.begin, log.end))
        compactions.prune(data, {settings.compaction})
    finally:
        disk.close(lock)
    return Rebuilt(log.end, manifest.digest, tuple(removed), len(fold.dropped.item_hash), len(fold.dropped.acts))


def rebuild_beside(folder: Path, notify: Notify = nobody, *, compact: bool = False) -> RebuildView:
    """Have the server that has the folder open read ``midstream.toml`` again; wait until it is in service.

    Raises:
        StoreUnavailable: No server answers.
        ConfigInvalid: The file cannot be used.
        RebuildRunning: One is running already.
        RebuildFailed: It failed; the earlier state stays in service.
    """
    url = server_of(DataFolder(folder / DATA_NAME))
    if url is None:
        message = "the folder is open in a process that serves no HTTP; end that process first"
        raise StoreUnavailable(message)
    with server_client(url, ANSWER_S_MAX) as client:
        view = _view(client.post("/v1/rebuild", params={"compact": "true"} if compact else {}))
        while view.change == "state" and view.state not in {"done", "failed"}:
            notify(view.state.replace("_", " "), int(view.progress * _PER_MILLE), _PER_MILLE)
            time.sleep(_POLL_S)
            view = _view(client.get("/v1/rebuild"))
    if view.state == "failed":
        raise RebuildFailed(view.reason)
    return view


def _view(answer: "httpx.Response") -> RebuildView:
    """Return what the server says, or raise what it refuses as what it is here."""
    if answer.is_success:
        return msgspec.json.decode(answer.content, type=RebuildView)
    problem = problem_of(answer)
    if problem is not None and answer.status_code == HTTPStatus.CONFLICT:
        raise RebuildRunning(problem.detail)
    if problem is not None and problem.errors:
        raise ConfigInvalid(faults_of(problem))
    raise unavailable(answer, "the server")


def _compacted(folder: Path, config: Config, log: LogView, notify: Notify) -> FoldSettings:
    """Choose the items that are to be dropped; return the settings that say so."""
    data = DataFolder(folder / DATA_NAME)
    fold = state_of(folder, config, log).fold
    key = fold.vocabulary.id_key
    compactions.write_candidates(data, fold.vocabulary.item_hash[fold.items.deleted()], fold.dropped)

    choice = compactions.choose(data, _every(log, notify), log.end, key)
    return msgspec.structs.replace(fold.settings, compaction=choice.name)


def _taken_back(data: DataFolder, config: Config, log: LogView, notify: Notify) -> FoldSettings:
    """Return the settings, under which the acts that were taken back are passed by.

    Where retention has cut the log they stay as they are: a state of another version would lose the counts of what was
    cut.
    """
    settings = settings_of(data, config)
    if log.begin:
        return settings
    found = compactions.take_back(data, _every(log, notify), compactions.dropped_by(data, settings))
    return msgspec.structs.replace(settings, compaction=found.name)


def _every(log: LogView, notify: Notify) -> Iterator[tuple[LogPosition, EventBatch]]:
    """Yield all events that a log holds, with those that stand for what was cut."""
    for first, batch in () if log.reader is None else everything(log.reader, log.end):
        yield first, batch
        notify("choosing", first + len(batch), log.end)
