"""Rules of a slate, alone and against each other: what they promise, what yields, and that propensities are right."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from midstream.core.types import FeatureFrame, Query, TimestampMs, Trace
from midstream.ranking.rules.arrangement import Arrangement
from midstream.ranking.rules.boost import Boosted, worth_of
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity, Volume, alike
from midstream.ranking.rules.new_items import Fresh
from midstream.ranking.rules.promote import Promoted
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.thompson import Thompson
from midstream.ranking.selectors.top_k import TopK

DRAWS = 1_500
ROWS = np.arange(7, dtype=np.int32)
FRAME = FeatureFrame(
    ("clicks", "seen"),
    np.array([[1, 30], [40, 900], [5, 10], [3, 25], [9, 100], [2, 8], [0, 3]], dtype=np.float32),
)
SCORE = np.array([0.9, 0.8, 0.5, 0.45, 0.1, 0.05, -0.3], dtype=np.float32)
DRAWING = [
    PlackettLuce(temperature=0.9),
    PlackettLuce(temperature=0.9, keep=1, pool=3),
    EpsilonGreedy(epsilon=0.5),
    EpsilonGreedy(epsilon=0.5, keep=1, pool=3),
    Thompson(acts="clicks", impressions="seen"),
    Thompson(acts="clicks", impressions="seen", keep=1, pool=3),
]
numbers = st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=20)


def asked(size: int, seed: int = 0) -> Query:
    """A request for a slate of this size."""
    return Query("r", "home", None, None, size, TimestampMs(0), seed)


def mask(*rows: int, count: int = 7) -> np.ndarray:
    """Some of the candidates."""
    return np.isin(np.arange(count), rows)


def codes_of(*values: int) -> np.ndarray:
    """Value codes of a category."""
    return np.array(values, dtype=np.int32)[:, None]


def facts_of(selector) -> tuple[Arrangement, CandidateFacts]:
    """Every rule at once, as far as a selector takes it: four places of which the second is pinned."""
    by_rates = isinstance(selector, Thompson)
    rules = Arrangement(
        (Cap(attribute="a", max=1),), None if by_rates else Diversity(attribute="b", weight=0.6, method="dpp")
    )
    facts = CandidateFacts(
        ROWS,
        (codes_of(0, 0, 1, 2, -1, 3, 3),),
        None if by_rates else codes_of(0, 1, 1, 1, 0, 2, -1),
        boosts=() if by_rates else (Boosted("boost", 3.0, mask(3, 6)), Boosted("bury", 0.4, mask(0))),
        promotions=(Promoted("promote", 0.5, 0.8, mask(0, 2, 4, 5)),),
        fresh=(Fresh("new", frozenset((2,)), mask(1, 3, 5, 6)),),
        pins={1: (4, "pin")},
    )
    return rules, facts


@pytest.mark.parametrize("selector", DRAWING, ids=repr)
def test_a_propensity_is_the_share_of_requests_under_all_rules(selector) -> None:
    """Given the places before it and the rules, an item stands at a place as often as its propensity says."""
    rules, facts = facts_of(selector)
    seen: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    said: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
    for seed in range(DRAWS):
        selection = rules.select(selector, asked(4, seed * 7_919), FRAME, SCORE, facts)
        slate = tuple(selection.chosen.tolist())
        assert slate[1] == 4
        assert selection.propensity[1] == 1
        for place, row in enumerate(slate):
            seen[slate[:place]][row] += 1
            said[slate[:place]][row] = float(selection.propensity[place])
    assert len(seen) > 4
    for prefix, counts in seen.items():
        many = counts.total()
        for row, count in counts.items():
            propensity = said[prefix][row]
            assert abs(count - many * propensity) <= 5 * np.sqrt(many * propensity * (1 - propensity)) + 1, prefix
        assert sum(said[prefix].values()) <= 1 + 1e-5
        if many > DRAWS / 2:  # whatever may come there came
            assert sum(said[prefix].values()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("selector", DRAWING[::2], ids=repr)
def test_new_items_are_drawn_among_themselves(selector) -> None:
    """However far behind they are by score, and by a pool of two: each of them comes, and no other."""
    selector = replace_pool(selector, 3)
    facts = CandidateFacts(ROWS, fresh=(Fresh("new", frozenset((0,)), mask(4, 5, 6)),))
    slates = [Arrangement().select(selector, asked(2, seed * 7_919), FRAME, SCORE, facts) for seed in range(300)]
    rows = Counter(int(each.chosen[0]) for each in slates)
    assert rows.keys() == {4, 5, 6}


def replace_pool(selector, pool: int):
    """The same selector with another pool."""
    return type(selector)(**{name: getattr(selector, name) for name in selector.__struct_fields__} | {"pool": pool})


@given(numbers, st.floats(0.01, 100), st.floats(-1_000, 1_000), st.floats(0.05, 20), st.data())
def test_a_boost_does_the_same_whatever_the_scale_of_scores(scores, scale, shift, factor, data) -> None:
    """Scores of another scale or origin, negative ones too, are put in the same order by the same boosts."""
    score = np.array(scores, dtype=np.float32)
    member = np.array(data.draw(st.lists(st.booleans(), min_size=len(score), max_size=len(score))))
    boosts = (Boosted("b", factor, member),)
    unit = float(score.astype(np.float64).std())
    worth = worth_of(score, boosts)
    lift = np.log(factor) * (unit if unit > 0 else 1.0)
    np.testing.assert_allclose(worth, score.astype(np.float64) + np.where(member, lift, 0.0), atol=1e-9)
    both = worth_of(score, (*boosts, Boosted("c", 1 / factor, member)))
    np.testing.assert_allclose(both, score, atol=1e-6 * (1 + unit))
    other = (score.astype(np.float64) * scale + shift).astype(np.float32)
    other_unit = float(other.astype(np.float64).std())
    if unit > 1e-3 and other_unit > 1e-3:
        in_units, others = (worth_of(each, boosts) - each.astype(np.float64) for each in (score, other))
        np.testing.assert_allclose(in_units / unit, others / other_unit, atol=1e-6)


def test_below_one_is_buried_and_above_one_comes_first_with_negative_scores() -> None:
    """A product would turn over: 2 times -3 is less than -3."""
    score = np.array([-3.0, -2.0, -1.0, np.nan], dtype=np.float32)
    up = CandidateFacts(ROWS[:4], boosts=(Boosted("up", 50.0, mask(0, 3, count=4)),))
    down = CandidateFacts(ROWS[:4], boosts=(Boosted("down", 0.02, mask(2, count=4)),))
    one = Arrangement().select(TopK(), asked(2), FRAME, score, up)
    assert one.chosen.tolist() == [0, 2]
    assert one.traces == (Trace("up", 0, 0, "boosted"),)
    other = Arrangement().select(TopK(), asked(2), FRAME, score, down)
    assert other.chosen.tolist() == [1, 0]
    assert other.traces == (Trace("down", 2, -1, "buried"),)


@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(2, 14), st.sampled_from([0.1, 0.5, 1.0]))
def test_dpp_is_the_greedy_search_by_determinants(seed, by_vectors, count, weight) -> None:
    """Place by place the best of score and log det of all that stands, each determinant computed anew."""
    dice = np.random.default_rng(seed)
    if by_vectors:
        values = dice.standard_normal((count, 3)).astype(np.float32)
        values /= np.sqrt((values**2).sum(axis=1, keepdims=True))
        values[dice.random(count) < 0.2] = 0
    else:
        values = dice.integers(-1, 4, (count, 1)).astype(np.int32)
    likeness = np.stack([alike(values)(at) for at in range(count)])
    kernel = 0.99 * likeness
    np.fill_diagonal(kernel, 1.0)
    score = dice.standard_normal(count).astype(np.float32)
    rules = Arrangement((), Diversity(attribute="b", method="dpp", weight=weight))
    facts = CandidateFacts(np.arange(count, dtype=np.int32), values=values)
    chosen = rules.select(TopK(), asked(count), FRAME, score, facts).chosen.tolist()
    spread = float(score.max()) - float(score.min())
    for place, row in enumerate(chosen):
        above = chosen[:place]
        gain = {
            each: float(score[each]) - weight * spread * _lost(kernel, above, each)
            for each in range(count)
            if each not in above
        }
        assert gain[row] >= max(gain.values()) - 1e-5


def _lost(kernel: np.ndarray, above: list[int], row: int) -> float:
    """What the items above take: the log of a quotient of determinants, in parts of the log of 0.01."""
    whole = np.linalg.slogdet(kernel[np.ix_([*above, row], [*above, row])])[1]
    before = np.linalg.slogdet(kernel[np.ix_(above, above)])[1] if above else 0.0
    return float(whole - before) / math.log(0.01)


def test_dpp_sees_what_is_made_of_two_above() -> None:
    """Half of one and half of another: less is left of it than of what is half of one alone."""
    values = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.6, 0], [0.6, 0, 0.6]], dtype=np.float32)
    values /= np.sqrt((values**2).sum(axis=1, keepdims=True))
    volume = Volume(values, 4)
    volume.take(0)
    assert volume.cost[2] == pytest.approx(volume.cost[3])
    volume.take(1)
    assert volume.cost[2] > 4 * volume.cost[3]
    assert ((volume.cost >= 0) & (volume.cost <= 1)).all()


@given(st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_shares_that_can_be_held_together_are_held(size, seed) -> None:
    """Four promotions, with items enough and nothing before them: every least holds in every beginning.

    Each alone would wait for its last place; they have to look ahead over all.
    """
    dice = np.random.default_rng(seed)
    count = 4 * size + 20
    owner = dice.permutation(np.repeat(np.arange(5), (count + 4) // 5))[:count]
    least = dice.dirichlet([1.0] * 5)[:4]
    promotions = tuple(Promoted(f"p{k}", float(least[k]), 1.0, owner == k) for k in range(4))
    score = dice.standard_normal(count).astype(np.float32)
    facts = CandidateFacts(np.arange(count, dtype=np.int32), promotions=promotions)
    chosen = Arrangement().select(TopK(), asked(size), FRAME, score, facts).chosen
    for number, each in enumerate(promotions):
        enough = (owner == number).sum() >= size
        for k in range(1, size + 1):
            have = int((owner[chosen[:k]] == number).sum())
            assert have >= math.floor(each.min * k + 1e-9) or not enough


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_the_first_of_shares_that_have_items_in_common_is_held(size, seed) -> None:
    """Whatever the others want of its items."""
    dice = np.random.default_rng(seed)
    member = dice.random((3, 3 * size)) < 0.5
    least = dice.choice([0.0, 0.35, 0.5, 0.8, 1.0], 3)
    promotions = tuple(Promoted(f"p{k}", float(least[k]), 1.0, member[k]) for k in range(3))
    score = dice.standard_normal(3 * size).astype(np.float32)
    facts = CandidateFacts(np.arange(3 * size, dtype=np.int32), promotions=promotions)
    chosen = Arrangement().select(TopK(), asked(size), FRAME, score, facts).chosen
    for k in range(1, len(chosen) + 1):
        assert member[0][chosen[:k]].sum() >= min(math.floor(least[0] * k + 1e-9), member[0].sum())


@settings(max_examples=1_000)
@given(st.integers(1, 12), st.integers(0, 5), st.integers(0, 2**32 - 1))
@example(9, 3, 168068587)  # a pin brings what could not be had before it, and then it is had
def test_of_shares_that_cannot_all_be_held_each_has_what_those_before_it_leave(size, pinned, seed) -> None:
    """The first of the file as if it were alone, as far as it has items; the next gives up no more than it has to."""
    dice = np.random.default_rng(seed)
    owner = dice.permutation(np.repeat(np.arange(5), [*dice.integers(0, size + 3, 4), 2 * size]))
    least = dice.choice([0.0, 0.2, 0.35, 0.5, 0.8, 1.0], 4).tolist()
    promotions = tuple(Promoted(f"p{k}", least[k], 1.0, owner == k) for k in range(4))
    at = dice.permutation(size)[:pinned].tolist()
    pins = {place: (int(row), "pin") for place, row in zip(at, dice.permutation(len(owner)), strict=False)}
    score = dice.standard_normal(len(owner)).astype(np.float32)
    facts = CandidateFacts(np.arange(len(owner), dtype=np.int32), promotions=promotions, pins=pins)
    whose = owner[Arrangement().select(TopK(), asked(size), FRAME, score, facts).chosen]
    room = np.cumsum([place not in pins for place in range(size)])
    for number, each in enumerate(promotions):
        brought = np.array([place in pins and owner[pins[place][0]] == number for place in range(size)])
        need = np.floor(each.min * np.arange(1, size + 1) + 1e-9) - brought.cumsum()
        pinned_items = sum(owner[row] == number for row, _ in pins.values())
        need = np.minimum(np.maximum(need, 0), (owner == number).sum() - pinned_items)
        had = np.maximum.accumulate(np.minimum(need, np.minimum.accumulate(room[::-1])[::-1]))
        have = np.cumsum([whose[place] == number and place not in pins for place in range(size)])
        assert (have >= had).all(), number
        room = room - had


FALLING, NOTHING = np.arange(8, 0, -1).astype(np.float32), FeatureFrame((), np.empty((8, 0), np.float32))
EIGHT = np.arange(8, dtype=np.int32)


def slate(facts: CandidateFacts, size: int = 4, rules: Arrangement | None = None) -> tuple[list[int], list[Trace]]:
    """What the best scores come to, with what was done; row 0 has the best."""
    found = (rules or Arrangement()).select(TopK(), asked(size), NOTHING, FALLING, facts)
    return found.chosen.tolist(), list(found.traces)


def test_a_pin_beats_a_cap_and_counts_for_it() -> None:
    """Two pinned items of one value pass a cap of one; no other of it comes, not even above them."""
    facts = CandidateFacts(EIGHT, (codes_of(0, 1, 2, 3, 0, 0, 4, 5),), pins={1: (4, "p"), 3: (5, "p")})
    chosen, traces = slate(facts, rules=Arrangement((Cap(attribute="a", max=1),)))
    assert chosen == [1, 4, 2, 5]
    assert traces == [Trace("p", 4, 1, "pinned"), Trace("p", 5, 3, "pinned"), Trace("caps.a", 0, -1, "capped")]


def test_a_cap_beats_the_least_of_a_promotion() -> None:
    """All promoted items are of one value, of which there may be one: the share is given up, and says so."""
    facts = CandidateFacts(
        EIGHT, (codes_of(0, 1, 2, 3, 4, 9, 9, 9),), promotions=(Promoted("p", 0.5, 1.0, mask(5, 6, 7, count=8)),)
    )
    chosen, traces = slate(facts, rules=Arrangement((Cap(attribute="a", max=1),)))
    assert chosen == [0, 5, 1, 2]
    assert traces == [Trace("p", 5, 1, "promoted"), Trace("p", -1, 3, "short")]


def test_the_most_of_a_promotion_keeps_out_even_where_the_slate_is_shorter() -> None:
    """Six of eight are promoted and have a half at most: after the two others have come there is no further place."""
    facts = CandidateFacts(EIGHT, promotions=(Promoted("p", 0.0, 0.5, mask(0, 1, 2, 3, 4, 5, count=8)),))
    chosen, traces = slate(facts, size=8)
    assert chosen == [0, 6, 1, 7, 2]
    assert {(each.what, each.item_index) for each in traces} == {("held", row) for row in (3, 4, 5)}


def test_a_pin_that_is_still_to_come_counts_for_the_most_of_its_promotion() -> None:
    """Of the first two places one may be theirs, and the second is pinned: nobody of them comes to the first."""
    facts = CandidateFacts(EIGHT, promotions=(Promoted("p", 0.0, 0.5, mask(0, 3, count=8)),), pins={1: (3, "pin")})
    assert slate(facts)[0] == [1, 3, 0, 2]


def test_a_pin_beats_a_position_for_new_items_which_beats_a_promotion() -> None:
    """At the pin's place no new item comes; at the next one a new item does, and of the promotion, if there is one."""
    facts = CandidateFacts(
        EIGHT,
        promotions=(Promoted("p", 1.0, 1.0, mask(6, count=8)),),
        fresh=(Fresh("n", frozenset((0, 1)), mask(5, 6, count=8)),),
        pins={0: (3, "pin")},
    )
    chosen, traces = slate(facts, size=3)
    assert chosen == [3, 6, 0]
    assert traces[:3] == [Trace("pin", 3, 0, "pinned"), Trace("n", 6, 1, "new"), Trace("p", 6, 1, "promoted")]


