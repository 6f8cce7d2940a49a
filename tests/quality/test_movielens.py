"""Rankings of users and calibrated slates by hand: what is held out is not learned, figures are those of a formula."""

import json
import math
import zipfile

import numpy as np
import pytest

from benchmarks.quality.audiences import ACTIVE, CHANCE, CONFIG, OURS, AudienceOptions, judge_audiences
from benchmarks.quality.calibration import (
    CalibrationOptions,
    configured,
    divergence,
    gain,
    judge_calibration,
    shares_of,
)
from benchmarks.quality.movielens import ACTS_FILE, ITEMS_FILE, LATER_MS, read_movielens, split, write_shop
from midstream.evaluation.metrics.statistics import Resampling

QUICK = Resampling(resamples=100)
GENRES = {f"{kind}-{n}": (kind,) for kind in ("comedy", "drama", "war") for n in range(20)}


def audience():
    """Ninety users of two tastes: nine of ten acts are of the main genre, in an order of chance."""
    dice = np.random.default_rng(5)
    acts = {}
    for number in range(90):
        main, other = (("comedy", "drama"), ("drama", "war"), ("war", "comedy"))[number % 3]
        items = [f"{main}-{n}" for n in dice.permutation(20)[:14]] + [f"{other}-{n}" for n in dice.permutation(20)[:4]]
        order = dice.permutation(len(items))
        acts[f"u{number}"] = [(1_000_000_000_000 + 1_000 * int(at), items[place]) for at, place in enumerate(order)]
    return split(acts, GENRES)


def test_the_last_acts_of_a_user_are_held_out():
    """A fifth, two at least; of a user with few acts nothing."""
    own = [(1_000 + n, f"comedy-{n}") for n in range(20)]
    found = split({"ann": own, "bob": own[:10], "cid": own[:9]}, GENRES)
    assert found.held_out == {"ann": {f"comedy-{n}" for n in range(16, 20)}, "bob": {"comedy-8", "comedy-9"}}
    assert found.learned["ann"] == tuple(own[:16])
    assert found.learned["cid"] == tuple(own[:9])


def test_the_set_is_read_from_the_wheel(tmp_path):
    """Ratings of 4 and 5 as acts by time, genres of each film."""
    acts = "u\ti\tr\tt\n" + "".join(f"ann\t{n}\t{3 + n % 3}\t{881250949 - n}\n" for n in range(30))
    films = "i\tt\ty\tc\n0\tToy Story\t1995\tAnimation Children's Comedy\n"
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr(ACTS_FILE, acts)
        archive.writestr(ITEMS_FILE, films)
    found = read_movielens(tmp_path / "a.whl")
    assert found.genres == {"0": ("Animation", "Children's", "Comedy")}
    assert len(found.learned["ann"]) + len(found.held_out["ann"]) == 20
    assert found.learned["ann"][0] == (881250920000 + LATER_MS, "29")
    assert found.held_out["ann"] == {"1", "2", "4", "5"}


def test_users_are_ranked_by_taste(tmp_path):
    """For an item those who like its genre come first, and users are like those of their taste."""
    write_shop(audience(), tmp_path, CONFIG)
    types = [json.loads(line)["type"] for line in (tmp_path / "acts.ndjson").read_text().splitlines()]
    assert types == ["item"] * 60 + ["view"] * (90 * 14)
    report = judge_audiences(audience(), tmp_path, AudienceOptions(k=10, resampling=QUICK))
    for_items, like_users = ({each.name: each for each in ways} for ways in (report.for_items, report.like_users))
    assert for_items[OURS].less_active.low > 0.05
    assert like_users[OURS].less_active.low > 0.02
    assert like_users[ACTIVE].figures["common"].mean == pytest.approx(
        like_users[CHANCE].figures["common"].mean, abs=0.02
    )
    assert report.users == 90


def test_calibration_trades_accuracy_for_shares(tmp_path):
    """More weight comes nearer to the shares of the user's acts; the first row is the order of the scores."""
    options = CalibrationOptions(k=10, weights=(0.0, 0.5, 0.99), resampling=QUICK)
    write_shop(audience(), tmp_path, configured(options.weights, options.k))
    report = judge_calibration(audience(), tmp_path, options)
    distances = [each.divergence.mean for each in report.points]
    assert distances[0] > distances[1] >= distances[2]
    assert report.points[0].less_plain.mean == 0.0
    assert report.points[1].less_plain.tests_count == 2
    assert all(0 < each.ndcg.mean < 1 for each in report.points)


def test_figures_are_those_of_their_formulas():
    """Shares by parts of an item, a finite distance where a genre is missing, 0 for equal shares, NDCG by hand."""
    genres = {"a": ("comedy",), "b": ("comedy", "drama"), "c": ()}
    assert shares_of("abc", genres) == {"comedy": 0.75, "drama": 0.25}
    assert divergence({"comedy": 0.75, "drama": 0.25}, {"comedy": 0.75, "drama": 0.25}) == pytest.approx(0)
    missing = divergence({"comedy": 0.5, "drama": 0.5}, {"comedy": 1.0})
    assert missing == pytest.approx(0.5 * math.log(0.5 / 0.995) + 0.5 * math.log(0.5 / 0.005))
    assert gain(("x", "a", "b"), frozenset("ab"), 3) == pytest.approx((1 / math.log2(3) + 0.5) / (1 + 1 / math.log2(3)))
