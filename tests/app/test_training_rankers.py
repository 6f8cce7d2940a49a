"""Rankers learn from what was served, or from what would have been, and say how they order what came later."""

import shutil
import weakref
from dataclasses import replace
from itertools import pairwise, permutations
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.reader import parse_config
from midstream.app.opening import config_of
from midstream.app.operate.model_registry import promote
from midstream.app.point_in_time.lookup import Past
from midstream.app.point_in_time.replay_examples import (
    ReplayCounts,
    ReplayWanted,
    _places,
    replay_groups,
    source_columns,
)
from midstream.app.point_in_time.served_requests import ServedRange
from midstream.app.training import champion_comparison
from midstream.app.training import fit as fitting
from midstream.app.training.champion_comparison import Champion
from midstream.app.training.fit import Fitting, Trained, fit_and_publish
from midstream.app.training.ranker_data import Newest, _of_group, range_text, seen_of
from midstream.app.wiring import plans
from midstream.cli.models.train import print_trained
from midstream.core.errors import ConfigInvalid, Invalid, ModelUnfit
from midstream.core.types import Candidates, LogPosition, Models, Query, TimestampMs
from midstream.models.kinds import ROW_KINDS
from midstream.models.model import QUIET, RowModel
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import Ftrl
from midstream.models.rows.lambdamart import LambdaMartOptions
from midstream.ranking.boundary import Account
from midstream.ranking.candidate_generation import scored_candidates
from midstream.ranking.frame import FeatureReader
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.scorers.blend import Blend
from midstream.training.registry import Registry
from midstream.training.validation import row_validation_of
from tests.app.timed import BEGIN_MS, HOUR_MS, timed_shop
from tests.support.patience import wait_until

if TYPE_CHECKING:
    from midstream.ranking.plan import Plan

TOML = """
[feedback]
window = "1h"

[items.attributes]
price = "number"

[[features]]
name = "price"
kind = "number"
scope = "item"
attribute = "price"

[[features]]
name = "views"
kind = "count"
scope = "item"
actions = ["view"]

[[placements]]
name = "home"
features = ["price", "views"]

[[models]]
name = "clicks"
kind = "ftrl"
placement = "home"
validation = 0.3

[[models]]
name = "again"
kind = "ftrl"
placement = "home"
examples = "replay"
"""


ASKED = ("trending", "popular")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop whose visitors click what is dearest."""
    place = tmp_path_factory.mktemp("shop")
    (place / "midstream.toml").write_text(TOML)
    rng = np.random.default_rng(2)
    price = {f"i{each}": float(rng.permutation(30)[0]) for each in range(30)}
    with timed_shop(place) as timed:
        shop = timed.shop
        puts = [
            {"type": "item", "item_id": each, "operation": "put", "attributes": {"price": worth}}
            for each, worth in price.items()
        ]
        shop.record(puts)
        shop.record([{"type": "view", "user_id": f"u{rng.integers(9)}", "item_id": each} for each in price])
        for number in range(60):
            answer = shop.recommend(placement="home", user_id=f"u{number % 9}", n=6)
            dearest = max(answer.items, key=lambda each: price[each.id])
            click = {"type": "click", "user_id": f"u{number % 9}", "item_id": dearest.id}
            shop.record([{**click, "request_id": answer.request_id}])
            timed.wait(HOUR_MS)
        shop.record([{"type": "view", "user_id": "u1", "item_id": "i0"}])
    return place


@pytest.fixture
def place(written: Path, tmp_path: Path) -> Path:
    """A copy of that shop."""
    return Path(shutil.copytree(written, tmp_path / "shop"))


def fitted(place: Path, name: str) -> Trained:
    """Fit here."""
    return fit_and_publish(Fitting(place, config_of(place), name, made_ms=1), QUIET)


def test_a_ranker_learns_from_slates_and_their_outcomes(place: Path) -> None:
    """It foresees later clicks better than the order that was served, and reads the placement's features."""
    done = fitted(place, "clicks")
    assert done.counts == {"rows": 360, "requests": 60}
    loaded = Registry(place / "data" / "models").load("clicks", done.version)
    assert loaded.manifest.inputs == ("price", "views")
    assert isinstance(loaded.model, Ftrl)
    dear, cheap = loaded.model.score(np.array([[29.0, 2.0], [0.0, 2.0]], dtype=np.float32)).tolist()
    assert dear > cheap
    ours, theirs, auc = (done.metrics[name] for name in ("NDCG@10", "served.NDCG@10", "AUC"))
    assert ours is not None
    assert theirs is not None
    assert auc is not None
    assert ours > theirs
    assert auc > 0.7
    assert done.metrics["log_loss"] is not None
    assert fitted(place, "clicks").metrics == done.metrics


