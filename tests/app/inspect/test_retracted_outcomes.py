"""Reports of the log leave out acts that were taken back: units of experiments, drafts, and off-policy estimates."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midstream
from midstream.app.estimate.logged_slates import logged_slates, rewards_by_place
from midstream.app.inspect.experiment_units import ExperimentSpan, ExperimentUnits, read_units
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import config_of
from midstream.core.types import LogPosition
from midstream.experiments.metrics import VALUE
from midstream.experiments.routing import experiments_in
from tests.app.inspect.test_draft_report import click_of, report_in
from tests.engine.experiments.test_experimenting import USERS
from tests.engine.experiments.test_interleaved import opened, started
from tests.support.fakes.rebuilds import write_config

HOME = '[[placements]]\nname = "home"\nslate_size = 5\ndeadline = "1m"\n[[placements.sources]]\nkind = "popular"\n'
DRAWN = HOME + '[placements.selector]\nkind = "plackett_luce"\ntemperature = 1.0\n'
ACTIONS = ("view", "click", "purchase")


def random_act(dice: random.Random, number: int, users: int) -> dict[str, Any]:
    """Return an act of a user; a purchase has a value of whole numbers, so that its sums are exact."""
    act = {"type": dice.choice(ACTIONS), "user_id": f"user-{dice.randrange(users)}", "item_id": "i1"}
    worth = {"value": float(dice.randrange(1, 50)), "quantity": dice.randrange(1, 4)}
    return {**act, "event_id": f"e{number}"} | (worth if act["type"] == "purchase" else {})


def sums_of(acts: list[dict[str, Any]], user: str) -> tuple[float, ...]:
    """Return the count of each action of a user, and the sum of values."""
    own = [each for each in acts if each["user_id"] == user]
    value = sum(each.get("value", 0.0) * each.get("quantity", 1) for each in own)
    return (*(float(sum(each["type"] == name for each in own)) for name in ACTIONS), value)


def units_in(folder: Path) -> ExperimentUnits:
    """Return the units of the folder's experiment, from its log."""
    log = LogView(folder)
    fold = state_of(folder, config_of(folder), log).fold
    (told,) = experiments_in(fold.placements.current)
    span = ExperimentSpan(LogPosition(told.began_position), told.began_ms)
    return read_units(log, fold, [each.placement for each in told.variants], span)


@pytest.mark.parametrize("seed", range(3))
def test_units_are_those_of_a_log_in_which_the_acts_never_came(tmp_path: Path, seed: int) -> None:
    """Sums of outcomes and of the past, of random acts of which random ones were taken back."""
    dice, users = random.Random(seed), 12  # noqa: S311  a test
    write_config(tmp_path, HOME)
    with midstream.open(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": "u", "item_id": f"i{n}"} for n in range(9)])
        past = [random_act(dice, number, users) for number in range(60)]
        shop.record(past)
        shop.experiments.start("size", author="ann", placement="home", variants=[{"name": "a"}, {"name": "b"}])
        for number in range(users):
            shop.recommend("home", user_id=f"user-{number}")
        later = [random_act(dice, number, users) for number in range(60, 160)]
        shop.record(later)
        gone = set(dice.sample([each["event_id"] for each in (*past, *later)], 50))
        for each in sorted(gone):
            assert shop.retract(each).retracted == 1
        hashes = {f"user-{n}": shop.running.engine.fold.vocabulary.user_hash_of(f"user-{n}") for n in range(users)}
    units = units_in(tmp_path)
    rows = [units.names.index(name) for name in (*ACTIONS, VALUE)]
    assert len(units.table.unit) == users
    for acts, columns in ((later, units.table.columns), (past, units.past)):
        kept = [each for each in acts if each["event_id"] not in gone]
        for user, unit in hashes.items():
            (at,) = np.flatnonzero(units.table.unit == unit)
            assert tuple(columns[rows, at]) == sums_of(kept, user), user


def test_a_vote_goes_with_the_act_it_was_made_of(tmp_path: Path) -> None:
    """Units whose only act was taken back are for no variant, and their places have no credit."""
    with opened(tmp_path) as shop:
        started(shop)
        for user in USERS[:12]:
            shop.record({**click_of(shop, user), "event_id": f"of-{user}"})
    wins, credit = [], []
    for gone in ((), USERS[:5], USERS[5:12]):
        with midstream.open(tmp_path) as shop:
            for user in gone:
                assert shop.retract(f"of-{user}").retracted == 1
        found = report_in(tmp_path).preferences[0]
        wins.append(found.wins)
        credit.append(found.difference)
    assert wins == [12, 7, 0]
    assert credit[0] > credit[1] > credit[2] == 0.0


def test_an_estimate_goes_by_the_rewards_that_stand(tmp_path: Path) -> None:
    """Rewards of logged slates are those of the clicks that were not taken back, before a rebuild too."""
    write_config(tmp_path, DRAWN)
    dice, clicks = random.Random(4), 0  # noqa: S311  a test
    with midstream.open(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": "u", "item_id": f"i{n}"} for n in range(9)])
        for number in range(40):
            answer = shop.recommend("home", user_id=f"u{number}")
            for each in answer.items[:2]:
                act = {"type": "click", "user_id": f"u{number}", "item_id": each.id, "request_id": answer.request_id}
                shop.record({**act, "event_id": f"{number}-{each.id}"})
                if dice.random() < 0.4:
                    assert shop.retract(f"{number}-{each.id}").retracted == 1
                else:
                    clicks += 1
    log, config = LogView(tmp_path), config_of(tmp_path)
    slates = logged_slates(log, config, "home", 100).slates
    assert len(slates) == 40
    assert 0 < clicks < 80
    earned = rewards_by_place(tmp_path, log, config, slates, {"click": 1.0})
    assert sum(float(each.sum()) for each in earned.values()) == clicks
