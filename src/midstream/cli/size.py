"""``midstream size``: the memory of each table, now and at its maximum."""

from pathlib import Path

import typer

from midstream.cli.console import HERE, AsJson, Folder, bytes_text, out, print_json, table_of

app = typer.Typer()


@app.command("size")
def command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Print the memory of each table.

    As the log fills it now, and at the maxima of midstream.toml.
    """
    sizes = sizes_of(folder)
    if as_json:
        print_json(sizes)
        return
    rows = [(name, bytes_text(each["bytes_now"]), bytes_text(each["bytes_max"])) for name, each in sizes.items()]
    out.print(table_of(("table", "now", "at the maximum"), rows))


def sizes_of(folder: Path) -> dict[str, dict[str, int]]:
    """Return the bytes of each table and of all, by name."""
    from midstream.app.feature_views import table_sizes
    from midstream.app.running import config_of

    sizes = table_sizes(folder, config_of(folder))
    found = {name: {"bytes_now": each.bytes_now, "bytes_max": each.bytes_max} for name, each in sizes.items()}
    total = {key: sum(each[key] for each in found.values()) for key in ("bytes_now", "bytes_max")}
    return {**found, "all tables": total}