def test_a_champion_of_a_ranker_is_held_only_while_it_is_compared(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the fit that is judged, and not by the one that is published."""
    first = fitted(place, "clicks").version
    loaded: list[weakref.ref[object]] = []
    fits: list[list[bool]] = []

    def champion_of(*told: Any) -> Champion:
        found = champion_comparison.champion_of(*told)
        assert found.loaded is not None
        assert isinstance(found.loaded.model, Ftrl)
        loaded.append(weakref.ref(found.loaded.model.z))
        return found

    def fit(*told: Any) -> RowModel:
        fits.append([each() is not None for each in loaded])
        return ROW_KINDS["ftrl"].fit(*told[1:4])

    monkeypatch.setattr(fitting, "champion_of", champion_of)
    monkeypatch.setattr(fitting, "_fit_row", fit)
    done = fit_and_publish(Fitting(place, config_of(place), "clicks", made_ms=1, champion=first), QUIET)
    assert fits == [[], [False]]
    assert done.beside is not None
    assert done.beside.champion == first


def since_alarm(place: Path, hour: int, start: str = "") -> Trained:
    """Fit behind an alarm of an hour."""
    since_ms = BEGIN_MS + hour * HOUR_MS
    return fit_and_publish(Fitting(place, config_of(place), "clicks", 1, start, since_ms=since_ms), QUIET)


@pytest.mark.parametrize(
    "window, hour, begins",
    [("1h", 20, 20), ("1h", 45, 0), ("20h", 30, 0), ("20h", 5, 0), ("40h", 50, 0)],
    ids=["enough", "too few", "too young", "none to judge by", "none old enough"],
)
def test_an_alarm_narrows_a_fit_once_there_is_enough(
    place: Path, monkeypatch: pytest.MonkeyPatch, window: str, hour: int, begins: int
) -> None:
    """Slates that were served since, older than their window, and as many to learn as judge; until then as before."""
    monkeypatch.setattr(fitting, "SINCE_REQUESTS_MIN", 20)
    (place / "midstream.toml").write_text(TOML.replace('window = "1h"', f'window = "{window}"'))
    plain, done = fitted(place, "clicks"), since_alarm(place, hour)
    told, known = (Registry(place / "data" / "models").manifest("clicks", each.version) for each in (done, plain))
    assert (told.window.begin_ms - BEGIN_MS) // HOUR_MS == begins
    assert (done.counts == plain.counts) == (begins == 0)
    assert told.window.end_ms == known.window.end_ms
    assert done.metrics.keys() == plain.metrics.keys()


def test_an_alarm_narrows_no_warm_start(place: Path) -> None:
    """It learns what its parent has not, however old: there is little else for as long as outcomes are awaited."""
    text = TOML.replace('window = "1h"', 'window = "40h"')
    (place / "midstream.toml").write_text(text.replace('name = "clicks"', 'name = "clicks"\nuntil = 80'))
    first = fitted(place, "clicks").version
    (place / "midstream.toml").write_text(text)
    assert since_alarm(place, 58, first).counts["requests"] > 0


def test_what_was_fitted_on_and_what_judged_it_are_printed_apart(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are rows of requests: each number has a line of its own, and none takes the place of another."""
    done = fitted(place, "clicks")
    print_trained(done, as_json=False)
    printed = [tuple(line.rsplit(maxsplit=1)) for line in capsys.readouterr().out.splitlines()]
    assert printed[1:5] == [
        ("rows", "360"),
        ("requests", "60"),
        ("validation.requests", "18"),
        ("validation.rows", "108"),
    ]
    assert len(printed) == len({line[0] for line in printed}) == 1 + len(done.counts) + len(done.metrics)


def test_what_a_fit_found_stands_among_the_metrics(place: Path) -> None:
    """Whether the solver was done, in the manifest too."""
    pytest.importorskip("sklearn", reason='needs the extra "train": pip install "midstream[train]"')
    options = 'kind = "logistic_regression"\noptions = { iterations_max = 1 }'
    (place / "midstream.toml").write_text(TOML.replace('kind = "ftrl"', options, 1))
    done = fitted(place, "clicks")
    assert (done.metrics["converged"], done.metrics["iterations"]) == (0.0, 1.0)
    assert Registry(place / "data" / "models").manifest("clicks", done.version).metrics == done.metrics


def test_no_row_that_was_learned_from_is_in_a_version(place: Path) -> None:
    """Golden rows are drawn around what the model compares with: prices here are whole numbers, those are not."""
    done = fitted(place, "clicks")
    values = Registry(place / "data" / "models").read("clicks", done.version).arrays["golden.values"]
    assert values.shape == (256, 2)
    unknown = np.isnan(values).mean(axis=0)
    assert ((unknown > 0.05) & (unknown < 0.25)).all()
    price, views = (values[np.isfinite(values).all(axis=1)]).T
    assert not ((price == np.round(price)) & (views == np.round(views))).all()
    assert np.mean(price == np.round(price)) < 0.6
    assert price.min() < 5
    assert price.max() > 25


def test_a_log_without_slates_is_replayed(place: Path) -> None:
    """The candidates before each act, beside the order in which the sources alone would have shown them."""
    done = fitted(place, "again")
    assert done.counts["requests"] > 0
    assert done.counts["rows"] > done.counts["requests"]
    reference, ours = done.metrics["sampled.blend.NDCG@10"], done.metrics["sampled.NDCG@10"]
    assert reference is not None
    assert ours is not None
    assert 0.0 < reference < 1.0
    assert done.left_out["acts_on_no_candidate"] > 0
    config = config_of(place)
    wanted = ReplayWanted("home", candidates_max=6)
    past = Past(place, config)
    owners: dict[str, set[int]] = {}
    for group in replay_groups(past, place, past.block(("price", "views")), wanted, ReplayCounts()):
        assert sorted(group.place.tolist()) == list(range(len(group.label)))
        owner = _of_group(group, tuple(map(str, range(group.values.shape[1] + group.said.shape[1])))).owner
        assert owner is not None
        owners.setdefault(group.event.user_id, set()).update(owner.tolist())
    assert 1 < len(owners) == len(set().union(*owners.values())), "one of each user"


def test_rows_of_a_replay_have_what_the_sources_say(place: Path) -> None:
    """The columns that a scorer is given in service, bit by bit, behind the features; a model may read them all."""
    past = Past(place, config_of(place))
    plan = plans(past.config)["home"]
    names = source_columns(plan)
    cursor = past.cursor(LogPosition(past.log.begin), everything=True)
    block = past.block(("price", "views"))
    seen = 0
    for group in replay_groups(past, place, block, ReplayWanted("home", candidates_max=500), ReplayCounts()):
        cursor.to_position(LogPosition(group.log_position))
        event = group.event
        query = Query("", "home", event.user_id, None, 500, TimestampMs(event.log_time_ms), group.log_position)
        moment = cursor.fold.moment(query, Models({}))
        run = PlanRun(plan, moment, Account())
        frame = FeatureReader(moment, run.account, plan.declared).frame(plan.features, scored_candidates(run))
        assert frame.names[: len(names)] == names
        assert group.said.tobytes() == np.ascontiguousarray(frame.values[:, : len(names)]).tobytes()
        seen += 1
    assert seen > 20
    done = fitted(place, "again")
    assert Registry(place / "data" / "models").manifest("again", done.version).inputs == ("price", "views", *names)


def test_a_replay_teaches_nothing_of_sources_that_read_models(place: Path) -> None:
    """Nothing they say is known in any of its rows: they are left out, which is said of the figures too."""
    model = '\n[[models]]\nname = "taste"\nkind = "popular"\n'
    sources = 'name = "home"\nsources = [{ kind = "als", model = "taste" }, { kind = "trending" }]'
    (place / "midstream.toml").write_text(TOML.replace('name = "home"', sources) + model)
    promote(place, config_of(place), "taste", fitted(place, "taste").version)
    done = fitted(place, "again")
    inputs = Registry(place / "data" / "models").manifest("again", done.version).inputs
    assert inputs == ("price", "views", *(f"{each}.{source}" for each in ("score", "rank") for source in ASKED))
    assert done.left_out["sources_that_read_models"] == 1
    assert done.metrics["sources_that_read_models"] == 1.0
    promote(place, config_of(place), "again", done.version)  # and such a version fits the placement


@pytest.mark.parametrize("name", ["clicks", "again"])
def test_a_feature_of_several_columns_is_read_by_all_of_them(place: Path, name: str) -> None:
    """In the place of its name, as a scorer is given them; such a version fits the placement."""
    several = 'actions = ["view"]\nhalf_life = ["1d", "7d"]'
    (place / "midstream.toml").write_text(TOML.replace('actions = ["view"]', several))
    done = fitted(place, name)
    inputs = Registry(place / "data" / "models").manifest(name, done.version).inputs
    assert inputs[:3] == ("price", "views_fading_1d", "views_fading_7d")
    promote(place, config_of(place), name, done.version)


def test_models_of_several_actions_are_calibrated_and_answer_as_one_sum(place: Path) -> None:
    """Each learns what its actions say and keeps what makes probabilities of its scores; a sum of both serves."""
    two = """
[[models]]
name = "{name}"
kind = "{kind}"
placement = "home"
validation = 0.4
actions = {{ {action} = 1.0 }}
options = {{ {options} }}
"""
    scorers = (
        'scorers = [{ kind = "objectives", objectives = [{ model = "click" }, { model = "order", value = "price" }] }]'
    )
    text = TOML.replace('features = ["price", "views"]', f'features = ["price", "views"]\n{scorers}')
    text += two.format(name="click", kind="ftrl", action="click", options="")
    text += two.format(name="order", kind="trees", action="click", options="leaf_rows_min = 5, trees_max = 20")
    text += two.format(name="purchase", kind="ftrl", action="purchase", options="")
    (place / "midstream.toml").write_text(text)
    done = {name: fitted(place, name) for name in ("click", "order", "purchase")}
    registry = Registry(place / "data" / "models")
    lines = {name: registry.manifest(name, each.version).calibration for name, each in done.items()}
    assert lines["purchase"] is None, "nobody bought anything"
    for name, is_probability in (("click", True), ("order", False)):
        line, error = lines[name], done[name].metrics["calibrated.ECE"]
        assert line is not None
        assert (line.slope > 0, line.is_probability) == (True, is_probability)
        assert error is not None
        assert error < 0.3
        promote(place, config_of(place), name, done[name].version)
    with timed_shop(place, BEGIN_MS + 99 * HOUR_MS) as timed:
        answer = timed.shop.recommend(placement="home", user_id="u1", n=6)
        assert (answer.tier, answer.failures) == ("full", ())
        # The served event is appended some milliseconds after the answer.
        wait_until(lambda: timed.shop.running.engine.served(answer.request_id))
        record = timed.shop.running.engine.served(answer.request_id)
        assert record is not None
        assert record.scorer == "objectives"
        assert set(answer.models) == {"click", "order"}
    (place / "midstream.toml").write_text(text.replace('{ model = "click" }', '{ model = "purchase" }'))
    with pytest.raises(ModelUnfit, match="has no calibration"):
        promote(place, config_of(place), "purchase", done["purchase"].version)


def test_without_examples_there_is_nothing_to_learn_from(tmp_path: Path) -> None:
    """And it is said what would make some."""
    (tmp_path / "midstream.toml").write_text(TOML)
    with pytest.raises(Invalid, match="no served examples of the placement home"):
        fitted(tmp_path, "clicks")


@pytest.mark.parametrize(
    "was, new, right",
    [
        ('placement = "home"\nvalidation', 'placement = "hom"\nvalidation', "A ranker learns from one of: home"),
        ('placement = "home"\nvalidation', "validation", "A ranker learns from one of: home"),
        ('features = ["price", "views"]\n', "", "what it ranks by"),
    ],
)
def test_a_ranker_needs_a_placement_with_features(was: str, new: str, right: str) -> None:
    """Which is said when the file is read."""
    assert was in TOML
    with pytest.raises(ConfigInvalid, match=right):
        parse_config(TOML.replace(was, new))


def rows(number: int, label: tuple[float, ...]) -> Examples:
    """One request."""
    count = len(label)
    return Examples(
        ("x",),
        np.arange(count, dtype=np.float32)[:, None],
        np.array([0, count], dtype=np.int64),
        np.array(label, dtype=np.float32),
        time_ms=np.array([number], dtype=np.int64),
        weight=np.ones(count, dtype=np.float32),
        position=np.arange(count, dtype=np.int32),
        propensity=np.ones(count, dtype=np.float32),
    )


def joined(parts: list[Examples], features: tuple[str, ...], rows_max: int) -> Examples:
    """Return the newest."""
    newest = Newest(features, rows_max)
    for each in parts:
        newest.add(each)
    assert newest.requests == len(parts)
    return newest.examples()


slates = st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=12)


