"""``midstream nodes``: what each node of a shared log says of itself, and whether their states are equal."""

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, say, table_of
from midstream.cli.help import CommandHelp

app = typer.Typer()


@app.command(
    "nodes",
    cls=CommandHelp,
    epilog="""
    midstream nodes
      Prints a line for each node of the shared log.
    """,
)
def command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the nodes of a shared log, and compare their states.

    Digests are compared at equal log positions of one fold version. The exit status is 1 when two differ.
    """
    from midstream.app.opening import config_of
    from midstream.app.replicas.nodes import nodes_of, rows_of

    found = nodes_of(folder, config_of(folder))
    if as_json:
        print_json(found)
    else:
        columns = ("node", "address", "log position", "lag ms", "fold version", "digest", "up", "is")
        out.print(table_of(columns, rows_of(found)))
        verdict = "DIFFERENT" if found.differences else "equal" if found.compared else "none has a digest in common yet"
        say(f"{found.compared} pairs of nodes compared at equal log positions: {verdict}")
        for each in found.differences:
            say(each)
    raise typer.Exit(1 if found.differences else 0)
