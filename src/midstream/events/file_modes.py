"""Access modes of the files of a data folder: one rule, by a file's name.

Secrets and raw data of senders are readable by their owner alone. The rest, which is personal data in forms of our own,
may be read by a group that the operator chooses, for backups; others read nothing. The umask may remove more. A file
with wider permissions is narrowed when it is opened for writing.
"""

import os
from pathlib import Path

PRIVATE = 0o600
SHARED = 0o640
FOLDER = 0o750
_SECRETS = frozenset({"key", "keys.json", "server.url"})
_AS_IT_CAME = ".ndjson"
"""Dead letters and rejected rows, the older and the half-written ones of them too."""
_UNFINISHED = (".new", ".writing")


def file_mode(path: Path) -> int:
    """Return the mode of a file.

    Example:
        >>> [oct(file_mode(Path(each))) for each in ("key", "dead-letters.ndjson.old", "0001.segment")]
        ['0o600', '0o600', '0o640']
    """
    name = path.name
    for each in _UNFINISHED:
        name = name.removesuffix(each)
    return PRIVATE if name in _SECRETS or _AS_IT_CAME in name else SHARED


def open_file(path: Path, flags: int) -> int:
    """Open a file to be written, created where there is none and with no more than its mode; return the descriptor.

    Args:
        path: Of the file.
        flags: As ``os.open`` takes them, beside those to create it and to keep it from programs that are started.

    Raises:
        OSError: The disk; with ``O_EXCL`` also that it is there.
    """
    mode = file_mode(path)
    descriptor, is_new = _opened(path, flags | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        if is_new:
            keep_owner(descriptor, path)
        status = os.fstat(descriptor)
        if status.st_mode & 0o777 & ~mode and status.st_uid == os.geteuid():
            os.fchmod(descriptor, status.st_mode & mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _opened(path: Path, flags: int, mode: int) -> tuple[int, bool]:
    """Return the descriptor, and whether the file is new and in its folder itself, so no link led elsewhere."""
    try:
        return os.open(path, flags | os.O_EXCL, mode), True
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return os.open(path, flags, mode), False


def keep_owner(descriptor: int, path: Path) -> None:
    """Give a file that root writes to the owner of its folder, so that a server of that user can read it."""
    if os.geteuid() == 0:
        status = path.parent.stat()
        os.fchown(descriptor, status.st_uid, status.st_gid)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing.

    Raises:
        OSError: The disk, or a file is in its place.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    make_missing(path)


def make_missing(path: Path) -> None:
    """Make a folder below one that is there, unless there is one already.

    Raises:
        OSError: The disk, or a file is in its place.
    """
    try:
        path.mkdir(mode=FOLDER)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    give_folder(path)


def give_folder(path: Path) -> None:
    """Give a folder that root made to the owner of the one that it is in."""
    if os.geteuid() == 0:
        status = path.parent.stat()
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
