"""Folders for the servers of the suite, written by the package of one version: ``prepare.py lean|composed FOLDER``."""

import argparse
from pathlib import Path

import composed
import serving
from world import World


def main() -> None:
    """Write one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("lean", "composed"))
    parser.add_argument("folder", type=Path)
    for name in ("events", "sessions", "users", "items", "trees"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--keeps-config", action="store_true", help="the folder has its configuration")
    told = parser.parse_args()
    world = World(items=told.items, users=told.users, sessions=told.sessions, events=told.events)
    if told.kind == "composed":
        made = composed.prepare(told.folder, world, told.trees)
    else:
        made = serving.prepare(told.folder, world, None if told.keeps_config else serving.CONFIG)
    for row in made:
        print(row.what, row.value, flush=True)


if __name__ == "__main__":
    main()
