"""People who are shown slates: luck that depends on nobody else, attention that falls, robots, hours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.simulation.audience import DAY_MS, HOUR_MS, AudienceOptions, audience
from midstream.simulation.season import START_MS
from midstream.simulation.shop import CATEGORIES, COLOURS, STYLES, ShopOptions, open_shop
from midstream.simulation.visitor import VisitorOptions

SHOP = open_shop(ShopOptions(3, START_MS, opening_count=60, launch_count=0))
seeds = st.integers(0, 2**32)


def one_visit(person, slates):
    """Return the reactions of a person to one slate after another, until the person leaves."""
    person.arrive()
    now_ms: int | None = START_MS + DAY_MS
    found = []
    for slate in slates:
        if now_ms is None:
            break
        found.append(person.react(SHOP, person.page(SHOP, now_ms), slate))
        now_ms = found[-1].next_ms
    return found


@given(seeds, st.integers(0, 20), st.integers(1, 30))
@settings(max_examples=30)
def test_more_people_change_nobody(seed, number, more):
    """What one person is and does depends on the seed and the person alone."""
    few = audience(seed, START_MS, AudienceOptions(person_count=number + 1))[number]
    many = audience(seed, START_MS, AudienceOptions(person_count=number + 1 + more))[number]
    slates = [np.arange(10)] * 8
    assert few.next_visit_ms == many.next_visit_ms
    assert [(each.clicked, each.viewed, each.acts) for each in one_visit(few, slates)] == [
        (each.clicked, each.viewed, each.acts) for each in one_visit(many, slates)
    ]


@given(seeds)
@settings(max_examples=30)
def test_what_was_shown_changes_no_luck(seed):
    """Whatever policy filled the pages, attention, the end of the visit and the next visit are the same."""
    options = AudienceOptions(person_count=1, robot_share=0.0)
    one, other = audience(seed, START_MS, options)[0], audience(seed, START_MS, options)[0]
    first = one_visit(one, [np.arange(10)] * 40)
    second = one_visit(other, [np.arange(10) + 50] * 40)
    assert len(first) == len(second)
    assert [each.next_ms for each in first] == [each.next_ms for each in second]
    assert one.next_visit_ms == other.next_visit_ms


def test_the_first_position_is_seen_most():
    """Looked at falls as 1 / (k + 1), however good what stands there is; without bias all is looked at."""
    people = audience(5, START_MS, AudienceOptions(person_count=1_500, robot_share=0.0))
    looks = np.zeros(10)
    for person in people:
        person.arrive()
        page = person.page(SHOP, START_MS)
        page.attraction[:] = 0.0
        looks += person.react(SHOP, page, np.arange(10)).looked_at
    expected = 1.0 / (1.0 + np.arange(10))
    assert np.abs(looks / len(people) - expected).max() < 5 * np.sqrt(0.25 / len(people))
    fair = audience(5, START_MS, AudienceOptions(person_count=50, robot_share=0.0, position_bias=0.0))
    for person in fair:
        person.arrive()
        page = person.page(SHOP, START_MS)
        page.attraction[:] = 0.0
        assert person.react(SHOP, page, np.arange(10)).looked_at.all()


def test_a_click_stops_the_look():
    """Nothing behind what was clicked was looked at, and what was clicked was."""
    for person in audience(7, START_MS, AudienceOptions(person_count=300, robot_share=0.0)):
        for reaction in one_visit(person, [np.arange(10)] * 6):
            if reaction.clicked >= 0:
                assert reaction.looked_at[reaction.clicked]
                assert not reaction.looked_at[reaction.clicked + 1 :].any()
                assert reaction.viewed == reaction.clicked


def test_robots_do_not_care():
    """Crawlers click nothing, clickers the first item, neither buys; and so many come."""
    people = audience(9, START_MS, AudienceOptions(person_count=1_000, robot_share=0.2))
    robots = [person for person in people if person.robot]
    assert 140 < len(robots) < 260
    for person in robots[:40]:
        for reaction in one_visit(person, [np.arange(10)] * 5):
            assert reaction.clicked == (0 if person.robot == "clicker" else -1)
            assert reaction.acts == ("view",)


def test_visits_follow_the_hours():
    """The busiest hours see more than twice as many visits as the quietest."""
    people = audience(11, START_MS, AudienceOptions(person_count=3_000))
    hours = np.bincount([person.next_visit_ms // HOUR_MS % 24 for person in people], minlength=24)
    assert hours[18:22].sum() > 2 * hours[1:5].sum()


def test_people_come_again_with_another_taste():
    """Visits do not overlap, and tastes drift from one to the next."""
    person = audience(13, START_MS, AudienceOptions(person_count=1, visitor=VisitorOptions(drift=0.3)))[0]
    before = person.visitor.taste.copy()
    starts = []
    for _ in range(10):
        starts.append(person.next_visit_ms)
        reactions = one_visit(person, [np.arange(10)] * 40)
        assert len(reactions) * 60_000 < DAY_MS
    assert min(np.diff(starts)) >= DAY_MS // 12
    assert float(before @ person.visitor.taste) < 0.99


def test_the_catalogue_explains_taste_in_part():
    """Of where products lie, category, price and title explain more than category alone, and much stays hidden."""
    shop = open_shop(ShopOptions(17, START_MS, opening_count=2_000, launch_count=0))
    category = np.eye(len(CATEGORIES))[shop.category]
    dearness = np.log(shop.price)[:, np.newaxis] * category
    told = np.hstack([category, dearness, np.eye(len(STYLES))[shop.style], np.eye(len(COLOURS))[shop.colour]])

    def explained(columns):
        fit = columns @ np.linalg.lstsq(columns, shop.vector, rcond=None)[0]
        return 1.0 - ((shop.vector - fit) ** 2).sum() / ((shop.vector - shop.vector.mean(axis=0)) ** 2).sum()

    assert explained(category) < explained(told) - 0.02
    assert 0.5 < explained(told) < 0.95


@pytest.mark.parametrize("signal", [0.0, 1.0])
def test_signal_decides_how_much_fits(signal):
    """Without signal everything attracts everybody alike; with it hardly anything does."""
    person = audience(19, START_MS, AudienceOptions(person_count=1, signal=signal))[0]
    person.arrive()
    attraction = person.page(SHOP, START_MS).attraction
    assert np.ptp(attraction) == 0.0 if signal == 0.0 else np.ptp(attraction) > 0.2
