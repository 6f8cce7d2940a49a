"""Layout of a data folder: the path of each of its files.

A rewrite of history writes a whole log into a folder of its own, ``log-1`` beside ``log``, and its ``log.json`` last,
with a higher generation. From then on that is the log; what it replaced is removed when nobody reads it any more.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from midstream.core.errors import Fault, Invalid, LogDamaged
from midstream.events.disk import Disk, RealDisk
from midstream.events.segments.log_identity import IDENTITY_NAME, read_identity
from midstream.events.segments.segments import lock_path
from midstream.events.whole_file import WholeFile

KEY_BYTES = 32
BASE_NAME = "base"
"""Folder inside that of a log: the base, which replaces events that were cut."""
_KEY_NAME = "key"
_LOG_NAME = "log"
_BEYOND_ALL = 1 << 63
"""Above any generation: a log whose identity was damaged is not passed by, so that opening it says so."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The paths of one engine's data. One process at a time has it open."""

    root: Path

    @property
    def log(self) -> Path:
        """Segments, history and base: the folder with the highest generation."""
        return max(self._logs(), key=_generation, default=self.root / _LOG_NAME)

    @property
    def lock(self) -> Path:
        """File with the process that has the lock of ``root``, which alone may write to these files."""
        return lock_path(self.root / _LOG_NAME)

    @property
    def history_lock(self) -> Path:
        """File with the process that seals, cuts or rewrites history, maybe beside a server."""
        return self.root / "history.lock"

    def next_log(self) -> Path:
        """Return the folder that a rewrite of history is to write into; it is not there yet."""
        return self.root / f"{_LOG_NAME}-{1 + max((_number(path) for path in self._logs()), default=0)}"

    def remove_outdated_logs(self) -> Sequence[Path]:
        """Remove logs that another replaced and rewrites that were broken off; return them. Hold the lock."""
        log = self.log
        outdated = [path for path in self._logs() if path != log]
        for path in outdated:
            (path / IDENTITY_NAME).unlink(missing_ok=True)  # so that what a crash leaves of it counts no more
            shutil.rmtree(path)
        return outdated

    @property
    def snapshots(self) -> Path:
        """Snapshots of the state."""
        return self.root / "snapshots"

    @property
    def compactions(self) -> Path:
        """Items dropped by compactions, a file each."""
        return self.root / "compactions"

    @property
    def models(self) -> Path:
        """Versions of models, by name."""
        return self.root / "models"

    @property
    def encoded_texts(self) -> Path:
        """Vectors of texts, by hash."""
        return self.root / "encoded-texts.sqlite"

    @property
    def configurations(self) -> Path:
        """Effective configurations by their hash, and which of them is in service."""
        return self.root / "config"

    @property
    def sockets(self) -> Path:
        """Sockets between the processes of one server, while it runs."""
        return self.root / "sockets"

    @property
    def receipts(self) -> Path:
        """Result of each rewrite of the log."""
        return self.root / "receipts"

    @property
    def import_rejected(self) -> Path:
        """Rows of the last import that are no events."""
        return self.root / "import-rejected.ndjson"

    @property
    def import_journal(self) -> Path:
        """Account of the import that is under way, or was broken off."""
        return self.root / "import-run.json"

    @property
    def topic_position(self) -> Path:
        """How far this node has copied a log that it shares with others; there where one was configured."""
        return self.root / "topic.json"

    @property
    def dead_letters(self) -> Path:
        """Rejected events with their reasons."""
        return self.root / "dead-letters.ndjson"

    def key(self, entropy: Callable[[int], bytes]) -> bytes:
        """Return the secret that tags request ids, made with ``entropy`` at the first start, readable by its owner.

        Raises:
            Invalid: The file is no key: with a part of it, or with nothing, anybody could make request ids.
        """
        path = self.root / _KEY_NAME
        if not path.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            with WholeFile(path) as file:
                file.write(entropy(KEY_BYTES))
        if flaw := self.key_flaw():
            raise Invalid((flaw,))
        return path.read_bytes()

    @property
    def has_key(self) -> bool:
        """Whether the key was made already."""
        return (self.root / _KEY_NAME).exists()

    def key_flaw(self) -> Fault | None:
        """Return the fault of the key file, None = none, or there is no file yet."""
        path = self.root / _KEY_NAME
        size = path.stat().st_size if path.exists() else KEY_BYTES
        is_file = path.is_file() or not path.exists()
        if size == KEY_BYTES and is_file:
            return None
        came = f"It has {size} bytes, so it was cut short or written over." if is_file else "It is no file."
        right = (
            f"{KEY_BYTES} bytes: put it back from a backup. Without one remove it: the next start makes another, and "
            "refuses request ids and cursors that were given out before."
        )
        return Fault(str(path), came, right, "/docs/data.md")

    def _logs(self) -> list[Path]:
        """Return the folders of logs, also those that are not whole, in the order they were made."""
        if not self.root.is_dir():
            return []
        return sorted((path for path in self.root.iterdir() if path.is_dir() and _number(path) >= 0), key=_number)


def lock_history(data: DataFolder, disk: Disk) -> int:
    """Take the lock of a log's history, which is that of the log's own folder: a rewritten log has another.

    Raises:
        FolderLocked: Another process seals, cuts or rewrites it.
        FileNotFoundError: There is no log.
    """
    while True:
        log = data.log
        lock = disk.lock(data.history_lock, log)
        if data.log == log:
            return lock
        disk.close(lock)  # a rewrite was committed in between, as one is at most in minutes


def _number(path: Path) -> int:
    """Return 0 for ``log``, n for ``log-n``, -1 for any other name."""
    name, _, number = path.name.partition("-")
    if name != _LOG_NAME:
        return -1
    if not number:
        return 0 if path.name == _LOG_NAME else -1
    return int(number) if number.isdecimal() and number.isascii() and number[0] != "0" else -1


def _generation(path: Path) -> int:
    """Return the generation of the log in a folder, -1 = there is none."""
    try:
        identity = read_identity(path, RealDisk())
    except LogDamaged:
        return _BEYOND_ALL
    return -1 if identity is None else identity.generation
