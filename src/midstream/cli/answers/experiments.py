"""``midstream experiments``: starts, shows, ramps and stops experiments, and holds users out of all of them."""

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.answers.placements import Author, Note
from midstream.cli.console import HERE, AsJson, Folder, err, out, print_json, say, table_of
from midstream.cli.help import CommandHelp, GroupHelp

if TYPE_CHECKING:
    from midstream.app.operate.shown_experiment import ShownExperiment
    from midstream.engine.experiments.views import ExperimentView, VariantView

app = typer.Typer(
    cls=GroupHelp,
    help="Start, show, ramp and stop experiments on placements.",
    epilog="""
    midstream experiments start fewer fewer.toml
    midstream experiments show fewer
    """,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the experiment.")]
Percent = Annotated[float, typer.Argument(metavar="PERCENT", min=0, max=100, help="Share of units, 0 to 100.")]


@app.command(
    "list",
    cls=CommandHelp,
    epilog="""
    midstream experiments list
    """,
)
def list_(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List experiments, running ones first, and the holdout."""
    from midstream.app.opening import config_of
    from midstream.app.operate.experiments import list_experiments

    with err.status("reading"):
        found = list_experiments(folder, config_of(folder))
    if as_json:
        print_json(found)
        return
    out.print(table_of(["experiment", "on", "state", "exposed", "since"], _rows(found.experiments)))
    if found.holdout is not None:
        say(f"holdout: {found.holdout.share:.2%} of users, since {_day(found.holdout.began_ms)}")


@app.command(
    "show",
    cls=CommandHelp,
    epilog="""
    midstream experiments show fewer
    midstream experiments show fewer --no-units
      Prints slates alone: no units, no metrics.
    midstream experiments show fewer --segment country
      Prints the primary metric by country too.
    """,
)
def show(
    name: Name,
    without_units: Annotated[bool, typer.Option("--no-units", help="Do not count units in the log.")] = False,
    segments: Annotated[
        list[str] | None,
        typer.Option("--segment", metavar="KEY", help="By a value of the context of a unit's first slate; repeatable."),
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Print shares, units and the metrics of an experiment.

    First it says whether units came in the stated shares. If not, nothing is claimed.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.shown_experiment import shown_experiment

    with err.status("reading"):
        found = shown_experiment(folder, config_of(folder), name, segments or (), counts_units=not without_units)
    if as_json:
        print_json(found)
        return
    _print_view(found.experiment)
    for line in found.lines():
        say(line)
    _print_report(found)


@app.command(
    "plan",
    cls=CommandHelp,
    epilog="""
    midstream experiments plan fewer.toml --lift 5
      Days until 5 % more of the primary metric are shown.
    """,
)
def plan(
    file: Annotated[str, typer.Argument(metavar="FILE", help="As for start; - = standard input.")],
    lift: Annotated[float, typer.Option(metavar="PERCENT", min=0.1, max=1000, help="Lift to be shown.")] = 5.0,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Print how many days an experiment needs.

    Units and rates are those of the last two weeks of the log. It starts nothing.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.experiment_plan import plan_experiment
    from midstream.app.operate.experiments import read_order

    with err.status("reading"):
        found = plan_experiment(folder, config_of(folder), read_order(file), lift / 100)
    if as_json:
        print_json(found)
    else:
        say("\n".join(found.lines()))


@app.command(
    "start",
    cls=CommandHelp,
    epilog="""
    midstream experiments start fewer fewer.toml --note "fewer items sell more?"
      The file has a placement, and [[variants]] with a name.
    """,
)
def start(
    name: Name,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Placement, variants and ramp as TOML or JSON; - = standard input.")
    ],
    author: Author = "",
    note: Note = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Start an experiment: variants answer its placement.

    It goes on after a restart, until midstream experiments stop. A server may have the folder open.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.experiments import read_order, start_experiment
    from midstream.engine.placements.control_changes import Said

    order, said = read_order(file), Said(author or getpass.getuser(), note)
    with err.status("starting"):
        found = start_experiment(folder, config_of(folder), name, order, said)
    _print_changed(found, as_json=as_json)


@app.command(
    "ramp",
    cls=CommandHelp,
    epilog="""
    midstream experiments ramp fewer 20
      Exposes 20 % of the experiment's units from now on.
    """,
)
def ramp(
    name: Name,
    percent: Percent,
    author: Author = "",
    note: Note = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Expose more units of an experiment; none leaves its variant."""
    from midstream.app.opening import config_of
    from midstream.app.operate.experiments import ramp_experiment
    from midstream.engine.experiments.views import RampOrder
    from midstream.engine.placements.control_changes import Said

    said = Said(author or getpass.getuser(), note)
    with err.status("changing"):
        found = ramp_experiment(folder, config_of(folder), name, [RampOrder(percent / 100)], said)
    _print_changed(found, as_json=as_json)


@app.command(
    "stop",
    cls=CommandHelp,
    epilog="""
    midstream experiments stop fewer "few sells more" --ship few
      Sets the placement to the variant few.
    """,
)
def stop(
    name: Name,
    reason: Annotated[str, typer.Argument(metavar="REASON", help="Why it ends; kept with it.")],
    ship: Annotated[str | None, typer.Option(metavar="VARIANT", help="Set the placement to this variant.")] = None,
    author: Author = "",
    note: Note = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Stop an experiment: its placement answers all units again."""
    from midstream.app.opening import config_of
    from midstream.app.operate.experiments import stop_experiment
    from midstream.engine.placements.control_changes import Said

    said = Said(author or getpass.getuser(), note)
    with err.status("stopping"):
        found = stop_experiment(folder, config_of(folder), name, (reason, ship), said)
    _print_changed(found, as_json=as_json)


@app.command(
    "holdout",
    cls=CommandHelp,
    epilog="""
    midstream experiments holdout 2 --placement home --placement cart
      2 % of users keep both placements as they are now.
    """,
)
def holdout(
    percent: Percent,
    placement: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Placement that they keep as it is; may be repeated.")
    ] = None,
    author: Author = "",
    note: Note = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Hold users out of all experiments for good; 0 ends it."""
    from midstream.app.opening import config_of
    from midstream.app.operate.experiments import give_back_holdout, hold_out
    from midstream.engine.placements.control_changes import Said

    said, config = Said(author or getpass.getuser(), note), config_of(folder)
    with err.status("changing"):
        found = hold_out(folder, config, percent / 100, placement or (), said) if percent else None
        if found is None:
            give_back_holdout(folder, config, said)
    if as_json:
        print_json(found)
    else:
        say(f"{percent:g} % of users are held out")


def _rows(experiments: "list[ExperimentView]") -> list[tuple[object, ...]]:
    return [
        (
            each.name,
            each.placement,
            each.state,
            f"{100 * each.exposed:.4g}%",
            _day(each.began_ms),
        )
        for each in experiments
    ]


def _print_changed(found: "ExperimentView", *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        _print_view(found)


def _print_view(found: "ExperimentView") -> None:
    first, end = found.buckets
    say(f"{found.name} on {found.placement}: {found.state}, layer {found.layer}, buckets {first} to {end - 1}")
    if found.reason:
        say(f"stopped{' by itself' if found.stopped_by == 'watch' else ''}: {found.reason}")
    elif found.state != "stopped" and not found.auto_stop and (found.design, found.allocation) == ("split", "fixed"):
        say("broken guardrails do not stop it")
    if found.design == "interleave":
        say("each slate is a draft of all variants, and answers have the variant draft")
    for variant in found.variants:
        if variant.removed:
            say(f"{variant.name} was taken out, and has the control's content: {variant.removed}")
    out.print(
        table_of(["variant", "share", "weight", "slates", "sha256"], [_variant_row(each) for each in found.variants])
    )
    for step in found.dropped:
        say(f"from {_time(step.from_ms)}: {step.exposed / 100:g} % exposed is given up, the new steps are in its place")
    for step in found.ramp:
        say(f"from {_time(step.from_ms)}: {step.exposed / 100:g} % exposed")
    say(f"version {found.version} by {found.author}, {_time(found.changed_ms)}{found.note and ': '}{found.note}")


def _print_report(found: "ShownExperiment") -> None:
    """Print the figures of each metric, then the verdicts; nothing where no claim is made."""
    from midstream.app.inspect.allocation_report import FIGURES as ALLOCATION_FIGURES
    from midstream.app.inspect.allocation_report import allocation_rows
    from midstream.app.inspect.draft_report import FIGURES as DRAFT_FIGURES
    from midstream.app.inspect.draft_report import draft_rows
    from midstream.app.inspect.experiment_report import (
        FIGURES,
        SEGMENT_FIGURES,
        figure_rows,
        segment_rows,
        verdict_lines,
    )

    if found.drafts is not None:
        out.print(table_of(DRAFT_FIGURES, draft_rows(found.drafts)))
        return
    if found.allocation is not None:
        variants = found.experiment.variants
        names, shares = [each.name for each in variants], [each.weight for each in variants]
        out.print(table_of(ALLOCATION_FIGURES, allocation_rows(found.allocation, names, shares)))
        return
    if found.report is None or not found.report.is_valid:
        return
    out.print(table_of(FIGURES, figure_rows(found.report, found.metrics, found.experiment.variants[0].name)))
    for line in verdict_lines(found.report):
        say(line)
    if any(each.segments for each in found.report.variants):
        out.print(table_of(SEGMENT_FIGURES, segment_rows(found.report, found.metrics)))


def _variant_row(each: "VariantView") -> tuple[object, ...]:
    return each.name, f"{each.share:.2%}", f"{each.weight:.2%}", each.slates, each.sha256[:12]


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1_000, UTC):%Y-%m-%d %H:%M} UTC"


def _day(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1_000, UTC):%Y-%m-%d}"
