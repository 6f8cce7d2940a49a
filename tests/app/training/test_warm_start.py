"""Trainings that go on from a version: nothing is learned twice, nothing is passed by, and the version is named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import config_of
from midstream.app.operate.model_registry import promote
from midstream.app.point_in_time.lookup import Past
from midstream.app.training.fit import Fitting, Trained, fit_and_publish, model_named, question_of
from midstream.app.training.ranker_data import ranker_rows
from midstream.app.training.run import train
from midstream.app.training.warm_start import has_learned, known_end, version_of
from midstream.core.errors import Invalid, NotFound
from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.events.segments.log_identity import LogIdentity
from midstream.models.artifact.artifact import Window
from midstream.models.model import QUIET
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import Ftrl, fit_ftrl
from midstream.training.registry import LoadedVersion, Registry
from tests.app.timed import BEGIN_MS, HOUR_MS, timed_shop

TOML = """
[feedback]
window = "3h"
reward = { click = 1.0 }

[[features]]
name = "views"
kind = "count"
scope = "item"
actions = ["view"]

[[features]]
name = "clicks"
kind = "count"
scope = "item"
actions = ["click"]

[[placements]]
name = "home"
features = ["views", "clicks"]

[[models]]
name = "clicks"
kind = "ftrl"
placement = "home"
options = { alpha = 0.3, l1 = 0.0, l2 = 0.0 }

[[models]]
name = "taste"
kind = "als"
options = { factors = 4, iterations = 3, threads = 1 }

