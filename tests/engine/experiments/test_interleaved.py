"""Interleaving experiments of an open folder: each slate is drafted of all variants, read on, explained and rerun."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midstream
from midstream.app.estimate.logged_slates import logged_slates
from midstream.app.explain.explain import explain_request
from midstream.app.explain.reruns import rerun_last
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import config_of
from midstream.core.errors import ConfigInvalid, NotFound, RequestInvalid
from midstream.engine.recommender import Recommender
from midstream.engine.types import Answer
from midstream.experiments.interleaving import CHANCES, draft_of
from midstream.ranking.drafted_slate import SCORER, teams_in
from midstream.ranking.record.served import ServedRecord
from tests.engine.experiments.test_experimenting import USERS, write

ODD = {"sources": [{"kind": "editorial", "items": ["i1", "i3", "i5", "i7"]}], "slate_size": 4}
EVEN = {"sources": [{"kind": "editorial", "items": ["i1", "i2", "i4", "i6"]}], "slate_size": 4}
DRAWN = {**EVEN, "selector": {"kind": "plackett_luce", "temperature": 1.0, "pool": 5}}
TEAMS = ("home@mix.odd", "home@mix.even")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Recommender]:
    """An open shop with nine items."""
    with opened(tmp_path) as found:
        yield found


@contextmanager
def opened(folder: Path) -> Iterator[Recommender]:
    """Open the shop of a folder, with nine items."""
    write(folder)
    with midstream.open(folder) as shop:
        views = [f"i{n}" for n in range(9) for _ in range(30 - 3 * n)]
        shop.record(
            [{"type": "view", "user_id": "u", "item_id": item, "event_id": f"{n}"} for n, item in enumerate(views)]
        )
        yield shop


def started(shop: Recommender, first: Any = ODD, second: Any = EVEN, **order: Any) -> None:
    """Start an interleaving experiment of two placements on ``home``."""
    variants = [{"name": "odd", "placement": first}, {"name": "even", "placement": second}]
    told = {"placement": "home", "variants": variants, "design": "interleave", **order}
    shop.experiments.start("mix", author="ann", **told)


def record_of(shop: Recommender, answer: Answer) -> ServedRecord:
    """Return the served record of an answer, when it is in the log."""
    shop.record({"type": "view", "user_id": "other", "item_id": "i0"})
    found = shop._call(lambda: shop.running.engine.served(answer.request_id))
    assert found is not None
    return found


def ids(answer: Answer) -> list[str]:
    """Ids of a slate."""
    return [each.id for each in answer.items]


def rankings(shop: Recommender) -> list[list[str]]:
    """What each team ranks by itself, as placements of their own."""
    found = []
    for name, content in (("alone-odd", ODD), ("alone-even", EVEN)):
        shop.set_placement(name, content, author="ann")
        found.append(ids(shop.recommend(name, user_id="ann")))
    return found


def test_answers_are_drafts_and_say_so(shop: Recommender) -> None:
    """Reply and record name experiment, draft and teams; requests without a unit are answered by the placement."""
    before = shop.recommend("home")
    started(shop)
    answer = shop.recommend("home", user_id="ann")
    assert (answer.placement, answer.experiment, answer.variant) == ("home", "mix", "draft")
    record = record_of(shop, answer)
    assert (record.scorer, record.query.placement) == (SCORER, "home@mix.draft")
    team, begins = teams_in(record.items, TEAMS)
    assert (team[0], begins[0]) == (-1, True)
    assert {0, 1} <= set(team.tolist())
    assert len(answer.items) == 4
    assert shop.recommend("home").experiment == ""
    assert ids(shop.recommend("home")) == ids(before)
    assert shop.recommend("home", session_id="s").variant == "draft"
    (view,) = shop.experiments.list().experiments
    assert (view.design, [each.share for each in view.variants]) == ("interleave", [1.0, 1.0])
    assert len({each.slates for each in view.variants}) == 1
    for name in (*TEAMS, "home@mix.draft"):
        with pytest.raises(NotFound):
            shop.recommend(name, user_id="ann")


def test_slates_come_as_often_as_their_propensities_say(shop: Recommender) -> None:
    """Each possible draft of two short rankings, by its exact probability over all coins; an A/A draft is even."""
    lists = rankings(shop)
    started(shop)
    exact: dict[tuple[str, ...], float] = {}
    items = [*dict.fromkeys(lists[0] + lists[1])]
    rows = [[items.index(each) for each in one] for one in lists]
    for coins in product((0.25, 0.75), repeat=4):
        chance = np.full((4, CHANCES), 0.5)
        chance[:, 0] = coins
        slate = tuple(items[row] for row in draft_of(rows, chance).chosen.tolist())
        exact[slate] = exact.get(slate, 0.0) + 1 / 16
    often: Counter[tuple[str, ...]] = Counter()
    said: dict[tuple[str, ...], float] = {}
    for number in range(400):
        answer = shop.recommend("home", user_id=USERS[number % len(USERS)])
        often[tuple(ids(answer))] += 1
        if tuple(ids(answer)) not in said:
            chances = [each.propensity for each in record_of(shop, answer).items]
            said[tuple(ids(answer))] = float(np.prod(chances))
    assert said.keys() == exact.keys()
    for slate, probability in exact.items():
        assert said[slate] == pytest.approx(probability, rel=1e-6)
        assert abs(often[slate] / 400 - probability) < 4 * (probability / 400) ** 0.5


def test_the_same_placement_twice_is_nobodys(shop: Recommender) -> None:
    """An A/A draft is the placement's own slate, with propensities of 1 and no team."""
    started(shop, ODD, ODD)
    answer = shop.recommend("home", user_id="ann")
    record = record_of(shop, answer)
    assert teams_in(record.items, TEAMS)[0].tolist() == [-1] * 4
    assert {each.propensity for each in record.items} == {1.0}
    shop.set_placement("alone", ODD, author="ann")
    assert ids(answer) == ids(shop.recommend("alone", user_id="ann"))


