"""``midstream estimate``: value of a placement that never served."""

from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, UNKNOWN, AsJson, Folder, out, print_json, say, say_left_out, table_of
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from midstream.app.estimate.estimate import EstimateWanted, PlacementEstimate
    from midstream.evaluation.off_policy.report import Estimated

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
Estimators = Annotated[
    list[str] | None,
    typer.Option("--estimator", metavar="NAME", help="Estimator, repeatable, or all; default: those that apply."),
]


@app.command(
    "estimate",
    cls=CommandHelp,
    epilog="""
    midstream estimate home bolder.toml
      Prints what the settings of the file would have earned on home's slates.
    midstream estimate new --logged home --reward click=1
      Prints the clicks a slate that the placement new would have got.
    midstream estimate home bolder.toml --places 1 --estimator dr
      Prints two estimates of the first place alone.
    """,
)
def command(
    placement: Annotated[str, typer.Argument(metavar="PLACEMENT", help="Name of the placement.")],
    file: File = "",
    logged: Logged = None,
    rewards: Rewards = None,
    slates: Slates = None,
    places: Places = None,
    estimators: Estimators = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Estimate a placement's value from the slates of another.

    Each logged slate is run again by both placements. The ratio of their probabilities weights what followed; a reward
    model that is fitted on the slates makes intervals narrower. Where the log does not support an estimate, the reason
    is printed instead; the exit status is 0. A server may have the folder open.
    """
    wanted = _wanted(placement, file, (logged, tuple(rewards or ()), tuple(estimators or ())), (slates, places))
    found = _estimated(folder, wanted)
    print_json(found) if as_json else print_estimate(found)


def _wanted(
    placement: str,
    file: str,
    source: tuple[str | None, tuple[str, ...], tuple[str, ...]],
    sizes: tuple[int | None, int | None],
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
        estimators=source[2],
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
    columns = ["estimator", "value", "from", "to", "users", "weight", "unlogged", "limit"]
    valued = [each for each in report.estimates if each.value is not None]
    out.print(table_of(columns, [tuple(_row(each)) for each in (*valued, report.logged)]))
    for note, names in _notes(each for each in report.estimates if each.value is None).items():
        out.print(f"{', '.join(names)}: cannot be estimated: {note}", markup=False)
    for note, names in _notes(valued).items():
        say(f"{', '.join(names)}: {note}")
    places = f"the first {report.places} of {report.places_asked} places of a slate"
    go_by = f"go by {report.chosen}" if report.can_be_gone_by else "nothing to go by: ask for cascade_dr or snrips"
    say(f"{go_by}: reward of {places}, from and to: intervals of {report.level:.0%}")
    say(
        f"effective users {support.effective:,.0f}, users who acted {support.acts:,.0f}, largest weight "
        f"{support.weight_max:.3g}, mean weight {support.weight_mean:.3f}, without support {support.missing:.2%}"
    )
    if found.modelled is not None:
        say(f"reward model: distinguishes the items of {found.modelled:.0%} of the target's choices")


def _row(each: "Estimated") -> "Iterable[str]":
    """Return one estimator's line; ``users``, ``weight`` and ``unlogged`` are of the weights that it uses."""
    yield "as logged" if each.name == "logged" else each.name
    yield from (UNKNOWN if number is None else f"{number:.4f}" for number in (each.value, each.low, each.high))
    yield UNKNOWN if each.effective is None else f"{each.effective:,.0f}"
    yield UNKNOWN if each.weight_max is None else f"{each.weight_max:.3g}"
    yield UNKNOWN if each.unsupported is None else f"{each.unsupported:.2%}"
    number = "∞" if each.parameter is None else f"{each.parameter:.3g}"
    yield {None: "", "weight_max": f"≤ {number}", "shrinkage": f"λ {number}"}[each.tuned]


def _notes(estimates: "Iterable[Estimated]") -> dict[str, list[str]]:
    """Return each note with the estimators that have it."""
    found: dict[str, list[str]] = {}
    for each in estimates:
        if each.note is not None:
            found.setdefault(each.note, []).append(each.name)
    return found
