"""Routes: who gets which variant, what a ramp, a layer, a holdout and a lost variant do to it."""

from collections import Counter

import pytest
from scipy import stats

from midstream.core.errors import ConfigInvalid
from midstream.experiments.assignment import BUCKETS, bucket, salt_of, user_unit
from midstream.experiments.documents import (
    Experiment,
    NewExperiment,
    NewVariant,
    RampStep,
    document_holdout,
    encode_document,
    experiment_of,
    free_span,
    holdout_of,
    new_faults,
    ramped,
    started,
    stopped,
)
from midstream.experiments.names import arm_of
from midstream.experiments.routes import Routes, shares_at

UNITS = [user_unit(number * 0x9E3779B97F4A7C15 % (1 << 64)) for number in range(20_000)]
NOW = 1_000


def made(
    name: str = "colour",
    placement: str = "home",
    layer: str = "home",
    first: int = 0,
    size: int = BUCKETS,
    steps: tuple[RampStep, ...] = (RampStep(0, BUCKETS),),
    weights: tuple[float, ...] = (1, 1),
) -> Experiment:
    """An experiment with variants a, b, ..."""
    variants = tuple(NewVariant(chr(ord("a") + number), weight) for number, weight in enumerate(weights))
    new = NewExperiment(name, placement, variants, layer, size, steps)
    assert not list(new_faults(new))
    return started(new, ["0" * 64] * len(variants), first, NOW)


def placements_of(*experiments: Experiment) -> set[str]:
    """Every placement that they need."""
    return {"home", "cart"} | {variant.placement for each in experiments for variant in each.variants}


def routed(routes: Routes, placement: str = "home", now_ms: int = NOW) -> list[str]:
    """Where each unit goes."""
    return [routes.placement(placement, unit, now_ms, is_user=True) for unit in UNITS]


def test_units_are_spread_by_weight_and_stay() -> None:
    """Groups fit their shares by chi-square, and another call gives the same."""
    one = made(weights=(2, 1, 1))
    routes = Routes.of([one], None, placements_of(one))
    found = routed(routes)
    counts = Counter(found)
    assert set(counts) == {"home@colour.a", "home@colour.b", "home@colour.c"}
    observed = [counts[each.placement] for each in one.variants]
    expected = [share * len(UNITS) for share in shares_at(one, NOW)]
    assert stats.chisquare(observed, expected).pvalue > 0.001
    assert routed(routes) == found
    assert routes.placement("home", None, NOW, is_user=False) == "home"


def test_a_ramp_only_adds_units() -> None:
    """At each step, by time and by command, who had a variant has it still, and the share is the stated one."""
    one = made(first=1_000, size=8_000, steps=(RampStep(0, 100), RampStep(2_000, 3_000)))
    one = ramped(one, (RampStep(3_000, 7_777), RampStep(4_000, BUCKETS)), 2_500)
    routes = Routes.of([one], None, placements_of(one))
    before = routed(routes, now_ms=0)
    for now_ms, exposed in ((2_000, 3_000), (3_000, 7_777), (4_000, BUCKETS)):
        now = routed(routes, now_ms=now_ms)
        assert all(old in ("home", new) for old, new in zip(before, now, strict=True))
        share = sum(each != "home" for each in now) / len(UNITS)
        assert share == pytest.approx(0.8 * exposed / BUCKETS, abs=0.012)
        assert 0 <= sum(shares_at(one, now_ms)) - 0.8 * exposed / BUCKETS < 1 / BUCKETS + 1e-9
        counts = Counter(now)
        observed = [counts[each.placement] for each in one.variants]
        assert stats.chisquare(observed, [sum(observed) / 2] * 2).pvalue > 0.001
        before = now
    with pytest.raises(ConfigInvalid, match="stays in"):
        ramped(one, (RampStep(5_000, 9_999),), 4_500)


