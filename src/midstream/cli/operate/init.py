"""``midstream init``: starter files of a shop."""

import shlex
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from midstream.cli.console import out
from midstream.cli.help import CommandHelp
from midstream.core.errors import Fault, Invalid

app = typer.Typer()
ITEM_COUNT, ACT_COUNT = 40, 300
_SEED = 20
_ATTRIBUTES = '[items.attributes]\nprice = "number"\ncategory = "category"\ncolour = "category"\n'
_PLAIN = 'selector = { kind = "top_k" }\n'
_EXPLORING = """# Below two kept places a slate is drawn, higher scores more often first (default: top_k, no draw).
# It costs a little order there, and buys that `midstream estimate` can say what another placement would have earned.
selector = { kind = "plackett_luce", temperature = 0.1, keep = 2 }
"""
_PLACEMENT = """
# A second place, filled by a source of one's own: the type Shelf in components.py beside this file.
[[placements]]
name = "shelf"
sources = [
    { kind = "custom", path = "components:Shelf", options = { limit = 10 } },
    { kind = "session_knn" },
]
"""


@app.command(
    "init",
    cls=CommandHelp,
    epilog="""
    midstream init shop
      Writes the files into the folder shop and prints the next command.
    """,
)
def command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder to write to; it is created if necessary.", file_okay=False)
    ] = Path(),
) -> None:
    """Write a starter configuration and example events.

    The files are midstream.toml with every setting and its default (but a selector that explores a little), and
    components.py with a custom source of candidates, and example.ndjson with events to import. Existing files are
    never overwritten.
    """
    files = starter_files(int(time.time() * 1_000))
    write_new(folder, files)
    for name, content in files.items():
        out.print(f"wrote {name}, {len(content.splitlines())} lines", markup=False)
    there = f"cd {shlex.quote(str(folder))}, " if folder.resolve() != Path.cwd() else ""
    out.print(f"next: {there}midstream import example.ndjson, then midstream serve", markup=False)


def starter_files(now_ms: int) -> dict[str, str]:
    """Return the files by name; the example's last event is a minute older than ``now_ms``."""
    from midstream.app.config.template import template
    from midstream.simulation.world import example_events

    events = example_events(_SEED, now_ms - 60_000, ITEM_COUNT, ACT_COUNT)
    return {
        "midstream.toml": template().replace("[items.attributes]\n", _ATTRIBUTES).replace(_PLAIN, _EXPLORING)
        + _PLACEMENT,
        "components.py": Path(__file__).with_name("starter_components.py").read_text("utf-8"),
        "example.ndjson": "".join(f"{msgspec.json.encode(event).decode()}\n" for event in events),
    }


def write_new(folder: Path, files: dict[str, str]) -> None:
    """Write files that are not there yet.

    Raises:
        Invalid: One is there; none was written.
    """
    right = "A folder without these files; move them away, or name another folder."
    present = [name for name in files if (folder / name).exists()]
    if present:
        raise Invalid(tuple(Fault(name, "The file is there.", right, "/docs/cli.md") for name in present))
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with (folder / name).open("x", encoding="utf-8") as file:
            file.write(content)
