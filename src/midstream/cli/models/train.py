"""``midstream train``: fits a model on the log, and publishes it as a new version."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import (
    HERE,
    AsJson,
    Folder,
    ended_by_sigterm,
    out,
    print_facts,
    print_json,
    say,
    say_left_out,
)
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress

if TYPE_CHECKING:
    from midstream.app.training.fit import Trained

app = typer.Typer()
Champion = Annotated[bool, typer.Option("--promote", help="Put the new version into service as the champion.")]
_VERDICTS = {"better": "better than", "worse": "worse than", "open": "not seen to be better or worse than"}
Start = Annotated[
    str,
    typer.Option("--from", metavar="VERSION", help="Warm start from an alias or a version; kinds als and ftrl only."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a model in [[models]] of midstream.toml.")]


@app.command(
    "train",
    cls=CommandHelp,
    epilog="""
    midstream train taste
      Prints the metrics of the new version, and the command that comes next.
    midstream train taste --promote
    """,
)
def command(
    name: Name, champion: Champion = False, start: Start = "", folder: Folder = HERE, as_json: AsJson = False
) -> None:
    """Fit a model on the log and publish a new version.

    The new version is compared with the one in service on the newest interactions. Without --promote it is not
    in service yet. A server may have the folder open. After Ctrl-C nothing is published.
    """
    from midstream.app.opening import config_of
    from midstream.app.training.run import train, train_and_promote

    work = train_and_promote if champion else train
    try:
        with ended_by_sigterm(), progress() as bar:
            done = work(folder, config_of(folder), name, notify_of(bar), start)
    except KeyboardInterrupt:
        say(f"ended: nothing of {name} was published, and what was begun is removed")
        raise typer.Exit(130) from None
    print_trained(done, as_json=as_json)
    if not as_json:
        for line in next_steps(done, folder, is_promoted=champion):
            out.print(line, markup=False)


def print_trained(done: "Trained", *, as_json: bool) -> None:
    """Print the size of the training data, the metrics, and the name of the version."""
    if as_json:
        print_json(done)
        return
    # A ranker is fitted on rows of requests and judged by others: a name that both have says which it means.
    judged = {f"validation.{name}" if name in done.counts else name: value for name, value in done.metrics.items()}
    facts: dict[str, object] = {"version": f"{done.name} {done.version}", **done.counts, **judged}
    print_facts(facts, as_json=False)
    say_left_out(done.left_out)


def next_steps(done: "Trained", folder: Path, *, is_promoted: bool) -> list[str]:
    """Return whether the new version is better than the one in service, and the command that comes next."""
    beside, where = done.beside, "" if folder == HERE else f" --folder {shlex.quote(str(folder))}"
    promote = f"midstream models promote {done.name} {done.version}{where}"
    if beside is None or not beside.champion:
        said, right = "no version of it was in service, so there is nothing to compare it with", promote
    elif beside.mean is None:
        said = f"whether it is better than {beside.champion} cannot be said: {beside.why_not}"
        right = f"midstream models compare {done.name} {beside.champion} {done.version}{where}"
    else:
        said = f"{_VERDICTS[beside.verdict]} {beside.champion}: {beside}"
        right = f"midstream models promote {done.name} {done.version} --alias shadow{where}"
        right = {"better": promote, "worse": f"nothing; {beside.champion} goes on answering"}.get(beside.verdict, right)
    if is_promoted:
        back = f"; back with: midstream models rollback {done.name}{where}" if beside and beside.champion else ""
        return [said, f"it answers from now on{back}"]
    return [said, f"next: {right}"]
