"""Feast, in an environment of its own: what it answers to the questions in a folder.

``python benchmarks/feast_peer historical FOLDER`` joins ``events.parquet`` to ``questions.parquet`` and writes
``answers.parquet``. ``... online FOLDER sqlite|redis`` fills the online store from the tables in ``views.json``, reads
``requests.parquet`` one request after another, and writes ``values.parquet`` and ``told.json``. Files only: this
process knows nothing of ours. Needs ``pip install feast[redis,duckdb]``.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

from historical import historical
from online import STORES, online


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    past = commands.add_parser("historical")
    past.add_argument("folder", type=Path)
    past.add_argument("--order", choices=("event", "arrival"), default="event", help="in which rows are computed")
    past.add_argument("--stamp", choices=("event", "arrival"), default="event", help="what is their event timestamp")
    past.add_argument("--known-only", action="store_true", help="filter_by_created_timestamp")
    now = commands.add_parser("online")
    now.add_argument("folder", type=Path)
    now.add_argument("store", choices=tuple(STORES))
    now.add_argument("--redis", default="", metavar="HOST:PORT")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # of what Feast calls
    if options.command == "historical":
        historical(options.folder, options.order, options.stamp, known_only=options.known_only)
    else:
        told = online(options.folder, options.store, options.redis)
        (options.folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
