"""``midstream seal``: seals old segments now, and applies retention."""

import typer

from midstream.cli.console import HERE, AsJson, Folder, print_facts
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress

app = typer.Typer()


@app.command(
    "seal",
    cls=CommandHelp,
    epilog="""
    midstream seal
      Prints what was sealed and removed.
    """,
)
def command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Compress old log segments and apply retention.

    Segments older than [history] hot become Parquet files, and events older than [history] keep are removed. A server
    does both once an hour. While a server runs, this command removes nothing. When the log time is ahead of the clock
    nothing is removed and the exit status is 1.
    """
    import msgspec

    from midstream.app.opening import config_of
    from midstream.app.operate.seal import seal_folder

    with progress() as bar:
        done = seal_folder(folder, config_of(folder), notify_of(bar))
    print_facts(msgspec.structs.asdict(done), as_json=as_json)
    if done.kept_back:
        raise typer.Exit(1)