@given(slates, st.integers(1, 20))
def test_what_was_not_seen_takes_no_room_and_each_request_is_counted(seen: list[list[bool]], rows_max: int) -> None:
    """The newest seen rows are kept; a request is kept, too old for the memory, or without an impression."""
    parts = [
        replace(rows(number, (0.0,) * len(own)), weight=np.array(own, dtype=np.float32))
        for number, own in enumerate(seen)
    ]
    came = np.cumsum([sum(own) for own in seen]).tolist()
    found = seen_of(zip(parts, came, strict=True), ("x",), rows_max)
    is_logged = came[-1] > 0
    counts = [sum(own) if is_logged else len(own) for own in seen]
    newest = [number for number in range(len(seen)) if counts[number] and sum(counts[number:]) <= rows_max]
    assert found.examples.time_ms.tolist() == newest
    assert found.examples.request_sizes.tolist() == [counts[number] for number in newest]
    assert (found.examples.weight == 1).all()
    dark = sum(not any(own) for own in seen) if is_logged else 0
    assert found.left_out.get("slates_without_an_impression", 0) == dark
    assert found.left_out.get("older_requests_beyond_memory_bytes_max", 0) == len(seen) - dark - len(newest)


def test_the_newest_requests_that_find_room_are_kept() -> None:
    """Whole ones, in order."""
    parts = [rows(number, (0.0, 1.0, 0.0)) for number in range(5)]
    assert joined(parts, ("x",), 100).time_ms.tolist() == [0, 1, 2, 3, 4]
    assert joined(parts, ("x",), 7).time_ms.tolist() == [3, 4]
    assert joined(parts, ("x",), 3).time_ms.tolist() == [4]
    assert len(joined([], ("x",), 3)) == 0


