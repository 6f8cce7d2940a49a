"""Edit of one setting of a configuration file in place: comments, order and spelling stay.

The new text is parsed before it is written. Unless it differs from the old one by that one change alone, nothing is
written: a file with an unsupported layout is left to its owner.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from midstream.app.config.reader import parse_config
from midstream.app.config.schema import Config, Placement
from midstream.core.errors import ConfigInvalid, Fault, Invalid
from midstream.events.whole_file import WholeFile

_HEADER = re.compile(r"^\s*\[\[?(?P<path>[^\]]+)\]\]?\s*(#.*)?$")
_PAGE = "/docs/quality.md"


def with_blend(text: str, placement: str, weights: Mapping[str, float], rank_offset: float) -> str:
    """Return the text of a configuration in which a placement blends with these weights and this offset.

    Args:
        text: TOML, valid.
        placement: Name of one of its ``[[placements]]``.
        weights: By source.
        rank_offset: Added to places.

    Raises:
        Invalid: The file is laid out in a way in which the setting cannot be placed for certain.
    """
    before = parse_config(text)
    lines = text.splitlines()
    written = ", ".join(f"{_key(name)} = {weight:.4f}" for name, weight in weights.items())
    settings = {"weights": f"weights = {{ {written} }}", "rank_offset": f"rank_offset = {rank_offset:g}"}
    changed = "\n".join(_placed(lines, _number(before, placement), settings)) + "\n"
    wanted = _changed(before, placement, dict(weights), rank_offset)
    try:
        is_right = parse_config(changed) == wanted
    except ConfigInvalid:
        is_right = False
    if not is_right:
        came = "The place of weights and rank_offset could not be told from its text."
        right = f"Write yourself, into the placement {placement}: {'; '.join(settings.values())}"
        raise Invalid((Fault("midstream.toml", came, right, _PAGE),))
    return changed


def write_blend(path: Path, placement: str, weights: Mapping[str, float], rank_offset: float) -> None:
    """Change the file itself; afterwards, and whenever it fails, one of the two is whole.

    A link stays one, the file keeps its mode and the ends of its lines.

    Raises:
        Invalid: As of ``with_blend``; the file was not touched.
    """
    text = path.read_bytes().decode()
    changed = with_blend(text, placement, weights, rank_offset)
    if "\r\n" in text:
        changed = changed.replace("\n", "\r\n")
    target = path.resolve()  # behind a link, which stays
    mode = stat.S_IMODE(target.stat().st_mode)
    with WholeFile(target, mode) as file:
        os.fchmod(file.fileno(), mode)  # without the process's mask
        file.write(changed.encode())


def _number(config: Config, placement: str) -> int:
    return [each.name for each in config.placements].index(placement)


def _changed(config: Config, placement: str, weights: dict[str, float], rank_offset: float) -> Config:
    """Return the configuration as it should read afterwards."""

    def of(each: Placement) -> Placement:
        if each.name != placement:
            return each
        rounded = {name: round(weight, 4) for name, weight in weights.items()}
        return msgspec.structs.replace(each, weights=rounded, rank_offset=float(f"{rank_offset:g}"))

    return msgspec.structs.replace(config, placements=tuple(of(each) for each in config.placements))


def _placed(lines: list[str], number: int, settings: Mapping[str, str]) -> list[str]:
    """Return the lines with the settings in the table of the placement of that number."""
    starts = [row for row, line in enumerate(lines) if _path(line) == "placements"]
    if number >= len(starts):  # the file states no placement: the default one is written out
        return [*lines, "", "[[placements]]", *settings.values()]
    begin = starts[number]
    end = next((row for row in range(begin + 1, len(lines)) if _path(lines[row])), len(lines))
    body = list(lines[begin + 1 : end])
    for key, line in settings.items():
        rows = [row for row, each in enumerate(body) if re.match(rf"\s*{key}\s*=", each)]
        if rows:
            body[rows[0]] = line
        else:
            body.insert(0, line)
    return [*lines[: begin + 1], *body, *lines[end:]]


def _path(line: str) -> str:
    """Return the path in a table's header, empty for any other line."""
    found = _HEADER.match(line)
    return "" if found is None else found["path"].strip()


def _key(name: str) -> str:
    """Return a name as a TOML key."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else msgspec.json.encode(name).decode()