def test_two_drawn_rankings_draft_evenly(shop: Recommender) -> None:
    """Of the same placement twice, that draws, each team has half of the places."""
    started(shop, DRAWN, DRAWN)
    places: Counter[int] = Counter()
    for number in range(150):
        answer = shop.recommend("home", user_id=USERS[number])
        places.update(teams_in(record_of(shop, answer).items, TEAMS)[0].tolist())
    assert places[0] + places[1] > 300
    assert abs(places[0] / (places[0] + places[1]) - 0.5) < 0.1


@pytest.mark.parametrize("second", [EVEN, DRAWN])
def test_drafts_and_their_pages_are_made_again_exactly(tmp_path: Path, second: Any) -> None:
    """Also after the experiment ended, and of rankings that are drawn; explanations name the teams."""
    with opened(tmp_path) as shop:
        started(shop, ODD, second)
        first = shop.recommend("home", user_id="ann", cursor=True)
        shop.recommend("home", user_id="ann", cursor=first.cursor)
        for user in USERS[:10]:
            shop.recommend("home", user_id=user, items=["i8"], exclude=["i3"])
        shop.experiments.stop("mix", "enough", author="ann")
    with midstream.open(tmp_path) as shop:
        assert not [each.placement for each in shop.placements() if "@" in each.placement]
    again = list(rerun_last(tmp_path, 12))
    assert len(again) == 12
    assert all(not each.differences for each in again)
    slates = logged_slates(LogView(tmp_path), config_of(tmp_path), "home@mix.draft", 20)
    assert (slates.slates, slates.left_out["drafted of several placements"]) == ((), 11)
    told = explain_request(tmp_path, first.request_id)
    assert told.identical
    assert told.why is not None
    assert {each.source for item in told.why.items for each in item.proposed} == {*TEAMS, "draft.round"}


def test_a_cursor_goes_on_with_the_draft_and_ends_with_it(shop: Recommender) -> None:
    """No item twice, teams on each page; after the experiment ended the cursor is refused."""
    started(shop)
    first = shop.recommend("home", user_id="ann", cursor=True)
    seen, cursor = ids(first), first.cursor
    while cursor:
        answer = shop.recommend("home", user_id="ann", cursor=cursor)
        assert (answer.experiment, answer.variant) == ("mix", "draft")
        record = record_of(shop, answer)
        assert record.scorer == SCORER
        assert set(record.source_names) == {*TEAMS, "draft.round"}
        seen += ids(answer)
        cursor = answer.cursor
    assert len(seen) == len(set(seen)) == 9
    shop.experiments.stop("mix", "enough", author="ann")
    with pytest.raises(RequestInvalid, match="not kept any more"):
        shop.recommend("home", user_id="ann", cursor=first.cursor)