def test_ranges_are_told_as_the_replay_reads_them() -> None:
    """By position, or by time."""
    assert range_text(ServedRange(3, 9)) == "3..9"
    assert range_text(ServedRange()) == "0.."
    assert range_text(ServedRange(0, None, 1_700_000_000_000, 1_800_000_000_000)) == "1700000000000..1800000000000"


METRICS = ("NDCG@10", "served.NDCG@10", "AUC", "log_loss", "ECE")


class Column:
    """A row model that gives its one value."""

    inputs = ("x",)

    def __init__(self, sign: float) -> None:
        """Times a sign."""
        self.sign = np.float32(sign)

    def score(self, values: np.ndarray) -> np.ndarray:
        """Return the values."""
        return values[:, 0] * self.sign

    def arrays(self) -> dict[str, np.ndarray]:
        """Nothing was fitted."""
        return {}


def test_metrics_of_rows_are_what_a_hand_counts() -> None:
    """The last of three is right: perfect, or the worst; half of the pairs of one and nothing of none."""
    later = joined([rows(0, (0.0, 0.0, 1.0)), rows(1, (0.0, 0.0))], ("x",), 100)
    best, worst = (row_validation_of(Column(sign), later, is_probability=sign > 0) for sign in (0.1, -0.1))
    assert best["NDCG@10"] == pytest.approx(1.0)
    assert worst["NDCG@10"] == pytest.approx(0.5)
    assert best["served.NDCG@10"] == pytest.approx(0.5)
    assert best["AUC"] == pytest.approx(1.0)
    assert worst["AUC"] == pytest.approx(0.0)
    assert row_validation_of(Column(0.0), later)["AUC"] == pytest.approx(0.5)
    assert worst["log_loss"] is None
    expected = -np.mean(np.log([1 - 1e-15, 0.9, 0.2, 1 - 1e-15, 0.9]))
    assert best["log_loss"] == pytest.approx(expected, rel=1e-6)
    # Predicted 0, 0.1, 0.2, 0, 0.1, of which 0.2 came true; 0.1 as float32 is above the edge of the first bin.
    assert best["ECE"] == pytest.approx((2 * 0.0 + 2 * 0.1 + 0.8) / 5, rel=1e-6)
    assert (best["requests"], best["rows"]) == (2.0, 5.0)
    nothing = row_validation_of(Column(1.0), joined([], ("x",), 1))
    assert nothing["NDCG@10"] is None
    assert nothing["AUC"] is None


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 1.0, 2.0])), min_size=1, max_size=6))
def test_rows_of_equal_scores_are_in_no_order(pairs: list[tuple[float, float]]) -> None:
    """Counted is the mean over all orders: one score for all gains nothing by the order in which rows were served."""
    score, label = (tuple(each) for each in zip(*pairs, strict=True))
    later = replace(rows(0, label), values=np.array(score, dtype=np.float32)[:, None])
    by_hand = []
    for order in permutations(range(len(pairs))):
        if any(score[first] < score[second] for first, second in pairwise(order)):
            continue
        gained = sum(label[row] / np.log2(place + 2) for place, row in enumerate(order))
        best = sum(each / np.log2(place + 2) for place, each in enumerate(sorted(label, reverse=True)))
        by_hand.append(gained / best if best else np.nan)
    found = row_validation_of(Column(1.0), later)["NDCG@10"]
    assert found == pytest.approx(np.mean(by_hand)) if any(label) else found is None