def test_a_pinned_item_stands_nowhere_else() -> None:
    """The best of all waits for its position."""
    chosen, traces = slate(CandidateFacts(EIGHT, pins={2: (0, "pin")}))
    assert chosen == [1, 2, 0, 3]
    assert traces == [Trace("pin", 0, 2, "pinned")]


def test_the_best_new_item_comes_at_a_position_for_new_ones() -> None:
    """Nothing is left to chance with the best scores; where no new item is left anybody comes, and that is said."""
    chosen, traces = slate(CandidateFacts(EIGHT, fresh=(Fresh("n", frozenset((0, 2, 3)), mask(5, 6, count=8)),)))
    assert chosen == [5, 0, 6, 1]
    assert traces == [Trace("n", 5, 0, "new"), Trace("n", 6, 2, "new"), Trace("n", -1, 3, "none")]


def test_a_promotion_beats_diversity_and_boosts() -> None:
    """A buried double of what stands above comes all the same where a share needs it."""
    rules = Arrangement((), Diversity(attribute="b", weight=1.0))
    facts = CandidateFacts(
        EIGHT,
        values=codes_of(0, 1, 2, 3, 4, 5, 6, 0),
        boosts=(Boosted("down", 0.01, mask(7, count=8)),),
        promotions=(Promoted("p", 0.5, 1.0, mask(7, count=8)),),
    )
    assert slate(facts, size=2, rules=rules)[0] == [0, 7]


