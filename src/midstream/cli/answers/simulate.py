"""``midstream simulate``: click rates of the configuration in simulated shops, with baselines and an oracle."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, table_of
from midstream.cli.help import CommandHelp
from midstream.cli.progress import progress

if TYPE_CHECKING:
    from midstream.simulation.comparison import PolicyFigures
    from midstream.simulation.trials import Trials

app = typer.Typer()
Seeds = Annotated[
    str, typer.Option(metavar="SEEDS", help='Seeds of the simulated shops, "1,2,7" or "1..5"; at least two.')
]
Signal = Annotated[
    float, typer.Option(metavar="X", min=0.0, max=3.0, help="Effect of the visitors' taste on clicks; 0 = none.")
]
Url = Annotated[str, typer.Option(metavar="URL", help="Server to test, instead of an engine in this process.")]
_STEPS = 1_000


@app.command(
    "simulate",
    cls=CommandHelp,
    epilog="""
    midstream simulate --seeds 1..3 --days 7
      Prints the click rate of each policy, with its 95 % interval.
    """,
)
def command(
    placement: Annotated[str, typer.Argument(metavar="PLACEMENT", help="Name of the placement to test.")] = "default",
    seeds: Seeds = "1..5",
    people: Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="Number of returning visitors.")] = 400,
    days: Annotated[
        int, typer.Option(metavar="N", min=1, max=365, help="Simulated days; the first 30 % are not measured.")
    ] = 14,
    n: Annotated[int, typer.Option("-n", "--n", metavar="N", min=1, max=100, help="Items of a slate.")] = 10,
    signal: Signal = 1.0,
    url: Url = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Measure click rates in simulated shops.

    The same seeded visitors meet four policies: random items, popular items, the placement as midstream.toml has it,
    and an oracle that knows every preference.
    """
    from midstream.simulation.audience import AudienceOptions
    from midstream.simulation.engine_policy import EngineQuestion
    from midstream.simulation.season import SeasonOptions
    from midstream.simulation.trials import Trials, seeds_of

    season = SeasonOptions(day_count=days, audience=AudienceOptions(person_count=people, signal=signal))
    question = EngineQuestion(placement, n)
    run = f"simulated-{os.getpid()}-" if url else ""
    print_figures(run_with_bar(Trials(seeds_of(seeds), season, question, url, run, folder)), as_json=as_json)


def run_with_bar(trials: "Trials") -> "tuple[PolicyFigures, ...]":
    """Run all seasons with a progress bar."""
    import asyncio

    from midstream.app.opening import config_of
    from midstream.simulation.trials import run_trials

    config = config_of(trials.folder or HERE)
    with progress() as bar:
        task = bar.add_task("starting", total=_STEPS)

        def advance(what: str, share: float) -> None:
            bar.update(task, description=what, completed=int(share * _STEPS))

        return asyncio.run(run_trials(trials, config, advance))


def print_figures(figures: "tuple[PolicyFigures, ...]", *, as_json: bool) -> None:
    """Print a line a policy."""
    if as_json:
        print_json(figures)
        return
    first = figures[0].policy
    columns = ("policy", "pages with a click", f"more than {first}", "of the possible", "pages with a purchase")
    rows = [
        (each.policy, str(each.click_rate), str(each.lift), str(each.of_possible), str(each.buy_rate))
        for each in figures
    ]
    title = f"{figures[0].pages} pages of people after the warm-up; means over seeds and their 95 % intervals"
    out.print(table_of(columns, rows, title))
