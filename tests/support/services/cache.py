"""The folder of fetched packages, outside the project: each is there whole and by its key of today, or not at all."""

import fcntl
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from tests.support.services.faults import Unavailable

_STAMP = "key"


def cache_folder() -> Path:
    """Return where packages are kept: ``$MIDSTREAM_SERVICES``, or a folder of the user's cache."""
    named = os.environ.get("MIDSTREAM_SERVICES")
    return Path(named).absolute() if named else Path.home() / ".cache" / "midstream-services"


def find(name: str, key: str) -> Path:
    """Return the folder of a package that was fetched with a key, such as the hash of its lock.

    Raises:
        Unavailable: It was not.
    """
    folder = _folder(name)
    stamp = folder / _STAMP
    if not stamp.is_file() or stamp.read_text("ascii") != key:
        message = f"{name} is not on this machine: scripts/services fetch {name} brings it"
        raise Unavailable(message)
    return folder


def fetch(name: str, key: str, bring: Callable[[Path], None]) -> Path:
    """Return the folder of a package; where it is missing, ``bring`` fills an empty one, which then takes its place.

    A fetch that was interrupted leaves nothing that is taken for a package; a second one at the same time waits.
    """
    folder = _folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{name}.lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        try:
            return find(name, key)
        except Unavailable:
            shutil.rmtree(folder, ignore_errors=True)
        with _empty(folder.with_name(f"{name}.part")) as made:
            bring(made)
            (made / _STAMP).write_text(key, "ascii")
            made.rename(folder)
    return folder


@contextmanager
def _empty(folder: Path) -> Generator[Path]:
    """Give an empty folder, of which nothing stays unless it was moved."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _folder(name: str) -> Path:
    return cache_folder() / "packages" / name