def test_of_two_shares_for_one_place_the_first_of_the_file_has_it() -> None:
    """Both want every place."""
    shares = (Promoted("one", 1.0, 1.0, mask(6, count=8)), Promoted("two", 1.0, 1.0, mask(7, count=8)))
    assert slate(CandidateFacts(EIGHT, promotions=shares), size=1)[0] == [6]
    assert slate(CandidateFacts(EIGHT, promotions=shares[::-1]), size=1)[0] == [7]


def test_where_the_first_share_has_no_item_for_a_place_the_second_has_it() -> None:
    """At a position for new items, of which the first has none: it needs the place, and can make no use of it."""
    shares = (Promoted("one", 1.0, 1.0, mask(6, count=8)), Promoted("two", 1.0, 1.0, mask(7, count=8)))
    facts = CandidateFacts(EIGHT, promotions=shares, fresh=(Fresh("n", frozenset((0,)), mask(5, 7, count=8)),))
    assert slate(facts, size=2)[0] == [7, 6]


def test_a_pin_without_a_score_comes_and_one_behind_a_short_slate_moves_up() -> None:
    """What no scorer could say anything of is pinned all the same; where the slate ends before it, it is the end."""
    score = np.array([3, 2, np.nan, np.nan], dtype=np.float32)
    facts = CandidateFacts(ROWS[:4], pins={1: (2, "p"), 9: (3, "p")})
    found = Arrangement().select(TopK(), asked(12), FRAME, score, facts)
    assert found.chosen.tolist() == [0, 2, 1, 3]
    assert found.propensity.tolist() == [1, 1, 1, 1]
    assert found.traces == (Trace("p", 2, 1, "pinned"), Trace("p", 3, 3, "moved"))