@pytest.mark.parametrize(
    "size, exposed, buckets", [(1, 1, 1), (3, 5_000, 2), (10, 1_001, 2), (10, 1_000, 1), (7, 0, 0)]
)
def test_shares_are_of_whole_buckets(size: int, exposed: int, buckets: int) -> None:
    """A small range exposes a whole bucket or none; the share that is stated is that of units by their buckets."""
    one = made(size=size, steps=(RampStep(0, exposed),))
    assert sum(shares_at(one, NOW)) == pytest.approx(buckets / BUCKETS)
    routes, found = Routes.of([one], None, placements_of(one)), set()
    for unit in map(user_unit, range(200_000)):
        own = bucket(unit, one.layer_salt)
        if own < size and routes.placement("home", unit, NOW, is_user=True) != "home":
            found.add(own)
    assert found == set(range(buckets))


def test_experiments_of_a_layer_exclude_each_other_and_those_of_two_layers_do_not() -> None:
    """Ranges of one layer share no unit; groups of another layer are spread evenly over both."""
    one = made("one", size=5_000)
    span = free_span([one], "home", 5_000)
    assert span == (5_000, 10_000)
    two = made("two", first=span[0], size=5_000)
    assert free_span([one, two], "home", 1) is None
    assert free_span([one, two], "cart", BUCKETS) == (0, BUCKETS)
    other = made("other", "cart", "cart")
    every = (one, two, other)
    routes = Routes.of(every, None, placements_of(*every))
    home, cart = routed(routes), routed(routes, "cart")
    arms = Counter(arm_of(each).experiment for each in home)
    assert arms["one"] + arms["two"] == len(UNITS)
    crossed = Counter(zip(home, cart, strict=True))
    table = [[crossed[a, b] for b in sorted(set(cart))] for a in sorted(set(home))]
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_held_out_users_are_in_no_experiment_and_sessions_are_not_held_out() -> None:
    """They get the holdout's placement, and where it has none the placement as it is."""
    one, other = made(), made("other", "cart", "cart")
    holdout = holdout_of(1_000, [("home", "0" * 64)], NOW)
    routes = Routes.of([one, other], holdout, placements_of(one, other) | {"home@holdout.holdout"})
    home, cart = routed(routes), routed(routes, "cart")
    held = [each == "home@holdout.holdout" for each in home]
    assert sum(held) / len(UNITS) == pytest.approx(0.1, abs=0.01)
    assert [each == "cart" for each in cart] == held
    of_sessions = [routes.placement("home", unit, NOW, is_user=False) for unit in UNITS]
    assert "home@holdout.holdout" not in of_sessions
    assert not routes.has("similar")


def test_an_experiment_without_one_of_its_placements_is_suspended() -> None:
    """None of its units is assigned, as the groups would no longer be those that were drawn; a stopped one has none."""
    one = made()
    routes = Routes.of([one], None, placements_of(one) - {"home@colour.b"})
    assert routes.suspended == {"colour"}
    assert not routes
    assert not routes.has("home")
    assert not Routes.of([stopped(one, "harm", 2_000)], None, placements_of(one))


def test_documents_come_back_as_they_were() -> None:
    """And what no server wrote is none."""
    one, holdout = stopped(made(), "harm", 2_000), holdout_of(500, [("home", "0" * 64)], NOW)
    assert experiment_of(encode_document(one)) == one
    assert document_holdout(encode_document(holdout)) == holdout
    assert one.reason == "harm"
    for content in ("", "{}", "[", encode_document(holdout), encode_document(one).replace('"share":5000', '"share":1')):
        assert experiment_of(content) is None
    uneven = encode_document(one).replace('"share":5000', '"share":-5000', 1).replace('"share":5000', '"share":15000')
    assert '"share":-5000' in uneven
    assert '"share":15000' in uneven
    assert experiment_of(uneven) is None
    for content in ("", encode_document(one)):
        assert document_holdout(content) is None
    with pytest.raises(ConfigInvalid, match="was stopped: harm"):
        stopped(one, "again", 3_000)


