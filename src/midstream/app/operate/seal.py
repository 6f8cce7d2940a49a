"""Sealing of old segments on request, in a closed folder or beside the server that has it open."""

from pathlib import Path

from midstream.app.config.schema import Config
from midstream.app.config_history import settings_of
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME, Outside
from midstream.core.errors import FolderLocked
from midstream.engine.child_process import Notify, Pace, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.history import worker
from midstream.engine.history.worker import SealOrder, SealReport
from midstream.events.disk import RealDisk
from midstream.state.settings import encode_settings


def seal_folder(folder: Path, config: Config, notify: Notify = nobody) -> SealReport:
    """Seal what is old enough; in a folder that no server has open cut what is kept too long, too.

    A server cuts by itself: the base that the cut needs is of the state that it serves.

    What retention keeps back because log time is ahead of the clock is said in ``kept_back``.

    Raises:
        FolderLocked: Another process seals, cuts or rewrites the history.
        LogDamaged: The log cannot be trusted; nothing of it was removed.
        OSError: The disk.
    """
    data, disk = DataFolder(folder / DATA_NAME), RealDisk()
    if not data.root.is_dir():
        return SealReport(0, 0, 0, 0, 0, 0, 0)
    try:
        lock = disk.lock(data.lock, data.root)
    except FolderLocked:
        return _seal(folder, config, 0, notify)
    try:
        return _seal(folder, config, config.history.keep_ms, notify)
    finally:
        disk.close(lock)


def _seal(folder: Path, config: Config, keep_ms: int, notify: Notify) -> SealReport:
    data = DataFolder(folder / DATA_NAME)
    # What is sealed lies before the last segment, so it is durable, whatever has become of the end.
    end = LogView(folder).end
    if end == 0:
        return SealReport(0, 0, 0, 0, 0, 0, 0)
    settings = encode_settings(settings_of(data, config))
    hot_ms, now_ms = config.history.hot.ms, Outside().clock()
    order = SealOrder(str(data.root), end, hot_ms, keep_ms, settings, now_ms, hurried=True)
    return worker.run(order, Pace(notify, hurried=True))
