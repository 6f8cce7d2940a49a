"""Reports of interleaving experiments: credit of places and votes of units from the log, settled before they count."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

import midstream
from midstream.app.inspect.draft_report import DraftReport, TeamPreference, draft_lines, draft_report, draft_rows
from midstream.app.inspect.drafted_places import CREDIT_MS, DraftedLog, LoggedActs, LoggedPlaces, read_drafts
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import config_of
from midstream.app.operate.shown_experiment import shown_experiment
from midstream.cli.app import main
from midstream.engine.recommender import Recommender
from midstream.experiments.documents import Experiment, RampStep, Variant
from midstream.experiments.metrics import ExperimentMetric
from midstream.experiments.routing import experiments_in
from midstream.ranking.drafted_slate import teams_in
from tests.engine.experiments.test_experimenting import USERS
from tests.engine.experiments.test_interleaved import TEAMS, opened, record_of, started

TOLD = Experiment(
    name="mix", placement="home", layer="home", layer_salt=1, first=0, end=10_000, salt=2, began_ms=0,
    variants=(Variant("odd", TEAMS[0], "", 5_000), Variant("even", TEAMS[1], "", 5_000)),
    steps=(RampStep(0, 10_000),), design="interleave", draft=Variant("draft", "home@mix.draft", "", 10_000),
)  # fmt: skip
VIEW = ExperimentMetric("view", "view", "mean", role="primary")


def column(*numbers: int) -> np.ndarray:
    """Whole numbers."""
    return np.array(numbers, dtype=np.int64)


def slates(*unit: int, time_ms: tuple[int, ...] = ()) -> LoggedPlaces:
    """Slates of two places, a pair each: the first by the control, the second by the variant; items 0 and 1."""
    count = len(unit)
    times = time_ms or (0,) * count
    return LoggedPlaces(
        np.repeat(column(*unit), 2),
        np.repeat(np.arange(count), 2),
        np.tile(column(0, 1), count),
        np.tile(np.array([0, 1], dtype=np.int8), count),
        np.zeros(2 * count, dtype=np.int32),
        np.repeat(column(*times), 2),
    )


def acts(*rows: tuple[str, int, int, int, float, int]) -> LoggedActs:
    """LoggedActs by action, place, unit, item, value and time."""
    action, place, unit, item, value, time_ms = zip(*rows, strict=True)
    return LoggedActs(tuple(action), column(*place), column(*unit), column(*item), np.array(value), column(*time_ms))


def preferred(
    places: LoggedPlaces, did: LoggedActs, metric: ExperimentMetric = VIEW, now_ms: int = 10 * CREDIT_MS
) -> TeamPreference:
    """What the report says of the one variant."""
    found = draft_report(TOLD, (metric,), DraftedLog(places, did, 0, 0), now_ms)
    (only,) = found.preferences
    return only


def test_credit_is_of_the_place_and_in_time() -> None:
    """Within a day of the slate; a rate counts once a place, a mean each act, a cap bounds it; less may be better."""
    places = slates(0, 1)
    did = acts(("view", 1, 0, 1, 2.0, 5), ("view", 1, 0, 1, 3.0, 6), ("view", 2, 1, 0, 0.0, CREDIT_MS))
    found = preferred(places, did)
    assert (found.pairs, found.difference, found.wins, found.ties, found.losses) == (2, 1.0, 1, 0, 0)
    assert preferred(places, did, msgspec.structs.replace(VIEW, kind="rate")).difference == 0.5
    assert preferred(places, did, ExperimentMetric("v", "value", "mean", role="primary")).difference == 2.5
    assert preferred(places, did, msgspec.structs.replace(VIEW, cap=1.5)).difference == 0.75
    worse = preferred(places, did, msgspec.structs.replace(VIEW, better="lower"))
    assert (worse.difference, worse.wins, worse.losses) == (-1.0, 0, 1)


def test_a_vote_is_of_the_first_day_of_its_unit_and_open_until_then() -> None:
    """What comes later changes no vote; only settled votes are in the interval of all looks."""
    places = slates(0, 0, 1, time_ms=(0, CREDIT_MS + 5, CREDIT_MS + 5))
    did = acts(
        ("view", 1, 0, 1, 0.0, 5),
        ("view", 2, 0, 0, 0.0, CREDIT_MS + 6),
        ("view", 2, 0, 0, 0.0, CREDIT_MS + 7),
        ("view", 5, 1, 1, 0.0, CREDIT_MS + 8),
    )
    found = preferred(places, did, now_ms=CREDIT_MS + 10)
    assert (found.wins, found.losses, found.open) == (2, 0, 1)
    settled = preferred(places, did, now_ms=2 * CREDIT_MS + 5)
    assert settled.open == 0
    assert settled.delta_low > found.delta_low
    assert found.difference == pytest.approx(0.0)  # pairs count all credit


def test_an_act_that_names_no_slate_is_of_the_variant_that_showed_the_item() -> None:
    """To that unit, before it; an act of nobody who was shown it counts for nobody."""
    places = slates(0, 1)
    did = acts(("view", -1, 0, 1, 0.0, 5), ("view", -1, 1, 0, 0.0, 5), ("view", -1, -1, 1, 0.0, 5))
    found = preferred(places, did)
    assert (found.wins, found.ties, found.losses, found.difference) == (1, 0, 1, 0.0)
    assert found.verdict == "undecided"


def test_a_report_without_slates_claims_nothing() -> None:
    """And is printed."""
    none = DraftedLog(slates(), LoggedActs((), column(), column(), column(), np.zeros(0), column()), 2, 1)
    found = draft_report(TOLD, (VIEW,), none, 5)
    assert (found.units, found.slates, found.partial, found.unnamed) == (0, 0, 2, 1)
    (only,) = found.preferences
    assert (only.pairs, only.verdict, math.isnan(only.difference)) == (0, "undecided", True)
    assert next(iter(draft_rows(found)))[4] == "–"
    assert "2 slates are left out" in "\n".join(draft_lines(found, "odd"))


def click_of(shop: Recommender, user: str) -> dict[str, object]:
    """Return a click of a user on what ``even`` drafted first, in a slate that is made for it."""
    answer = shop.recommend("home", user_id=user)
    team, _ = teams_in(record_of(shop, answer).items, TEAMS)
    item = answer.items[team.tolist().index(1)].id
    return {"type": "click", "user_id": user, "item_id": item, "request_id": answer.request_id}


def clicked(folder: Path) -> None:
    """Run a shop in which every user views what ``even`` drafted first, through the slate."""
    with opened(folder) as shop:
        started(shop)
        for user in USERS[:24]:
            shop.record(click_of(shop, user))
        shop.recommend("home", session_id="quiet")


def report_in(folder: Path) -> DraftReport:
    """The report of ``mix``."""
    found = shown_experiment(folder, config_of(folder), "mix").drafts
    assert found is not None
    return found


def test_a_preference_is_found_in_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By people and by metrics; while votes are open nothing is claimed, and a stop settles them."""
    clicked(tmp_path)
    running = report_in(tmp_path)
    assert (running.units, running.slates, running.partial) == (25, 25, 0)
    first = running.preferences[0]
    assert (first.metric, first.role, first.variant) == ("click", "primary", "even")
    assert (first.wins, first.losses, first.open, first.verdict) == (24, 0, 24, "undecided")
    assert first.difference > 0.3
    with midstream.open(tmp_path) as shop:
        shop.experiments.stop("mix", "even is liked", author="ann")
    stopped = report_in(tmp_path)
    assert (stopped.preferences[0].verdict, stopped.preferences[0].open) == ("better", 0)
    with pytest.raises(SystemExit):
        main(["experiments", "show", "mix", "--folder", str(tmp_path)])
    said = "".join(capfd.readouterr())
    assert "even: preferred to odd by click" in said
    assert "answers have the variant draft" in said
    with pytest.raises(SystemExit):
        main(["experiments", "show", "mix", "--json", "--folder", str(tmp_path)])
    told = msgspec.json.decode(capfd.readouterr().out)
    assert told["drafts"]["preferences"][0]["wins"] == 24
    assert (told["experiment"]["auto_stop"], [each["weight"] for each in told["experiment"]["variants"]]) == (
        False,
        [1.0, 1.0],
    )


def test_a_page_of_a_draft_is_a_slate_with_teams(tmp_path: Path) -> None:
    """LoggedActs on it are credit; acts of units without a drafted slate are none."""
    with opened(tmp_path) as shop:
        started(shop)
        first = shop.recommend("home", user_id="ann", cursor=True)
        second = shop.recommend("home", user_id="ann", cursor=first.cursor)
        team, _ = teams_in(record_of(shop, second).items, TEAMS)
        place = next(number for number, each in enumerate(team.tolist()) if each >= 0)
        item = second.items[place].id
        shop.record({"type": "click", "user_id": "ann", "item_id": item, "request_id": second.request_id})
        shop.recommend("home", user_id="bob")
    log = LogView(tmp_path)
    fold = state_of(tmp_path, config_of(tmp_path), log).fold
    (told,) = experiments_in(fold.placements.current)
    found = read_drafts(log, fold, told, told.metrics)
    assert len(np.unique(found.places.slate)) == 3
    assert len(np.unique(found.places.unit)) == 2
    (at,) = found.acts.place.tolist()
    assert found.places.team[at] == team[place]
