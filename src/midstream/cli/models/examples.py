"""``midstream examples``: training examples of served slates or of a replay, as a table."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, ended_by_sigterm, print_json, say, say_left_out
from midstream.cli.features.as_of import say_as_logged
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress

if TYPE_CHECKING:
    from midstream.app.point_in_time.replay_examples import ReplayWanted

app = typer.Typer()
Served = Annotated[
    str, typer.Argument(metavar="FROM..TO", help="Range of log positions or times, such as 7d..; .. = all.")
]
Out = Annotated[
    Path, typer.Option("--out", metavar="FILE", dir_okay=False, help="File to write; it appears when it is complete.")
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="Format: parquet, arrow or csv; default: by the ending of --out."),
]
Replay = Annotated[
    str | None,
    typer.Option(
        "--replay", metavar="PLACEMENT", help="Write the candidates of this placement before each interaction."
    ),
]
Label = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="TYPE",
        help="Type of interaction that is a label; repeatable; default: all with a weight above 0.",
    ),
]
Candidates = Annotated[
    int, typer.Option("--candidates", metavar="N", min=2, help="Maximum number of candidates of an interaction.")
]
Groups = Annotated[int | None, typer.Option("--groups", metavar="N", min=1, help="Maximum number of interactions.")]
NoFirst = Annotated[
    bool,
    typer.Option("--no-first-attributes", help="Ignore item attributes that were recorded after the interaction."),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed for the sampling of candidates.")]


@app.command(
    "examples",
    cls=CommandHelp,
    epilog="""
    midstream examples 30d.. --out training.parquet
      Writes the positions that were served in the last 30 days.
    midstream examples .. --out training.parquet --replay default
    """,
)
def command(
    served: Served,
    out: Out,
    file_format: Format = None,
    replay: Replay = None,
    label: Label = None,
    candidates: Candidates = 100,
    groups: Groups = None,
    seed: Seed = 0,
    no_first_attributes: NoFirst = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write training examples for rankers to a file.

    Each row is a position of a served slate: features as of the request, propensity, outcomes and reward. With --replay
    each row is a candidate before an interaction of the log, and no served slates are necessary. The options from
    --label to --no-first-attributes belong to --replay.
    """
    from midstream.app.point_in_time.replay_examples import ReplayWanted

    if replay is not None:
        wanted = ReplayWanted(replay, served, tuple(label or ()), candidates, groups, seed, not no_first_attributes)
        print_replay(folder, wanted, out, file_format, as_json=as_json)
        return
    print_served(folder, served, out, file_format, as_json=as_json)


def print_served(folder: Path, served: str, out: Path, file_format: str | None, *, as_json: bool) -> None:
    """Write the examples of served slates."""
    from midstream.app.point_in_time.served_examples import write_served_examples

    with ended_by_sigterm(), progress() as bar:
        summary = write_served_examples(folder, served, out, file_format, notify_of(bar))
    if as_json:
        print_json(summary)
    else:
        say(f"{summary.rows} examples of {summary.served.asked} slates written")
        say_as_logged(summary.as_logged)
        say_left_out(summary.left_out)


def print_replay(folder: Path, wanted: "ReplayWanted", out: Path, file_format: str | None, *, as_json: bool) -> None:
    """Write the groups of a replay, and print the number of acts without one."""
    from midstream.app.point_in_time.replay_examples import write_replay_examples

    with ended_by_sigterm(), progress() as bar:
        counts = write_replay_examples(folder, wanted, out, file_format, notify_of(bar))
    if as_json:
        print_json({**asdict(counts), "dropped_share": counts.dropped_share})
        return
    say(f"{counts.rows} examples in {counts.groups} groups written")
    if not counts.acts:
        say("no act of a user is in the range, or it is no label")
        return
    say(f"{counts.dropped_share:.1%} of {counts.acts} acts left out: their items were not among the candidates")
    if counts.first_attributes:
        say(f"{counts.first_attributes} examples read attributes that the catalogue named first after the act")
    if counts.features:
        say(f"left out, as they count impressions, which come before the act they led to: {', '.join(counts.features)}")
    if counts.sources:
        say(f"not asked, as they read models, which learned these acts: {', '.join(counts.sources)}")
    if counts.erased:
        say(f"{counts.erased} acts of erased users left out")
    if counts.taken_back:
        say(f"{counts.taken_back} acts that were taken back left out")
    if counts.failures:
        say(f"{counts.failures} times a source or filter did not answer")
