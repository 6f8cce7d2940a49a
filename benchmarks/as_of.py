"""Features of the past: 100,000 questions about 100 items each, 40 columns, over a log of 10 M events, to Parquet.

The world of the other benchmarks with a category an item, in a data folder on disk; the questions are spread evenly
over the log, each asked by who acts there, and come shuffled. Columns: 8 fading counts and 8 windows of the item, 4
rates against everybody's, 4 counts of the user, 4 of the user and the category, 2 of the user and the item, 2 distinct
counts, 2 matches with recent items, 4 of the request, 2 expressions over others. The bare fold of the same log is
printed beside it. Each part runs in a process of its own, so that its memory is its own; about 5 minutes at full size.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from world import World, batches, interactions, zipf_items

from midstream.app.config.reader import parse_config
from midstream.app.inspect.folder_view import LogView
from midstream.app.point_in_time.api import LookupRequest, write_answers
from midstream.app.point_in_time.lookup import AsOfOptions
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches as read_batches
from midstream.engine.log_opening import open_log
from midstream.events.schema import Event, build
from midstream.features.as_of import gathered
from midstream.features.declared import declared
from midstream.state.fold import Fold

COLUMNS = 40
STEP = 10_000


def toml() -> str:
    """Return a configuration that declares the 40 columns."""
    hours = (1, 2, 6, 12, 24, 48, 168, 720)
    every = [
        {"name": "fading", "kind": "count", "actions": ["view"], "half_life": [f"{6 * (n + 1)}h" for n in range(8)]},
        {"name": "window", "kind": "count", "actions": ["view"], "windows": [f"{n}h" for n in hours]},
        *(
            {"name": f"rate_{n}", "kind": "rate", "actions": ["purchase"], "per": ["view"], "half_life": f"{n + 1}d"}
            for n in range(4)
        ),
        _fading("user", "user", (12, 24, 36, 48)),
        {**_fading("user_category", "user_attribute", (48, 96, 144, 192)), "attribute": "category"},
        _fading("user_item", "user_item", (24, 48)),
        {"name": "visitors", "kind": "unique_count", "actions": ["view"], "of": "user"},
        {"name": "seen_items", "kind": "unique_count", "scope": "user", "actions": ["view"], "of": "item"},
        {"name": "match", "kind": "match", "attribute": "category"},
        {"name": "match_user", "kind": "match", "scope": "user", "attribute": "category"},
        *({"name": part, "kind": "local_time", "part": part} for part in ("hour", "weekday", "time_of_day", "day")),
        {"name": "lift", "kind": "expression", "text": "log(fading_fading_6h / window_30d)"},
        {"name": "taste", "kind": "expression", "text": "user_category_fading_2d / user_fading_12h"},
    ]
    lines = ['[items.attributes]\ncategory = "category"\n']
    for each in every:
        lines += ["[[features]]", *(f"{name} = {json.dumps(value)}" for name, value in each.items()), ""]
    return "\n".join(lines)


def _fading(name: str, scope: str, hours: tuple[int, ...]) -> dict[str, object]:
    """Return the declaration of counts that fade."""
    half_lives = [f"{each}h" for each in hours]
    return {"name": name, "kind": "count", "scope": scope, "actions": ["view"], "half_life": half_lives}


def prepare(folder: Path, world: World, questions: int, items: int) -> None:
    """Write the log, the configuration and the questions."""
    (folder / "midstream.toml").write_text(toml())
    log = open_log(DataFolder(folder / "data"), bytes(16), 64 << 20)
    catalogue = [
        Event(3, 1, item_id=f"i{item:07d}", body=b'{"category":"c%d"}' % (item % 200), log_time_ms=1)
        for item in range(world.items)
    ]
    for first in range(0, len(catalogue), STEP):
        log.append(build(catalogue[first : first + STEP]))
    for batch in batches(world, STEP):
        log.append(batch)
    end = log.end
    log.close()
    rng = np.random.default_rng(3)
    place = rng.permutation(np.linspace(world.items, end, questions).astype(np.int64))
    ids = pa.array([f"i{number:07d}" for number in range(world.items)])
    wanted = ids.take(pa.array(zipf_items(rng, world, questions * items)))
    user, _, session = interactions(world)
    act = np.clip(place - world.items, 0, world.events - 1)
    table = pa.table(
        {
            "log_position": place,
            "user_id": [f"u{each:07d}" for each in user[act].tolist()],
            "session_id": [f"s{each:07d}" for each in session[act].tolist()],
            "items": pa.ListArray.from_arrays(pa.array(np.arange(questions + 1, dtype=np.int32) * items), wanted),
        }
    )
    pq.write_table(table, folder / "questions.parquet")


def bare(folder: Path) -> dict[str, float]:
    """Fold the log with the cells and ask nothing."""
    log = LogView(folder)
    fold = Fold(parse_config((folder / "midstream.toml").read_text()).fold_settings())
    began = time.perf_counter()
    for first, batch in gathered(read_batches(log.read, LogPosition(0), log.end)):
        fold.apply(first, batch)
    return {"s": time.perf_counter() - began, "events": fold.log_position}


def whole(folder: Path) -> dict[str, float]:
    """Answer all questions."""
    began = time.perf_counter()
    wanted = LookupRequest(folder / "questions.parquet", None, folder / "out.parquet", None, None, AsOfOptions())
    summary = write_answers(folder, wanted)
    return {
        "s": time.perf_counter() - began,
        "rows": summary.rows,
        "out_bytes": (folder / "out.parquet").stat().st_size,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--part")
    options = parser.parse_args()
    if options.part:
        found = {"bare": bare, "whole": whole}[options.part](options.folder)
        print(
            json.dumps(
                {**found, "cpu_s": time.process_time(), "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
            )
        )
        return
    config = parse_config(toml())
    assert len(declared(config.features, config.items.attributes).names) == COLUMNS
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or Path(place)
        if not (folder / "questions.parquet").exists():
            world = World(events=options.events, sessions=options.events // 5)
            prepare(folder, world, options.questions, options.items)
        for part in ("bare", "whole"):
            command = [sys.executable, __file__, "--folder", str(folder), "--part", part]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found = json.loads(told)
            took = f"{found.pop('s'):.1f} s, {found.pop('cpu_s'):.1f} s of CPU"
            print(f"{part}: {took}, peak {found.pop('peak_kib') / 1024:,.0f} MiB, {found}", flush=True)


if __name__ == "__main__":
    main()
