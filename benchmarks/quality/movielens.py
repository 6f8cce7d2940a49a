"""MovieLens 100K as a shop: films that users liked, with genres, the last part of each user's acts held out.

The set lies in the wheel ``recbole``, which need not be installed. A rating of 4 or 5 is an act; others are left out.
The last fifth of each user's acts by time is held out, two at least. So what others did later is known to a ranking,
as it is not in service: figures compare methods, and do not foretell a shop.
"""

import json
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from midstream.app.ingest.import_file import import_file
from midstream.app.opening import config_of
from midstream.core.errors import Fault, Invalid

ACTS_FILE, ITEMS_FILE = (f"recbole/dataset_example/ml-100k/ml-100k.{each}" for each in ("inter", "item"))
LIKED_MIN = 4.0
HELD_OUT = 0.2
ACTS_MIN = 10
"""Of a user, else all of its acts are learned."""
NAME = "movielens-100k"
PAGE = "/docs/quality.md"
LATER_MS = 20 * 365 * 86_400_000
"""Twenty years: the ratings are of 1997 and 1998, and an engine takes no time before 2000."""


@dataclass(frozen=True, slots=True)
class MovieLens:
    """Acts of each user by time, and genres of each film."""

    learned: Mapping[str, tuple[tuple[int, str], ...]]
    """User to milliseconds and item, oldest first."""
    held_out: Mapping[str, frozenset[str]]
    """User to items, of users with ``ACTS_MIN`` acts."""
    genres: Mapping[str, tuple[str, ...]]


def read_movielens(wheel: Path) -> MovieLens:
    """Return the set from the wheel."""
    acts: dict[str, list[tuple[int, str]]] = defaultdict(list)
    with zipfile.ZipFile(wheel) as archive:
        for line in archive.read(ACTS_FILE).decode().splitlines()[1:]:
            user, item, rating, seconds = line.split("\t")
            if float(rating) >= LIKED_MIN:
                acts[user].append((int(float(seconds) * 1_000) + LATER_MS, item))
        rows = (line.split("\t") for line in archive.read(ITEMS_FILE).decode().splitlines()[1:])
        genres = {item: tuple(names.split()) for item, _, _, names in rows}
    return split({user: sorted(own) for user, own in acts.items()}, genres)


def split(acts: Mapping[str, list[tuple[int, str]]], genres: Mapping[str, tuple[str, ...]]) -> MovieLens:
    """Return the set with the last acts of each user held out."""
    learned: dict[str, tuple[tuple[int, str], ...]] = {}
    held_out: dict[str, frozenset[str]] = {}
    for user, own in acts.items():
        count = max(2, round(HELD_OUT * len(own))) if len(own) >= ACTS_MIN else 0
        learned[user] = tuple(own[: len(own) - count])
        if count:
            held_out[user] = frozenset(item for _, item in own[len(own) - count :])
    return MovieLens(learned, held_out, genres)


def write_shop(data: MovieLens, folder: Path, config: str) -> None:
    """Make a shop of the films and of what is learned, in the order of time.

    Raises:
        Invalid: The engine does not take all of it.
    """
    (folder / "midstream.toml").write_text(config, "utf-8")
    path = folder / "acts.ndjson"
    first = min(time_ms for own in data.learned.values() for time_ms, _ in own)
    films = (
        {"type": "item", "item_id": item, "time": first, "attributes": {"genres": list(names)}}
        for item, names in data.genres.items()
    )
    acts = sorted((time_ms, user, item) for user, own in data.learned.items() for time_ms, item in own)
    rows = ({"type": "view", "user_id": user, "item_id": item, "time": time_ms} for time_ms, user, item in acts)
    with path.open("w", encoding="utf-8") as file:
        for row in (*films, *rows):
            file.write(f"{json.dumps(row)}\n")
    done = import_file(folder, config_of(folder), path)
    if done.recorded != done.rows:
        came = f"{done.recorded} of {done.rows} rows were recorded."
        raise Invalid((Fault(NAME, came, "All of them.", PAGE), *(group.first for group in done.faults)))
