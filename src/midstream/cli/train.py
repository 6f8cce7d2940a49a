"""``midstream train``: a model is fitted on the log, and published as a new version."""

from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, ended_by_sigterm, print_facts, print_json, say
from midstream.cli.progress import notify_of, progress

if TYPE_CHECKING:
    from midstream.app.fitting import Trained

app = typer.Typer()
Champion = Annotated[bool, typer.Option("--promote", help="Let it answer at once, as the champion.")]
Start = Annotated[
    str, typer.Option("--from", help="Go on from champion, challenger, shadow or a version; kinds als and ftrl.")
]
Name = Annotated[str, typer.Argument(help="Of one of [[models]].")]


@app.command("train")
def command(
    name: Name, champion: Champion = False, start: Start = "", folder: Folder = HERE, as_json: AsJson = False
) -> None:
    """Fit a model on the log, in a process of its own, and publish it as a new version.

    Beside a running server too, which goes on. Ctrl-C ends it, and nothing stays.
    """
    from midstream.app.running import config_of
    from midstream.app.training import train, train_and_promote

    work = train_and_promote if champion else train
    try:
        with ended_by_sigterm(), progress() as bar:
            done = work(folder, config_of(folder), name, notify_of(bar), start)
    except KeyboardInterrupt:
        say(f"ended: nothing of {name} was published, and what was begun is removed")
        raise typer.Exit(130) from None
    print_trained(done, as_json=as_json)


def print_trained(done: "Trained", *, as_json: bool) -> None:
    """Print what was fitted on, what it is worth, and what it is called."""
    if as_json:
        print_json(done)
        return
    # A ranker is fitted on rows of requests and judged by others: a name that both have says which it means.
    judged = {f"validation.{name}" if name in done.counts else name: value for name, value in done.metrics.items()}
    facts: dict[str, object] = {"version": f"{done.name} {done.version}", **done.counts, **judged}
    print_facts(facts, as_json=False)
    for why, count in done.left_out.items():
        say(f"{count} left out: {why.replace('_', ' ')}")
