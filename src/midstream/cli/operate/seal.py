"""``midstream seal``: old segments become history now, and what is kept too long goes."""

import typer

from midstream.cli.console import HERE, AsJson, Folder, print_facts
from midstream.cli.progress import notify_of, progress

app = typer.Typer()


@app.command("seal")
def command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Make Parquet files of old segments, and remove what is kept too long.

    A server does this by itself, once an hour; beside one this seals and removes nothing that retention would. Where
    log time is ahead of the clock nothing is removed, and the exit status is 1.
    """
    import msgspec

    from midstream.app.opening import config_of
    from midstream.app.operate.seal import seal_folder

    with progress() as bar:
        done = seal_folder(folder, config_of(folder), notify_of(bar))
    print_facts(msgspec.structs.asdict(done), as_json=as_json)
    if done.kept_back:
        raise typer.Exit(1)