def test_diversity_says_what_it_passed_over() -> None:
    """The double of the first comes later, and is named with where it stands."""
    facts = CandidateFacts(EIGHT, values=codes_of(0, 0, 1, 2, 3, 4, 5, 6))
    chosen, traces = slate(facts, rules=Arrangement((), Diversity(attribute="b", weight=0.2)))
    assert chosen == [0, 2, 1, 3]
    assert traces == [Trace("diversity", 1, 2, "lowered")]


def test_without_anything_in_force_the_selector_chooses_alone() -> None:
    """The very same slate and propensities as without rules."""
    selector = PlackettLuce()
    found = Arrangement().select(selector, asked(4, 11), FRAME, SCORE, CandidateFacts(ROWS))
    alone = selector.select(asked(4, 11), FRAME, SCORE)
    assert found.chosen.tolist() == alone.chosen.tolist()
    assert found.propensity.tobytes() == alone.propensity.tobytes()


@given(st.lists(st.booleans(), min_size=7, max_size=7))
def test_facts_of_kept_candidates_are_those_read_of_them_alone(kept) -> None:
    """Every column is cut the same, a pin finds its row, or says that its item is taken."""
    _, facts = facts_of(TopK())
    keep = np.array(kept)
    left = facts.where(keep)
    assert left.item_index.tolist() == ROWS[keep].tolist()
    before: list[Boosted | Promoted | Fresh] = [*facts.boosts, *facts.promotions, *facts.fresh]
    after: list[Boosted | Promoted | Fresh] = [*left.boosts, *left.promotions, *left.fresh]
    assert [each.name for each in after] == [each.name for each in before]
    assert [each.member.tolist() for each in after] == [each.member[keep].tolist() for each in before]
    if keep[4]:
        assert left.item_index[left.pins[1][0]] == 4
        assert left.traces == ()
    else:
        assert left.pins == {}
        assert left.traces == (Trace("pin", 4, 1, "taken"),)
