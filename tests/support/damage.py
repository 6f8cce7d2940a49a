"""Disk damage: one flipped bit, or an end that is gone; each undone again."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BITS = 8


@dataclass(frozen=True, slots=True)
class DamagedPlace:
    """One place of one file."""

    file: str
    place: int
    """Byte of the flipped bit, or the length that is left."""
    bit: int | None
    """Of the byte, 0 to 7; None = the file is cut short."""


def damages(folder: Path, flips: int, cuts: int, seed: int) -> list[DamagedPlace]:
    """Return so many flipped bits and cuts of the files of a folder: each file in turn, then places by their size.

    Of the flips at most half go over the files in turn, so that large ones are not passed over for many small ones.
    """
    dice = np.random.default_rng(seed)
    sizes = {each.name: each.stat().st_size for each in sorted(folder.iterdir()) if each.stat().st_size}
    names, share = list(sizes), np.array(list(sizes.values())) / sum(sizes.values())
    in_turn = max(len(names), flips // 2)
    found: list[DamagedPlace] = []
    for number in range(flips):
        name = names[number % len(names)] if number < in_turn else names[int(dice.choice(len(names), p=share))]
        found.append(DamagedPlace(name, int(dice.integers(sizes[name])), int(dice.integers(BITS))))
    for number in range(cuts):
        name = names[number % len(names)]
        found.append(DamagedPlace(name, int(dice.integers(sizes[name])), None))
    return found


def damage_file(folder: Path, damage: DamagedPlace) -> None:
    """Do it, in place: a file that is replaced would be written out at once."""
    with (folder / damage.file).open("r+b") as file:
        if damage.bit is None:
            file.truncate(damage.place)
            return
        file.seek(damage.place)
        (byte,) = file.read(1)
        file.seek(damage.place)
        file.write(bytes([byte ^ 1 << damage.bit]))


@contextmanager
def damaged(folder: Path, damage: DamagedPlace) -> Generator[None]:
    """Have a file damaged within a block; it is whole again after it."""
    whole = (folder / damage.file).read_bytes()
    damage_file(folder, damage)
    try:
        yield
    finally:
        with (folder / damage.file).open("r+b") as file:
            file.write(whole)