@pytest.mark.parametrize(
    "new, wheres",
    [
        (("A b", "home", "ab", "x", 1), ["/name"]),
        (("holdout", "home", "ab", "x", 1), ["/name"]),
        (("one", "h" * 65, "ab", "x", 1), ["/placement"]),
        (("one", "home", "a" * 17, "x", 1), ["/variants"]),
        (("one", "home", "a", "x", 1), ["/variants"]),
        (("one", "home", "aa", "x", 1), ["/variants"]),
        (("one", "home", "ab", "", 1), ["/layer"]),
        (("one", "h" * 60, "ab", "x", 1), ["/variants/0/name", "/variants/1/name"]),
        (("one", "home", "ab", "x", 0), ["/share"]),
        (("one", "home", "ab", "x", 10_001), ["/share"]),
    ],
)
def test_what_cannot_start_is_named(new: tuple[str, str, str, str, int], wheres: list[str]) -> None:
    """Every fault, with its place in the request."""
    name, placement, variants, layer, size = new
    wanted = NewExperiment(name, placement, tuple(map(NewVariant, variants)), layer, size, (RampStep(0, BUCKETS),))
    assert [each.where for each in new_faults(wanted)] == wheres


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), 1e9])
def test_weights_are_bounded(weight: float) -> None:
    """NaN too."""
    wanted = NewExperiment("one", "home", (NewVariant("a"), NewVariant("b", weight)), "x", 1, (RampStep(0, 1),))
    assert [each.where for each in new_faults(wanted)] == ["/variants/1/weight"]


@pytest.mark.parametrize("light", [0.0001, 0.4])
def test_a_variant_that_no_unit_would_have_cannot_start(light: float) -> None:
    """Weights of which one comes to no bucket, first or last; one that was kept with such shares is not ramped."""
    for place, weights in ((1, (10_000.0, light)), (0, (light, 10_000.0))):
        variants = tuple(NewVariant(name, weight) for name, weight in zip("ab", weights, strict=True))
        wanted = NewExperiment("one", "home", variants, "x", 1, (RampStep(0, 1),))
        assert [each.where for each in new_faults(wanted)] == [f"/variants/{place}/weight"]
    text = encode_document(made()).replace('"share":5000', '"share":0', 1).replace('"share":5000', '"share":10000')
    old = experiment_of(text)
    assert old is not None
    with pytest.raises(ConfigInvalid, match="no unit would have the variant"):
        ramped(old, (RampStep(5_000, BUCKETS),), 4_500)


def test_faults_are_few_and_short_whatever_came() -> None:
    """A hundred thousand variants and steps, and texts of a megabyte, are refused in some lines."""
    long, steps = "x" * 1_000_000, (RampStep(5, -1), RampStep(0, 0)) * 50_000
    ab = (NewVariant("a"), NewVariant("b"))
    for wanted in (
        NewExperiment("one", "home", (NewVariant(""),) * 100_000, "x", 1, steps),
        NewExperiment("one", "home", ab, "x", 1, steps),
        NewExperiment("one", long, ab, "x", 1, steps),
        NewExperiment(long, "home", (NewVariant(long), NewVariant("b")), long, 1, steps),
        NewExperiment("one", "h" * 60, (NewVariant("a"), NewVariant("b" * 32)), "x", 1, steps),
    ):
        faults = list(new_faults(wanted))
        assert 1 <= len(faults) <= 5
        assert all(len(str(each)) < 500 for each in faults)


def test_steps_that_were_taken_are_not_counted_in_pointers() -> None:
    """A pointer leads into the order."""
    one = made(steps=(RampStep(0, 100), RampStep(5, 200)))
    with pytest.raises(ConfigInvalid) as refused:
        ramped(one, (RampStep(20, 300), RampStep(30, 250)), 10)
    assert [each.where for each in refused.value.faults] == ["/ramp/1"]
    with pytest.raises(ConfigInvalid, match="19 came, and 2 were taken"):
        ramped(one, tuple(RampStep(20, 300) for _ in range(19)), 10)


def test_a_salt_is_of_a_layer_or_of_an_experiment() -> None:
    """Equal names of the two have two salts."""
    assert made("home").salt != made("home").layer_salt == salt_of("layer", "home")
