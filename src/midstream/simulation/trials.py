"""Trials: all policies over all seeds, one season after another."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from midstream.app.config.schema import Config
from midstream.core.errors import Fault, Invalid
from midstream.simulation.comparison import PolicyFigures, compare, require_enough
from midstream.simulation.engine_policy import NAME, EngineQuestion, engine_in_process, engine_over_http
from midstream.simulation.policies import Policy, oracle_policy, popularity_policy, random_policy
from midstream.simulation.season import Season, SeasonOptions, run_season
from midstream.simulation.shop import SimulatedShop

SEEDS_MAX = 1_000
POLICIES = ("random", "popularity", NAME, "oracle")
"""In the order of a report: the first is what must be beaten, the last what none can beat."""


@dataclass(frozen=True, slots=True)
class Trials:
    """What is compared, where."""

    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    season: SeasonOptions = field(default_factory=SeasonOptions)
    question: EngineQuestion = field(default_factory=EngineQuestion)
    url: str = ""
    """Of a running server; empty = an engine of our own in this process, on a log in memory."""
    run: str = ""
    """Before all ids on that server, followed by the seed."""
    folder: Path | None = None
    """Where components of one's own are."""


async def run_trials(
    trials: Trials, config: Config, advance: Callable[[str, float], None] | None = None
) -> tuple[PolicyFigures, ...]:
    """Run every policy over every seed and compare them.

    Args:
        trials: Seeds, world, where the engine is.
        config: Of the engine in this process.
        advance: Told what is being done and which share of all is done.

    Cost: about 0.2 ms a page and policy, 1.5 ms for the engine; a default season has some 6,000 pages.

    Raises:
        Invalid: Fewer than two seeds, one twice, an address that is none, or the server has items of its own.
        NotFound: The placement is not configured.
        StoreUnavailable: The server does not answer.
    """
    _check(trials)
    seasons: dict[str, list[Season]] = {name: [] for name in POLICIES}
    total = len(trials.seeds) * len(POLICIES)
    for number, seed in enumerate(trials.seeds):
        options = replace(trials.season, seed=seed)
        for place, name in enumerate(POLICIES):
            done = number * len(POLICIES) + place

            def tell(share: float, name: str = name, seed: int = seed, done: int = done) -> None:
                if advance is not None:
                    advance(f"seed {seed}, {name}", (done + share) / total)

            tell(0.0)
            shop = options.shop()
            async with _policy(name, shop, options, trials, config) as policy:
                seasons[name].append(await run_season(options, shop, policy, tell))
    return compare(list(seasons.values()))


def _check(trials: Trials) -> None:
    require_enough(len(trials.seeds))
    if len(set(trials.seeds)) != len(trials.seeds) or len(trials.seeds) > SEEDS_MAX:
        came = f"{len(trials.seeds)} seeds, {len(set(trials.seeds))} of them different."
        raise Invalid((Fault("--seeds", came, f"Different ones, at most {SEEDS_MAX}.", "/docs/cli.md"),))


@asynccontextmanager
async def _policy(
    name: str, shop: SimulatedShop, options: SeasonOptions, trials: Trials, config: Config
) -> AsyncGenerator[Policy]:
    size = trials.question.n
    if name == "random":
        yield random_policy(options.seed, size)
    elif name == "popularity":
        yield popularity_policy(shop, size)
    elif name == "oracle":
        yield oracle_policy(size)
    elif trials.url:
        async with engine_over_http(shop, trials.url, f"{trials.run}{options.seed}-", trials.question) as policy:
            yield policy
    else:
        async with engine_in_process(shop, config, trials.folder, trials.question) as policy:
            yield policy


def seeds_of(text: str) -> tuple[int, ...]:
    """Return the seeds that a text names: ``1,2,7`` or ``1..5`` or both.

    Raises:
        Invalid: It is no such text.

    Example:
        >>> seeds_of("1..3,9")
        (1, 2, 3, 9)
    """
    found: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        if not first.strip().isdecimal() or (dots and not last.strip().isdecimal()):
            fault = Fault("--seeds", f'"{part}" came.', 'Whole numbers: "1,2,7" or "1..5".', "/docs/cli.md")
            raise Invalid((fault,))
        stop = min(int(last) if dots else int(first), int(first) + SEEDS_MAX)
        found.extend(range(int(first), stop + 1))
    return tuple(found)
