"""Content-addressed store of configurations: each version of a placement once, and a configuration as a list of parts.

``<hash>.json`` is a configuration: the hashes of its placements, in order, and of the rest of it, whose texts are in
``parts/<hash>.json``. So a change of one placement among many costs that placement and a line for each of the others,
however many configurations are kept. A part is removed when no configuration names it any more. Parts are written
before the configurations that name them, and removed after them: a crash leaves surplus parts, which the next removal
removes.
"""

import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec

from midstream.app.config.schema import Config, Placement
from midstream.events.file_modes import make_folder
from midstream.events.whole_file import write_whole
from midstream.state.settings import read_duration

T = TypeVar("T", Config, Placement)
PARTS_NAME = "parts"
_HASH = re.compile(r"[0-9a-f]{16,64}\Z")
_HASH_DIGITS = 32
"""Of SHA-256: 128 bits, so that nobody finds two placements of one name."""


class _Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a configuration's file."""

    rest: str
    """Hash of all but the placements."""
    placements: tuple[str, ...]


def write_config(folder: Path, config: Config) -> None:
    """Write a configuration, whole or not at all; an existing one stays as it is.

    Raises:
        OSError: The disk.
    """
    path = folder / f"{config.config_hash}.json"
    if path.exists():
        return
    parts = folder / PARTS_NAME
    make_folder(parts)
    rest = _write_part(parts, msgspec.structs.replace(config, placements=()))
    listed = _Listed(rest, tuple(_write_part(parts, each) for each in config.placements))
    write_whole(path, msgspec.json.encode(listed))


def read_config_of(folder: Path, config_hash: str) -> Config | None:
    """Return the configuration of a hash; None = it is incomplete, or does not match its name."""
    try:
        listed = _listed(folder / f"{config_hash}.json")
        placements = tuple(_part(folder, each, Placement) for each in listed.placements)
        config = msgspec.structs.replace(_part(folder, listed.rest, Config), placements=placements)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return config if config.config_hash == config_hash else None


def config_hashes(folder: Path) -> set[str]:
    """Return the hashes of the configurations that are there."""
    return {path.stem for path in folder.glob("*.json") if _is_hash(path.stem)}


def remove_configs(folder: Path, hashes: Iterable[str]) -> None:
    """Remove configurations, and the parts that no other one names. Cost: a small file read for each that stays."""
    gone = set(hashes)
    if not gone:
        return
    for each in gone:
        (folder / f"{each}.json").unlink(missing_ok=True)
    named: set[str] = set()
    for each in config_hashes(folder):
        try:
            listed = _listed(folder / f"{each}.json")
        except (OSError, msgspec.MsgspecError):
            continue  # nothing that it named can be told, and it is read no more
        named.update((listed.rest, *listed.placements))
    for path in (folder / PARTS_NAME).glob("*.json"):
        if path.stem not in named:
            path.unlink(missing_ok=True)


def _write_part(folder: Path, part: Config | Placement) -> str:
    """Write a part unless it is there; return its hash."""
    content = msgspec.json.encode(part, enc_hook=str, order="deterministic")
    digits = sha256(content).hexdigest()[:_HASH_DIGITS]
    path = folder / f"{digits}.json"
    if not path.exists() or path.stat().st_size != len(content):
        write_whole(path, content)
    return digits


def _part(folder: Path, digits: str, kind: type[T]) -> T:
    content = (folder / PARTS_NAME / f"{digits}.json").read_bytes() if _is_hash(digits) else b""
    return msgspec.json.decode(content, type=kind, dec_hook=read_duration)


def _listed(path: Path) -> _Listed:
    return msgspec.json.decode(path.read_bytes(), type=_Listed)


def _is_hash(text: str) -> bool:
    """Return whether a text is the name of such a file, and no path."""
    return _HASH.match(text) is not None