[[models]]
name = "near"
kind = "ease"
"""
OPTIONS = "options = { factors = 4, iterations = 3, threads = 1 }"


def day(folder: Path, number: int) -> None:
    """Serve a slate an hour for a day, one item of each clicked; the log ends an hour after the last."""
    (folder / "midstream.toml").write_text(TOML)
    rng = np.random.default_rng(number)
    with timed_shop(folder, BEGIN_MS + number * 24 * HOUR_MS) as timed:
        acts = [
            {"type": "view", "user_id": f"u{rng.integers(8)}", "item_id": f"i{rng.integers(12)}"} for _ in range(40)
        ]
        timed.shop.record(acts)
        for hour in range(20):
            answer = timed.shop.recommend(placement="home", user_id=f"u{hour % 8}", n=4)
            told = {"user_id": f"u{hour % 8}", "request_id": answer.request_id}
            timed.shop.record([{"type": "click", **told, "item_id": answer.items[rng.integers(4)].id}])
            timed.wait(HOUR_MS)
        timed.shop.record([{"type": "view", "user_id": "u0", "item_id": "i0"}])


def fitted(folder: Path, name: str, start: str = "") -> Trained:
    """Fit here."""
    return fit_and_publish(Fitting(folder, config_of(folder), name, made_ms=1, start=start), QUIET)


def loaded(folder: Path, name: str, version: str) -> LoadedVersion:
    """Return a version."""
    return Registry(folder / "data" / "models").load(name, version)


def all_rows(folder: Path) -> Examples:
    """Return all rows that there are by now, in the order of the log."""
    config = config_of(folder)
    asked = question_of(Fitting(folder, config, "clicks", made_ms=1), model_named(config, "clicks"), LogView(folder))
    return ranker_rows(Past(folder, config), asked).examples


def test_the_next_day_after_the_first_is_both_days_in_order(tmp_path: Path) -> None:
    """What was young on the first day is learned on the second, and no slate twice; equal runs give equal arrays."""
    day(tmp_path, 0)
    first = fitted(tmp_path, "clicks").version
    day(tmp_path, 1)
    done = fitted(tmp_path, "clicks", first)
    rows = all_rows(tmp_path)
    before = loaded(tmp_path, "clicks", first)
    known = int(np.count_nonzero(rows.time_ms <= before.manifest.window.end_ms))
    assert before.manifest.window.counts["requests"] == known == 18
    assert done.counts["requests"] == len(rows.time_ms) - known == 20
    found = loaded(tmp_path, "clicks", done.version)
    assert found.manifest.parent == first
    assert isinstance(before.model, Ftrl)
    assert isinstance(found.model, Ftrl)
    # A model with the first day's bins that has learned nothing, and then learns both days in their order.
    nothing = replace(before.model, z=np.zeros_like(before.model.z), n=np.zeros_like(before.model.n))
    both = nothing.learn(rows)
    apart = fit_ftrl(rows.take(np.arange(known)), before.model.options).learn(rows.take(np.arange(known, 38)))
    for name in ("z", "n", "edges"):
        assert (getattr(found.model, name) == getattr(both, name)).all()
        assert (getattr(found.model, name) == getattr(apart, name)).all()
    again = loaded(tmp_path, "clicks", fitted(tmp_path, "clicks", first).version)
    assert isinstance(again.model, Ftrl)
    assert (again.model.z == found.model.z).all()
    assert not (found.model.z == before.model.z).all()


def test_factors_are_begun_with_and_judged_on_what_they_do_not_know(tmp_path: Path) -> None:
    """The version knows the first day, which is among what judges, so the figures are of a fit that began anew."""
    day(tmp_path, 0)
    first = fitted(tmp_path, "taste").version
    anew, on, again = (fitted(tmp_path, "taste", start) for start in ("", first, first))
    assert on.metrics == anew.metrics
    found = [loaded(tmp_path, "taste", each.version) for each in (anew, on, again)]
    assert [each.manifest.parent for each in found] == ["", first, first]
    plain, ours, same = (each.model.arrays()["als.item_factors"] for each in found)
    assert (ours == same).all()
    assert not (ours == plain).all()
    for number in range(1, 5):
        day(tmp_path, number)
    assert fitted(tmp_path, "taste", first).metrics != fitted(tmp_path, "taste").metrics


def test_what_an_ancestor_knows_judges_nothing(tmp_path: Path) -> None:
    """The second version has acts of before 30 alone, and began with factors of one that knows all: it knows all too,
    and so does what goes on from it.
    """
    day(tmp_path, 0)
    first = fitted(tmp_path, "taste")
    end = loaded(tmp_path, "taste", first.version).manifest.window.end
    (tmp_path / "midstream.toml").write_text(TOML.replace('"als"', '"als"\nuntil = 30'))
    second = fitted(tmp_path, "taste", first.version)
    window = loaded(tmp_path, "taste", second.version).manifest.window
    assert window.end <= 30 < end == window.known_end
    (tmp_path / "midstream.toml").write_text(TOML)
    assert fitted(tmp_path, "taste", second.version).metrics == fitted(tmp_path, "taste").metrics


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 1), st.integers(0, 1), st.integers(0, 12))
def test_what_is_known_never_shrinks(own: int, known: int, parent: int, later: int, position: int) -> None:
    """Of a log that was written anew an earlier version knows no one can say what: all that was there when it was
    gone on from.
    """
    log = LogIdentity("a log", generation=later)
    before = Window("a log", generation=parent, end=own, known_end=max(own, known))
    end = known_end(own, before, log, LogPosition(10))
    assert end >= own
    assert end == (max(own, known) if parent == later else 10)
    after = Window("a log", generation=later, end=own, known_end=end)
    assert has_learned(after, log, position) == (end > position)
    if position < 10:
        assert has_learned(after, log, position) or not has_learned(before, log, position)


def test_a_training_goes_on_from_the_champion(tmp_path: Path) -> None:
    """In a process of its own; which version that was stands in the manifest."""
    day(tmp_path, 0)
    config = config_of(tmp_path)
    with pytest.raises(NotFound, match="taste has no champion to go on from"):
        train(tmp_path, config, "taste", start="champion")
    first = fitted(tmp_path, "taste").version
    promote(tmp_path, config, "taste", first)
    assert version_of(tmp_path, config, "taste", "champion") == version_of(tmp_path, config, "taste", "1") == first
    done = train(tmp_path, config, "taste", start="champion")
    assert loaded(tmp_path, "taste", done.version).manifest.parent == first
    assert done.beside is not None
    assert (done.beside.champion, done.beside.verdict) == (first, "unknown")
    assert "has learned all acts" in done.beside.why_not


@pytest.mark.parametrize(
    "name, was, new, came",
    [
        ("near", "", "", "A model of kind ease is always fitted anew.*Kinds that go on: als, ftrl"),
        ("taste", "factors = 4", "factors = 5", "The version has 4 factors, and options.factors is 5"),
        ("clicks", "alpha = 0.3", "alpha = 0.2", "The version was fitted with alpha = 0.3"),
        ("clicks", '["views", "clicks"]', '["clicks"]', "The version reads views, clicks, and the placement clicks"),
        ("taste", f'"als"\n{OPTIONS}', '"ftrl"\nplacement = "home"', "is of kind als, and taste of ftrl"),
    ],
)
def test_what_cannot_go_on_says_why(tmp_path: Path, name: str, was: str, new: str, came: str) -> None:
    """And nothing is published."""
    day(tmp_path, 0)
    first = fitted(tmp_path, name).version
    day(tmp_path, 1)
    assert was in TOML
    (tmp_path / "midstream.toml").write_text(TOML.replace(was, new))
    with pytest.raises(Invalid, match=f"(?s)--from.*{came}"):
        fitted(tmp_path, name, first)
    assert Registry(tmp_path / "data" / "models").versions(name) == [first]


@pytest.mark.parametrize("examples", ["served", "replay"])
def test_without_anything_newer_it_is_said(tmp_path: Path, examples: str) -> None:
    """And not that the log has nothing, or that a range is none."""
    day(tmp_path, 0)
    told = TOML.replace('kind = "ftrl"', f'kind = "ftrl"\nexamples = "{examples}"\nvalidation = 0')
    (tmp_path / "midstream.toml").write_text(told)
    first = fitted(tmp_path, "clicks").version
    came = f"(?s)--from.*no {examples} examples that are newer than what {first} has learned.*Newer"
    with pytest.raises(Invalid, match=came):
        fitted(tmp_path, "clicks", first)
    (tmp_path / "midstream.toml").write_text(told.replace('kind = "ftrl"', 'kind = "ftrl"\nuntil = "2001-01-01"'))
    with pytest.raises(Invalid, match=came):
        fitted(tmp_path, "clicks", first)


def test_a_version_of_another_kind_is_refused_before_a_process_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest says so."""
    day(tmp_path, 0)
    first = fitted(tmp_path, "near").version
    (tmp_path / "midstream.toml").write_text(TOML.replace('"ease"', '"als"'))
    monkeypatch.setattr(child_process, "run", None)
    with pytest.raises(Invalid, match="is of kind ease, and near of als"):
        train(tmp_path, config_of(tmp_path), "near", start=first)


def test_a_version_of_another_log_is_not_gone_on_from(tmp_path: Path) -> None:
    """Which of its events it knows cannot be said."""
    for number, name in enumerate(("here", "there")):
        (tmp_path / name).mkdir()
        day(tmp_path / name, number)  # of another time, so with another id
    version = fitted(tmp_path / "there", "taste").version
    (tmp_path / "here/data/models").mkdir()
    (tmp_path / "there/data/models/taste").rename(tmp_path / "here/data/models/taste")
    with pytest.raises(Invalid, match="fitted on another log"):
        fitted(tmp_path / "here", "taste", version)
