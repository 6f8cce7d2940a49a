"""``midstream size``: the memory of each table, model, graph and encoder, now and at its maximum."""

from pathlib import Path

import typer

from midstream.cli.console import HERE, AsJson, Folder, bytes_text, out, print_json, table_of
from midstream.cli.help import CommandHelp

app = typer.Typer()


@app.command(
    "size",
    cls=CommandHelp,
    epilog="""
    midstream size
      Prints a line for each of them: bytes now and at the maximum.
    """,
)
def command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Print the memory of each table, model, graph and encoder.

    Memory is computed for the events in the log, and for the maxima in midstream.toml.
    """
    sizes = sizes_of(folder)
    if as_json:
        print_json(sizes)
        return
    rows = [(name, bytes_text(each["bytes_now"]), bytes_text(each["bytes_max"])) for name, each in sizes.items()]
    out.print(table_of(("table", "now", "at the maximum"), rows))


def sizes_of(folder: Path) -> dict[str, dict[str, int]]:
    """Return the bytes of each table, of all tables, of each model, and of what is made of vectors, by name."""
    from midstream.app.opening import config_to_read
    from midstream.app.operate.memory_report import memory_of

    memory = memory_of(folder, config_to_read(folder))
    tables, models, vectors = (
        {name: {"bytes_now": each.bytes_now, "bytes_max": each.bytes_max} for name, each in sizes.items()}
        for sizes in (memory.tables, memory.models, memory.vectors)
    )
    total = {key: sum(each[key] for each in tables.values()) for key in ("bytes_now", "bytes_max")}
    return {**tables, "all tables": total, **models, **vectors}
