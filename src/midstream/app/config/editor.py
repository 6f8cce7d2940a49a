"""One setting of a configuration file changed in place: comments, order and spelling of all else stay as they are.

What is written is read again first. Unless it says exactly what the file said before with that one change, nothing is
written.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from midstream.app.config.reader import Told, parse_config
from midstream.app.config.schema import Config, Placement
from midstream.core.errors import Fault, Invalid
from midstream.events.whole_file import WholeFile

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
    import tomlkit  # 0.03 s where a file is edited

    before = parse_config(text)
    wanted = _changed(before, placement, weights, rank_offset)
    number = [each.name for each in before.placements].index(placement)
    document = tomlkit.parse(text)
    if "placements" not in document:  # the default one is written out
        document["placements"] = tomlkit.aot()
        document["placements"].append(tomlkit.table())
    table: Told = document["placements"][number]
    blend: Told = tomlkit.inline_table()
    blend.update(wanted.placements[number].weights)
    table["weights"], table["rank_offset"] = blend, wanted.placements[number].rank_offset
    changed = document.as_string()
    if parse_config(changed) != wanted:
        came = "The place of weights and rank_offset could not be told from its text."
        settings = f"weights = {blend.as_string()}; rank_offset = {rank_offset:g}"
        right = f"Write yourself, into the placement {placement}: {settings}"
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
        changed = changed.replace("\r\n", "\n").replace("\n", "\r\n")
    target = path.resolve()  # behind a link, which stays
    mode = stat.S_IMODE(target.stat().st_mode)
    with WholeFile(target, mode) as file:
        os.fchmod(file.fileno(), mode)  # without the process's mask
        file.write(changed.encode())


def _changed(config: Config, placement: str, weights: Mapping[str, float], rank_offset: float) -> Config:
    """Return the configuration as it should read afterwards."""

    def of(each: Placement) -> Placement:
        if each.name != placement:
            return each
        rounded = {name: round(weight, 4) for name, weight in weights.items()}
        return msgspec.structs.replace(each, weights=rounded, rank_offset=float(f"{rank_offset:g}"))

    return msgspec.structs.replace(config, placements=tuple(of(each) for each in config.placements))
