"""Users for a film and users like a user: rankings of people, against the most active users and against chance.

Users for an item are right where they act on it among what was held out. Users like a user are the better the more of
what was held out of both is common: the Jaccard index of the two sets, so a user with many acts gains nothing by them.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log2
from pathlib import Path

import numpy as np

from benchmarks.quality.movielens import NAME, MovieLens
from midstream.app.inspect.folder_view import LogView
from midstream.app.inspect.list_pages import state_at_rest
from midstream.app.opening import config_of
from midstream.engine.lists.audiences import AudienceQuestion
from midstream.engine.lists.lists import Lists
from midstream.engine.live import LiveState
from midstream.evaluation.metrics.statistics import Estimate, PairedDifference, Resampling, difference, estimate
from midstream.events.memory import MemoryLog
from midstream.events.schema import cut

CONFIG = '[items.attributes]\ngenres = "tags"\n\n[[placements]]\nname = "default"\nsources = [{ kind = "popular" }]\n'
OURS, ACTIVE, CHANCE = "ranking", "most active users", "chance"
_PIECE = 500
"""Events of a batch in memory: a read begins with a copy of what is left of one."""
Ask = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class AudienceOptions:
    """How much is asked."""

    k: int = 20
    asked_max: int = 400
    """Items, and users."""
    seed: int = 0
    resampling: Resampling = field(default_factory=lambda: Resampling(resamples=1_000))


@dataclass(frozen=True, slots=True)
class RankedUsers:
    """What one way of ranking users reached."""

    name: str
    figures: Mapping[str, Estimate]
    less_active: PairedDifference
    """First figure less that of the most active users."""


@dataclass(frozen=True, slots=True)
class AudienceReport:
    """Rankings of users on one data set."""

    data: str
    k: int
    items: int
    users: int
    for_items: tuple[RankedUsers, ...]
    like_users: tuple[RankedUsers, ...]


def judge_audiences(data: MovieLens, folder: Path, options: AudienceOptions) -> AudienceReport:
    """Return the figures of both rankings.

    Args:
        data: What is learned and what is held out.
        folder: Shop of what is learned.
        options: How much.
    """
    lists, rng = Lists(_state(folder)), np.random.default_rng(options.seed)
    active = sorted(data.learned, key=lambda user: (-len(data.learned[user]), user))
    everyone = sorted(data.learned)
    with asyncio.Runner() as runner:

        def for_item(item: str) -> list[str]:
            found = runner.run(lists.item_users(AudienceQuestion(item, options.k)))
            return [each.user_id for each in found.users if each.user_id is not None]

        def like_user(user: str) -> list[str]:
            return [each.user_id for each in runner.run(lists.similar_users(user, options.k)).users if each.user_id]

        items, users = _items(data, rng, options), _drawn(sorted(data.held_out), rng, options.asked_max)
        acted = {user: {item for _, item in own} for user, own in data.learned.items()}
        knows = {item: {user for user, own in acted.items() if item in own} for item in items}
        ways: dict[str, Ask] = {
            OURS: for_item,
            ACTIVE: lambda item: [user for user in active if user not in knows[item]][: options.k],
            CHANCE: lambda item: _chance(everyone, knows[item], rng, options.k),
        }
        wanted = {item: frozenset(user for user, own in data.held_out.items() if item in own) for item in items}
        found = {name: _of_items(ask, wanted, options.k) for name, ask in ways.items()}
        near: dict[str, Ask] = {
            OURS: like_user,
            ACTIVE: lambda user: [each for each in active if each != user][: options.k],
            CHANCE: lambda user: _chance(everyone, {user}, rng, options.k),
        }
        alike = {name: _of_users(ask, users, data.held_out) for name, ask in near.items()}
    drawn = options.resampling
    return AudienceReport(NAME, options.k, len(items), len(users), _judged(found, drawn), _judged(alike, drawn))


def _state(folder: Path) -> LiveState:
    """Return the state of a folder, with its log in memory: each user who is ranked is named by some reads of it."""
    live = state_at_rest(folder, config_of(folder))
    log = MemoryLog()
    for batch in LogView(folder).batches():
        for start in range(0, len(batch), _PIECE):
            log.append(cut(batch, start, start + _PIECE))
    live.log = log
    return live


def _items(data: MovieLens, rng: np.random.Generator, options: AudienceOptions) -> list[str]:
    """Return items that somebody learned and somebody else acts on among what is held out."""
    learned = {item for own in data.learned.values() for _, item in own}
    return _drawn(sorted({item for own in data.held_out.values() for item in own} & learned), rng, options.asked_max)


def _drawn(names: Sequence[str], rng: np.random.Generator, most: int) -> list[str]:
    if len(names) <= most:
        return list(names)
    chosen: list[str] = [names[int(at)] for at in rng.choice(len(names), most, replace=False)]
    return sorted(chosen)


def _chance(everyone: Sequence[str], known: set[str], rng: np.random.Generator, k: int) -> list[str]:
    order = rng.permutation(len(everyone)).tolist()
    found: list[str] = [everyone[int(at)] for at in order]
    return [each for each in found if each not in known][:k]


def _of_items(ask: Ask, wanted: Mapping[str, frozenset[str]], k: int) -> dict[str, list[float]]:
    """Return NDCG and recall of each item's users."""
    found: dict[str, list[float]] = {f"NDCG@{k}": [], f"Recall@{k}": [], f"HR@{k}": []}
    for item, right in wanted.items():
        hits = [user in right for user in ask(item)[:k]]
        best = sum(1 / log2(place + 2) for place in range(min(k, len(right))))
        values = (
            sum(1 / log2(place + 2) for place, is_right in enumerate(hits) if is_right) / best,
            sum(hits) / len(right),
            float(any(hits)),
        )
        for name, value in zip(found, values, strict=True):
            found[name].append(value)
    return found


def _of_users(ask: Ask, users: Sequence[str], held_out: Mapping[str, frozenset[str]]) -> dict[str, list[float]]:
    """Return how much of what was held out is common to a user and those who are ranked, on average."""
    nothing = frozenset[str]()
    means: list[float] = []
    for user in users:
        own = held_out[user]
        others = [held_out.get(each, nothing) for each in ask(user)]
        means.append(float(np.mean([len(own & other) / len(own | other) for other in others])) if others else 0.0)
    return {"common": means}


def _judged(found: Mapping[str, Mapping[str, Sequence[float]]], drawn: Resampling) -> tuple[RankedUsers, ...]:
    first = next(iter(found[ACTIVE]))
    active = np.array(found[ACTIVE][first])
    own = np.arange(len(active))
    return tuple(
        RankedUsers(
            name,
            {figure: estimate(np.array(values), own, drawn) for figure, values in figures.items()},
            difference(np.array(figures[first]), active, own, drawn),
        )
        for name, figures in found.items()
    )