def test_exclusions_and_what_was_served_hold(shop: Recommender) -> None:
    """Excluded items are in no draft; what a draft has served is not served again in the next."""
    fresh = {"exclude": {"served": "1h"}}
    started(shop, {**ODD, **fresh}, {**EVEN, **fresh})
    answer = shop.recommend("home", user_id="ann", exclude=["i1"])
    assert "i1" not in ids(answer)
    second = shop.recommend("home", user_id="ann")
    assert second.items
    assert not {*ids(answer)} & {*ids(second)}
    assert not record_of(shop, second).failures


def test_pages_and_rankings_of_the_callers_items_are_answered_by_the_placement(shop: Recommender) -> None:
    """As they are by a shop without an experiment."""
    page, ranked = shop.page(["home", "cart"], user_id="ann"), shop.rank(["i3", "i2"], "home", user_id="ann")
    started(shop)
    now = shop.page(["home", "cart"], user_id="ann")
    for before, after in zip(page.slates, now.slates, strict=True):
        assert isinstance(before, Answer)
        assert isinstance(after, Answer)
        assert (ids(after), after.experiment) == (ids(before), "")
    again = shop.rank(["i3", "i2"], "home", user_id="ann")
    assert (ids(again), again.experiment) == (ids(ranked), "")


def test_a_share_of_units_is_drafted_for_and_the_others_have_the_placement(shop: Recommender) -> None:
    """The layer decides, as for every experiment."""
    started(shop, share=0.5)
    variants = Counter(shop.recommend("home", user_id=user).variant for user in USERS)
    assert set(variants) == {"draft", ""}
    assert 60 < variants["draft"] < 140


def test_three_variants_draft_one_slate(shop: Recommender) -> None:
    """Multileaving."""
    third = {"sources": [{"kind": "editorial", "items": ["i1", "i8", "i0"]}], "slate_size": 4}
    names = ("odd", "even", "rest")
    variants = [{"name": n, "placement": p} for n, p in zip(names, (ODD, EVEN, third), strict=True)]
    started(shop, variants=variants)
    teams: Counter[int] = Counter()
    for user in USERS[:30]:
        record = record_of(shop, shop.recommend("home", user_id=user))
        teams.update(teams_in(record.items, [f"home@mix.{each}" for each in names])[0].tolist())
    assert set(teams) == {-1, 0, 1, 2}


def test_what_cannot_be_drafted_does_not_start(shop: Recommender) -> None:
    """Each with its place; nothing is left behind."""
    rules = {"rules": [{"name": "top", "kind": "pin", "items": ["i1"], "positions": [0]}]}
    team = {"name": "even", "placement": EVEN}
    bad: list[tuple[dict[str, Any], str]] = [
        ({"variants": [{"name": "draft"}, team]}, "/variants/0/name"),
        ({"variants": [{"name": "odd", "weight": 2.0}, team]}, "/variants/0/weight"),
        ({"variants": [{"name": f"v{n}"} for n in range(9)]}, "/variants"),
        ({"metrics": [{"name": "x", "counts": "slates", "role": "primary"}]}, "/metrics/0/counts"),
        (
            {
                "metrics": [
                    {"name": "x", "counts": "view", "role": "primary"},
                    {"name": "y", "counts": "view", "role": "guardrail"},
                ]
            },
            "/metrics/1/role",
        ),
        ({"second": {**DRAWN, **rules}}, "/variants/1/placement"),
    ]
    for order, where in bad:
        with pytest.raises(ConfigInvalid) as refused:
            started(shop, **order)
        assert where in [each.where for each in refused.value.faults]
    assert not shop.experiments.list().experiments
    assert not [each.placement for each in shop.placements() if "@" in each.placement]
