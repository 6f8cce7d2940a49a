"""Experiments of an open folder: assigned at once, after a restart, a crash and a rebuild; named, rerun, stopped."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import midstream
from midstream.app.explain.reruns import rerun_last
from midstream.core.errors import ConfigInvalid, NotFound, RequestInvalid
from midstream.engine.recommender import Recommender
from midstream.engine.types import Answer
from midstream.experiments.names import arm_of
from tests.support.fakes.rebuilds import write_config

HOME = '[[placements]]\nname = "home"\nslate_size = {size}\n[[placements.sources]]\nkind = "popular"\n'
CART = '[[placements]]\nname = "cart"\nslate_size = 4\n'
POPULAR = {"sources": [{"kind": "popular"}]}
USERS = [f"user-{number}" for number in range(200)]
VARIANTS = [{"name": "as-is"}, {"name": "few", "placement": {**POPULAR, "slate_size": 2}}]
SIZES = {"as-is": 5, "few": 2}


def write(folder: Path, size: int = 5, more: str = CART) -> None:
    """Write a file with a placement ``home`` of some size, and others."""
    write_config(folder, HOME.format(size=size) + more)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Recommender]:
    """An open shop with nine items."""
    write(tmp_path / "0")
    with midstream.open(tmp_path / "0") as opened:
        opened.record(
            [{"type": "view", "user_id": f"u{n % 3}", "item_id": f"i{n % 9}", "event_id": f"{n}"} for n in range(60)]
        )
        yield opened


def arms(shop: Recommender, placement: str = "home") -> dict[str, tuple[str, str, int]]:
    """Experiment, variant and size of the slate of each user."""
    found = {}
    for user in USERS:
        answer = shop.recommend(placement, user_id=user)
        assert answer.placement == placement
        found[user] = (answer.experiment, answer.variant, len(answer.items))
    return found


def started(shop: Recommender, name: str = "size", **order: object) -> None:
    """Start an experiment on ``home`` with two sizes."""
    told: dict[str, Any] = {"placement": "home", "variants": VARIANTS, **order}
    shop.experiments.start(name, author="ann", **told)


def test_answers_name_their_variant_and_come_from_its_plan(shop: Recommender) -> None:
    """By half, in reply, record and counts; other placements, and requests without a unit, are answered as ever."""
    before = arms(shop)
    assert set(before.values()) == {("", "", 5)}
    started(shop)
    found = arms(shop)
    assert all(each == ("size", each[1], SIZES[each[1]]) for each in found.values())
    counts = Counter(each[1] for each in found.values())
    assert all(60 < counts[name] < 140 for name in SIZES)
    assert found == arms(shop)
    answer = shop.recommend("home", user_id=USERS[0])
    shop.record({"type": "view", "user_id": "other", "item_id": "i1"})
    record = shop._call(lambda: shop.running.engine.served(answer.request_id))
    assert record is not None
    assert arm_of(record.query.placement) == ("home", "size", found[USERS[0]][1])
    assert shop.recommend("home").experiment == ""
    assert shop.recommend("cart", user_id=USERS[0]).experiment == ""
    assert shop.recommend("home", session_id="s").variant in SIZES
    (view,) = shop.experiments.list().experiments
    assert (view.state, view.exposed, [each.share for each in view.variants]) == ("running", 1.0, [0.5, 0.5])
    assert sum(each.slates for each in view.variants) >= 2 * len(USERS)
    with pytest.raises(NotFound):
        shop.recommend("home@size.few", user_id="x")


def test_assignment_survives_a_restart_a_crash_and_a_rebuild(tmp_path: Path) -> None:
    """Each process of the log gives every user the same variant, of the content at the start."""
    folder = tmp_path / "0"
    write(folder)
    with midstream.open(folder) as shop:
        shop.record([{"type": "view", "user_id": "u", "item_id": f"i{n}", "event_id": f"{n}"} for n in range(9)])
        started(shop)
        found = arms(shop)
        crashed = tmp_path / "1"
        shutil.copytree(folder, crashed, ignore=shutil.ignore_patterns("*.lock", "lock", "sockets"))
        write(folder, size=7)
        shop._wait(shop.running.rebuilder.order)
        assert arms(shop) == found
        shop.set_placement("home", {"slate_size": 3}, author="bob")
        assert arms(shop) == found
    for each in (folder, crashed):
        with midstream.open(each) as shop:
            assert arms(shop) == found
    write(folder, more="")
    with midstream.open(folder) as shop:
        assert {each[:2] for each in arms(shop).values()} == {each[:2] for each in found.values()}


def test_a_merged_id_has_the_variant_of_the_id_that_stays(shop: Recommender) -> None:
    """Whatever the merged one had."""
    started(shop)
    found = arms(shop)
    few = next(user for user, each in found.items() if each[1] == "few")
    other = next(user for user, each in found.items() if each[1] == "as-is")
    shop.record({"type": "user", "operation": "merge", "user_id": few, "attributes": {"from": other}})
    assert arms(shop) == {**found, other: found[few]}


def test_a_ramp_adds_units_and_a_stop_ends_it_with_its_reason(shop: Recommender) -> None:
    """Who was exposed stays; who was not gets the placement; a stop gives all of them the placement, or a variant."""
    started(shop, ramp=[{"exposed": 0.2}])
    first = arms(shop)
    assert 10 < sum(each[0] == "size" for each in first.values()) < 80
    shop.experiments.ramp("size", [{"exposed": 0.6}, {"exposed": 1.0, "after_ms": 3_600_000}], author="bob")
    second = arms(shop)
    assert all(second[user] == each for user, each in first.items() if each[0])
    assert 80 < sum(each[0] == "size" for each in second.values()) < 160
    with pytest.raises(ConfigInvalid, match="stays in"):
        shop.experiments.ramp("size", [{"exposed": 0.5}], author="bob")
    view = shop.experiments.stop("size", "few sold less", author="eve", note="seen on Monday", ship="few")
    assert (view.state, view.reason, view.author, view.note) == ("stopped", "few sold less", "eve", "seen on Monday")
    assert set(arms(shop).values()) == {("", "", 2)}
    assert not [each.placement for each in shop.placements() if "@" in each.placement]
    with pytest.raises(ConfigInvalid, match="started before"):
        started(shop)
    with pytest.raises(ConfigInvalid, match="was stopped: few sold less"):
        shop.experiments.stop("size", "again", author="eve")


def test_held_out_users_are_in_no_experiment_and_keep_what_they_had(shop: Recommender) -> None:
    """Also when the placement is set anew; the holdout is one, and can be given back."""
    held = shop.experiments.hold_out(0.3, ["home"], author="ann")
    assert held.share == 0.3
    started(shop, placement="cart", variants=[{"name": "a"}, {"name": "b"}], name="cart")
    started(shop)
    shop.set_placement("home", {**POPULAR, "slate_size": 1}, author="bob")
    home, cart = arms(shop), arms(shop, "cart")
    kept = {user for user, each in home.items() if each == ("holdout", "holdout", 5)}
    assert 30 < len(kept) < 90
    assert {user for user, each in cart.items() if not each[0]} == kept
    with pytest.raises(ConfigInvalid, match="in force"):
        shop.experiments.hold_out(0.1, author="ann")
    shop.experiments.give_back_holdout(author="ann")
    assert {each[0] for each in arms(shop).values()} == {"size"}
    with pytest.raises(NotFound):
        shop.experiments.give_back_holdout(author="ann")


def test_answers_of_an_experiment_are_made_again_exactly(tmp_path: Path) -> None:
    """Also after the experiment ended: the configuration of then has the variant."""
    write(tmp_path)
    with midstream.open(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": "u", "item_id": f"i{n}", "event_id": f"{n}"} for n in range(9)])
        started(shop)
        arms(shop)
        shop.experiments.stop("size", "enough", author="ann")
    again = list(rerun_last(tmp_path, 20))
    assert len(again) == 20
    assert {arm_of(each.logged.placement).variant for each in again} == set(SIZES)
    assert all(not each.differences for each in again)


def test_a_cursor_goes_on_in_the_slate_of_its_variant(shop: Recommender) -> None:
    """With the placement named as the request named it, or not at all; and pages are assigned."""
    started(shop, ramp=[{"exposed": 1.0}])
    first = shop.recommend("home", user_id="ann", cursor=True)
    assert first.cursor
    for placement in (None, "home"):
        second = shop.recommend(placement, user_id="ann", cursor=first.cursor)
        assert (second.placement, second.experiment, second.variant) == ("home", "size", first.variant)
        assert not {each.id for each in first.items} & {each.id for each in second.items}
    with pytest.raises(RequestInvalid):
        shop.recommend("cart", user_id="ann", cursor=first.cursor)
    page = shop.page(["home", "cart"], user_id="ann")
    assert [each.variant for each in page.slates if isinstance(each, Answer)] == [first.variant, ""]


def test_pages_and_rankings_are_those_of_the_variant(shop: Recommender, tmp_path: Path) -> None:
    """A unit has one variant in all that it asks; records name it, the watch counts them, and they are made again."""
    variants = [{"name": "as-is"}, {"name": "drawn", "change": {"selector": {"kind": "plackett_luce"}}}]
    started(shop, variants=variants)
    given, had = [f"i{number}" for number in range(9)], Counter[str]()
    for user in USERS[:60]:
        variant = shop.recommend("home", user_id=user).variant
        ranked, page = shop.rank(given, "home", user_id=user), shop.page(["home", "cart"], user_id=user)
        slate, other = page.slates
        assert isinstance(slate, Answer)
        assert isinstance(other, Answer)
        assert (ranked.experiment, ranked.variant, ranked.placement) == ("size", variant, "home")
        assert (slate.variant, other.variant) == (variant, "")
        had[variant] += 1
    assert min(had["as-is"], had["drawn"]) > 10
    assert shop.rank(given, "home", session_id="s").variant
    assert shop.rank(given, "home").variant == ""
    shop.record({"type": "view", "user_id": "nobody", "item_id": "i0"})
    watch = shop.running.watch
    assert watch is not None
    shop._wait(watch.look)
    look = watch.seen("size")
    assert look is not None
    assert sum(look.units) == 61
    assert sum(look.slates) == 3 * 60 + 1
    shop.close()
    again = list(rerun_last(tmp_path / "0", 40))
    assert {arm_of(each.logged.placement).variant for each in again} == {"as-is", "drawn", ""}
    assert all(not each.differences for each in again)


def test_what_cannot_start_changes_nothing(shop: Recommender) -> None:
    """Every fault with its place, and the log stays where it was."""
    started(shop, share=0.5)
    before, end = shop.experiments.list(), shop._call(lambda: shop.running.engine.log.end)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"placement": "hmoe"}, "/placement"),
        ({"share": 0.6}, "/share"),
        ({"layer": "other"}, "/layer"),
        (
            {"variants": [{"name": "a"}, {"name": "b", "placement": {"slate_sise": 1}}]},
            "/variants/1/placement/slate_sise",
        ),
        ({"variants": [{"name": "a"}, {"name": "b", "version": 3}]}, "/variants/1/version"),
        ({"variants": [{"name": "a"}]}, "/variants"),
        ({"placement": "home@size.few"}, "/placement"),
        ({"ramp": [{"exposed": 2.0}]}, "/ramp/0/exposed"),
        ({"ramp": [{"exposed": 0.00001}]}, "/ramp/0/exposed"),
        ({"ramp": [{"exposed": 1.0}, {"exposed": 1.0, "after_ms": 1 << 62}]}, "/ramp/1/after_ms"),
        ({"ramp": [{"exposed": 1.0, "after_ms": -1}]}, "/ramp/0/after_ms"),
        ({"variants": [{"name": "a", "weight": 10_000}, {"name": "b", "weight": 0.0001}]}, "/variants/1/weight"),
        ({"share": 2.0}, "/share"),
    ]
    for order, where in bad:
        with pytest.raises(ConfigInvalid) as refused:
            started(shop, "two", **{"share": 0.5, **order})
        assert [each.where for each in refused.value.faults] == [where]
    with pytest.raises(ConfigInvalid):
        shop.set_placement("home@size.few", {"slate_size": 1}, author="bob")
    with pytest.raises(ConfigInvalid):
        shop.remove_placement("home@size.few", author="bob")
    with pytest.raises(RequestInvalid):
        started(shop, "two", share="x")
    assert shop.experiments.list().experiments[0].version == before.experiments[0].version
    assert shop._call(lambda: shop.running.engine.log.end) == end


def test_a_refusal_says_what_came(shop: Recommender) -> None:
    """The number as it was sent, and the field that has it."""
    for order, came in (
        ({"share": 2.0}, "2.0 came."),
        ({"ramp": [{"exposed": 2.0}]}, "2.0 came."),
        ({"ramp": [{"exposed": 1.0, "after_ms": -5}]}, "-5 came."),
    ):
        with pytest.raises(ConfigInvalid) as refused:
            started(shop, **order)
        assert [each.came for each in refused.value.faults] == [came]
    started(shop, ramp=[{"exposed": 0.1}])
    for step, where in (({"after_ms": 1 << 62}, "after_ms"), ({"exposed": 0.00001}, "exposed")):
        with pytest.raises(ConfigInvalid) as refused:
            shop.experiments.ramp("size", [{"exposed": 0.5, **step}], author="bob")
        assert [each.where for each in refused.value.faults] == [f"/ramp/0/{where}"]
    shop.experiments.ramp("size", [{"exposed": 1.0, "after_ms": 366 * 86_400_000}], author="bob")
    with pytest.raises(ConfigInvalid) as refused:
        shop.experiments.stop("size", "x" * 2_000, author="bob")
    assert [each.where for each in refused.value.faults] == ["/reason"]


def test_held_out_users_get_no_variant(shop: Recommender) -> None:
    """A variant is no placement that a holdout keeps, and refusals name none as one; nor any number of them."""
    started(shop)
    for placements, where in ((["home@size.few"], "/placements/0"), (["x"] * 65, "/placements")):
        with pytest.raises(ConfigInvalid) as refused:
            shop.experiments.hold_out(0.3, placements, author="ann")
        assert [each.where for each in refused.value.faults] == [where]
    with pytest.raises(ConfigInvalid) as refused:
        shop.experiments.hold_out(0.3, ["x"], author="ann")
    assert [each.right for each in refused.value.faults] == ["One of: cart, home, similar."]
    assert shop.experiments.list().holdout is None


def test_a_variant_that_no_longer_holds_suspends_its_experiment(tmp_path: Path) -> None:
    """A start sets it aside; then no unit is assigned, and the view says so."""
    write(tmp_path, more='[items.attributes]\nprice = "number"\n')
    few = {**POPULAR, "filter": "item.price > 0"}
    with midstream.open(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": "u", "item_id": f"i{n}", "event_id": f"{n}"} for n in range(9)])
        started(shop, variants=[{"name": "a"}, {"name": "b", "placement": few}])
    write(tmp_path, more="")
    with midstream.open(tmp_path) as shop:
        assert set(arms(shop).values()) == {("", "", 5)}
        assert shop.experiments.show("size").state == "suspended"
        shop.experiments.stop("size", "gone", author="ann")


def test_a_placement_under_an_experiment_is_not_taken_away(shop: Recommender) -> None:
    """One that was set is refused by the experiment's name, until that is stopped; one of the file is given back."""
    shop.set_placement("side", {**POPULAR, "slate_size": 4}, author="ann")
    started(shop, "beside", placement="side")
    with pytest.raises(ConfigInvalid, match="beside runs on side"):
        shop.remove_placement("side", author="ann")
    assert shop.experiments.show("beside").state == "running"
    started(shop)
    shop.set_placement("home", {**POPULAR, "slate_size": 4}, author="ann")
    shop.remove_placement("home", author="ann")
    shop.experiments.stop("beside", "enough", author="ann")
    shop.remove_placement("side", author="ann")


def test_a_ramp_names_the_steps_that_it_gives_up(shop: Recommender) -> None:
    """Steps that were not taken yet are those of the order before; each is in the answer."""
    started(
        shop, ramp=[{"exposed": 0.1}, {"exposed": 0.5, "after_ms": 3_600_000}, {"exposed": 1, "after_ms": 7_200_000}]
    )
    view = shop.experiments.ramp("size", [{"exposed": 0.2}], author="bob")
    assert [each.exposed for each in view.dropped] == [5_000, 10_000]
    assert [each.exposed for each in view.ramp] == [1_000, 2_000]
    assert shop.experiments.show("size").dropped == []
    assert shop.experiments.ramp("size", [{"exposed": 0.3}], author="bob").dropped == []


def test_the_exposed_share_is_that_of_whole_buckets(shop: Recommender) -> None:
    """As requests are assigned: of three buckets a half is two."""
    started(shop, share=0.0003, ramp=[{"exposed": 0.5}])
    view = shop.experiments.show("size")
    assert view.exposed == pytest.approx(2 / 3)
    assert sum(each.share for each in view.variants) == pytest.approx(2 / 10_000)
