"""Feast, in an environment of its own: what it answers to the questions in a folder.

``python benchmarks/feast_peer historical FOLDER`` joins ``events.parquet`` to ``questions.parquet`` and writes
``answers.parquet``. Files only: this process knows nothing of ours. Needs ``pip install feast[redis,duckdb]``.
"""

import argparse
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")  # of Feast's own modules, when they are imported

from historical import historical  # noqa: E402


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    past = commands.add_parser("historical")
    past.add_argument("folder", type=Path)
    past.add_argument("--order", choices=("event", "arrival"), default="event", help="in which rows are computed")
    past.add_argument("--stamp", choices=("event", "arrival"), default="event", help="what is their event timestamp")
    past.add_argument("--known-only", action="store_true", help="filter_by_created_timestamp")
    options = parser.parse_args()
    historical(options.folder, options.order, options.stamp, known_only=options.known_only)


if __name__ == "__main__":
    sys.exit(main())
