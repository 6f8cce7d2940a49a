"""``midstream estimate``: value of a placement that never served."""

from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, UNKNOWN, AsJson, Folder, out, print_json, say, say_left_out, table_of
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from midstream.app.estimate.estimate import EstimateWanted, PlacementEstimate

app = typer.Typer()
File = Annotated[
    str, typer.Argument(metavar="FILE", help="Settings to estimate, as midstream placements set reads; - = input.")
]
Logged = Annotated[
    str | None, typer.Option("--logged", metavar="NAME", help="Placement whose slates are read; default: PLACEMENT.")
]
Rewards = Annotated[
    list[str] | None,
    typer.Option("--reward", metavar="ACTION=NUMBER", help="Reward of an action; repeatable; default: [feedback]."),
]
Slates = Annotated[
    int | None, typer.Option("--slates", metavar="N", min=1, max=200_000, help="Newest slates that are read.")
]
Places = Annotated[
    int | None, typer.Option("--places", metavar="N", min=1, max=100, help="First places of a slate that count.")
]


@app.command(
    "estimate",
    cls=CommandHelp,
    epilog="""
    midstream estimate home bolder.toml
      Prints what the settings of the file would have earned on home's slates.
    midstream estimate new --logged home --reward click=1
      Prints the clicks a slate that the placement new would have got.
    """,
)
def command(
    placement: Annotated[str, typer.Argument(metavar="PLACEMENT", help="Name of the placement.")],
    file: File = "",
    logged: Logged = None,
    rewards: Rewards = None,
    slates: Slates = None,
    places: Places = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Estimate a placement's value from the slates of another.

    Each logged slate is run again by both placements. The ratio of their probabilities weights what followed. Where the
    log does not support an estimate, the reason is printed instead; the exit status is 0. A server may have the folder
    open.
    """
    wanted = _wanted(placement, file, (logged, tuple(rewards or ())), (slates, places))
    found = _estimated(folder, wanted)
    print_json(found) if as_json else print_estimate(found)


def _wanted(
    placement: str, file: str, source: tuple[str | None, tuple[str, ...]], sizes: tuple[int | None, int | None]
) -> "EstimateWanted":
    """Return the question of a command line."""
    from midstream.app.estimate.estimate import PLACES, SLATES, EstimateWanted
    from midstream.app.operate.placements import read_file

    return EstimateWanted(
        placement=placement,
        told=read_file(file) if file else None,
        logged=source[0],
        rewards=dict(map(_reward, source[1])),
        slates=sizes[0] or SLATES,
        places=sizes[1] or PLACES,
    )


def _reward(told: str) -> tuple[str, float]:
    name, _, number = told.partition("=")
    try:
        return name, float(number)
    except ValueError as error:
        message = f"{told!r} came: ACTION=NUMBER is right, such as click=1."
        raise typer.BadParameter(message, param_hint="--reward") from error


def _estimated(folder: "Folder", wanted: "EstimateWanted") -> "PlacementEstimate":
    from midstream.app.estimate.estimate import estimate_placement
    from midstream.app.opening import config_to_read

    with progress() as bar:
        return estimate_placement(folder, config_to_read(folder), wanted, notify_of(bar))


def print_estimate(found: "PlacementEstimate") -> None:
    """Print the value to go by, all estimates, and what they rest on; or the reason why there is none."""
    report, support = found.report, found.report.support
    say(f"{found.slates:,} slates of {found.logged} run again, {support.users:,} users")
    say_left_out(found.left_out)
    if found.reason is not None:
        out.print(f"{found.placement} cannot be estimated: {found.reason}", markup=False)
        return
    rows = [(each.name, *_numbers((each.value, each.low, each.high, each.parameter))) for each in report.estimates]
    before = report.logged
    rows.append(("as logged", *_numbers((before.value, before.low, before.high, None))))
    interval = f"{report.level:.0%} from"
    out.print(table_of(["estimator", "value", interval, "to", "limit"], rows))
    say(f"go by {report.chosen}: reward of the first {report.places} of {report.places_asked} places of a slate")
    say(
        f"effective users {support.effective:,.0f}, users who acted {support.acts:,.0f}, largest weight "
        f"{support.weight_max:.3g}, mean weight {support.weight_mean:.3f}, without support {support.missing:.2%}"
    )


def _numbers(values: "Iterable[float | None]") -> "Iterable[str]":
    return (UNKNOWN if each is None else f"{each:.4f}" for each in values)
