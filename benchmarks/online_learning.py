"""The fold with a model that goes on learning beside the fold without: the same log, in turns, in CPU time.

``python benchmarks/online_learning.py`` folds answers of ten items, all of them seen, a tenth clicked, and as many
views beside them as ``--views`` says, into a state without such a model and into one with; into one with counts of
items by outcome beside it, fading clicks and impressions of a placement and the rate; and into one that declares a
model of which no version was promoted. The same once more with the declared features that fill the model's inputs:
40 columns of ``cells.py``, or the ten of them that are fading and distinct counts. A model's inputs are recorded with
each answer, so a state that learns has these features; the states without them show what learning takes by itself.
Prints nanoseconds an event of each, least and median over batches, and the median over batches of what it takes more
than the fold without a model, by the number of inputs.
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence

import numpy as np
from cells import features as columns

from midstream.core.durations import Duration
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.events.schema import Event, build
from midstream.events.served_body import RECORD_VERSION, ServedBody, encode_body
from midstream.features.kinds.kinds import AnyFeature, OutcomeCount, OutcomeRate, cells_of
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import Ftrl, FtrlOptions, fit_ftrl
from midstream.models.rows.online_sums import online_sums, packed_bins
from midstream.state.control.promotions import promotion_body
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings, OnlineModel, StateLimits

FEATURES = (
    OutcomeCount(name="clicked", actions=("click",), placement="home", half_life=(Duration("7d"),)),
    OutcomeCount(name="seen", actions=("impression",), placement="home", half_life=(Duration("7d"),)),
    OutcomeRate(name="rate", actions=("click",), placement="home"),
)
START_MS = 1_750_000_000_000
ITEMS, USERS, SLATE, CATEGORIES = 20_000, 50_000, 10, 200
TEN = ("fading", "visitors", "interests")
"""Features of ten columns."""
EVERY = 40
"""A model of so many inputs reads all columns."""


def main() -> None:
    """Fold, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--step", type=int, default=10_000)
    parser.add_argument("--views", type=int, default=10, help="views beside each answer")
    parser.add_argument("--inputs", type=int, nargs="+", default=[10, 40])
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.views} views beside each answer")
    for inputs in options.inputs:
        compare(inputs, options)


def compare(inputs: int, options: argparse.Namespace) -> None:
    """Fold the log into each state in turns, and print what each takes."""
    model, declared = fitted(inputs), (OnlineModel("m", ("click",)),)
    read = tuple(each for each in columns() if inputs >= EVERY or each.name in TEN)
    folds = {"without": state(()), "unused": state(declared), "model": state(declared), "items": state((), FEATURES)}
    folds |= {"model and items": state(declared, FEATURES), "features": state((), read)}
    folds |= {"features, model": state(declared, read), "features, model, items": state(declared, (*read, *FEATURES))}
    for name, fold in folds.items():
        fold.apply(fold.log_position, catalogue())
        if "model" in name:
            promote(fold, model)
    found: dict[str, list[float]] = {each: [] for each in folds}
    names = list(folds)
    for batch in log(model, options.events, options.step, options.views):
        names = [*names[1:], names[0]]  # the first one finds the batch in no cache
        for each in names:
            fold = folds[each]
            began = time.process_time_ns()
            fold.apply(fold.log_position, batch)
            found[each].append((time.process_time_ns() - began) / len(batch))
    print(f"{inputs} inputs, {len(cells_of(read))} cells of features that fill them")
    for each, times in found.items():
        base = "features" if each.startswith("features") else "without"
        more = np.median(np.array(times[1:]) / np.array(found[base][1:])) - 1
        print(f"{each}: least {min(times[1:]):,.0f} ns an event, median {np.median(times[1:]):,.0f}, {more:+.1%}")
    learned = folds["model"].online.totals["online_learned"]
    print(f"{learned:,} rows learned of {options.events:,} events")


def state(online: tuple[OnlineModel, ...], features: Sequence[AnyFeature] = ()) -> Fold:
    """Return an empty state."""
    limits = StateLimits(click_items_max=200_000)
    attributes = {"category": "category"}
    return Fold(FoldSettings(online=online, cells=cells_of(features), limits=limits, attributes=attributes))


def catalogue() -> EventBatch:
    """Return the items, each with its category."""
    bodies = [b'{"category":"c%d"}' % (item % CATEGORIES) for item in range(ITEMS)]
    rows = enumerate(bodies)
    return build([Event(Kind.ITEM, item_id=f"i{item}", body=body, log_time_ms=START_MS) for item, body in rows])


def fitted(inputs: int) -> Ftrl:
    """Return a version."""
    dice = np.random.default_rng(inputs)
    values = dice.normal(size=(2_000, inputs)).astype(np.float32)
    label = (dice.random(2_000) < 0.1).astype(np.float32)
    names = [f"f{number}" for number in range(inputs)]
    return fit_ftrl(Examples.of_rows(names, values, label), FtrlOptions(is_standardised=False))


def promote(fold: Fold, model: Ftrl) -> None:
    """Let a version learn on."""
    body = promotion_body("m", "champion", "0001", "0" * 64, online_sums(model, "m"))
    fold.apply(fold.log_position, build([Event(Kind.CONTROL, body=body, log_time_ms=START_MS)]))


def log(model: Ftrl, events: int, step: int, views: int) -> Iterator[EventBatch]:
    """Yield the log."""
    dice = np.random.default_rng(5)
    held: list[Event] = []
    number = done = 0
    while done < events:
        held += around(model, number, dice, views)
        number += 1
        if len(held) >= step:
            times = range(done, done + step)
            yield build([each._replace(log_time_ms=START_MS + 10 * at) for each, at in zip(held, times, strict=False)])
            held, done = held[step:], done + step


def around(model: Ftrl, number: int, dice: np.random.Generator, views: int) -> Sequence[Event]:
    """Return an answer, what followed it, and views of others."""
    request, user = f"{number:032}", f"u{dice.integers(USERS)}"
    ids = [f"i{each}" for each in dice.integers(0, ITEMS, SLATE)]
    values = dice.normal(size=(SLATE, len(model.inputs))).astype(np.float32)
    body = encode_body(record(request, ids, packed_bins(model, values, 0)))
    found = [Event(Kind.SERVED, user_id=user, request_id=request, body=body)]
    for each in ids:
        found.append(Event(Kind.IMPRESSION, user_id=user, item_id=each, request_id=request))
        if dice.random() < 0.1:
            act = Event(Kind.INTERACTION, action="click", user_id=user, item_id=each, request_id=request)
            found.append(act._replace(session_id=f"s{user}"))
    for _ in range(views):
        other = f"u{dice.integers(USERS)}"
        view = Event(Kind.INTERACTION, action="view", user_id=other, item_id=f"i{dice.integers(ITEMS)}")
        found.append(view._replace(session_id=f"s{other}"))
    return found


def record(request: str, ids: Sequence[str], bins: bytes) -> ServedBody:
    """Return a served record."""
    scores = np.zeros(len(ids), dtype="<f4").tobytes()
    return ServedBody(
        version=RECORD_VERSION, log_position=0, request_id=request, placement="home", user_id=None, session_id=None,
        slate_size=SLATE, now_ms=START_MS, seed=0, items=(), exclude=(), filter=None, context={}, fetched={},
        config_hash="p1", fold_version="", scorer="m", tier="full", retrieved_count=1, candidate_count=1,
        source_names=(), retrieved={}, removed={}, failures=(), ids=tuple(ids), scores=scores, propensities=b"",
        source_bits=(0,) * len(ids), bins=(bins,),
    )  # fmt: skip


if __name__ == "__main__":
    main()