def test_figures_of_drawn_candidates_and_of_scores_that_only_order_are_named() -> None:
    """``sampled.`` before what all candidates would make lower; no log loss of what is no probability."""
    later = rows(0, (0.0, 1.0))
    assert row_validation_of(Column(0.5), later)["log_loss"] is None
    sampled = row_validation_of(Column(0.5), later, is_sampled=True)
    assert sampled["sampled.NDCG@10"] == 1.0
    named = {"blend.NDCG@10", *METRICS} - {"served.NDCG@10"}
    assert set(sampled) == {"requests", "rows", *(f"sampled.{each}" for each in named)}
    assert [ROW_KINDS["trees"].is_probability(LambdaMartOptions(each)) for each in ("lambdarank", "binary")] == [
        False,
        True,
    ]


def test_the_reference_of_a_replay_is_the_order_of_the_blend() -> None:
    """Sources weigh what the placement says; equal ones stay as they were proposed."""
    rank = np.array([[0, -1], [1, -1], [2, 1], [-1, 0], [-1, 2]], dtype=np.int32)
    candidates = Candidates(np.arange(5, dtype=np.int32), ("a", "b"), rank.astype(np.float32), rank)
    for weights, order in (({"a": 1.0, "b": 0.001}, [0, 1, 2, 3, 4]), ({"a": 0.001, "b": 1.0}, [3, 2, 4, 0, 1])):
        plan = SimpleNamespace(scorers=("a ranker", Blend(weights=weights)))
        assert np.argsort(_places(cast("Plan", plan), candidates)).tolist() == order
