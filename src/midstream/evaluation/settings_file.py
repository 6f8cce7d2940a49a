"""Settings file: options chosen on a validation part, written before any test is read."""

from pathlib import Path
from typing import TypeVar

import msgspec

from midstream.core.errors import Fault, Invalid, NotFound
from midstream.events.whole_file import OPEN_MODE, WholeFile

PAGE = "/docs/quality.md"
T = TypeVar("T")


def write_settings(path: Path, settings: object) -> None:
    """Write a settings file, whole or not at all; the folder is made.

    Args:
        path: Of the file; an existing one is replaced.
        settings: A dataclass or a msgspec type.

    Raises:
        OSError: The disk; an existing file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with WholeFile(path, OPEN_MODE) as file:
        file.write(msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n")


def read_settings(path: Path, kind: type[T]) -> T:
    """Read a settings file of one kind.

    Raises:
        NotFound: There is none.
        Invalid: It is not one.
    """
    if not path.is_file():
        raise NotFound(str(path))
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise Invalid((Fault(path.name, str(error), "a file that an evaluation wrote", PAGE),)) from error
