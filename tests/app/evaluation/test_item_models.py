"""Models judged on a file: kind and options by name, settings from the validation part."""

import csv
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from midstream.app.evaluation.item_models import JudgingOptions, ModelChoice, Search, choose, item_data_of, judge_models
from midstream.app.evaluation.placements import EvaluationOptions, interactions_of
from midstream.core.errors import Fault, Invalid, NotFound
from midstream.evaluation.settings_file import read_settings, write_settings
from midstream.models.search import SearchBudget
from tests.support.patience import PATIENCE_S


def data_of(path, protocol="temporal", *, repeat=False):
    """A file of who acted on what, under a protocol."""
    return item_data_of(interactions_of(str(path), EvaluationOptions({"user_id": "who"})), protocol, repeat=repeat)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A file of 600 acts of 30 users on 25 items, some far more popular."""
    random = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("shop") / "acts.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["who", "item_id", "time"])
        for at in range(600):
            rows.writerow([f"u{random.integers(30)}", f"i{int(25 * random.random() ** 3)}", 1_700_000_000_000 + at])
    return path


def quiet(_text):
    """Nobody watches."""


def test_two_kinds_are_judged_on_the_same_questions(shop, tmp_path):
    """A report each, a difference for every metric."""
    options = JudgingOptions(against="ease", k=5, folder=tmp_path)
    judged = judge_models(data_of(shop), "popular", options, quiet)
    assert [each.model for each in judged.reports] == ["popular", "ease"]
    assert {each.questions for each in judged.reports} == {judged.reports[0].questions}
    assert set(judged.differences) == {f"{name}@5" for name in ("HR", "recall", "precision", "NDCG", "MRR", "MAP")}
    first, second = (each.metrics["NDCG@5"].mean for each in judged.reports)
    assert judged.differences["NDCG@5"].mean == pytest.approx(first - second)
    assert judged.options[0] == {"once": True}
    assert set(msgspec.to_builtins(judged)) == {"reports", "options", "differences"}


def test_windows_follow_one_another(shop, tmp_path):
    """The rolling protocol has a mean for each window."""
    options = JudgingOptions(k=5, folder=tmp_path)
    (report,) = judge_models(data_of(shop, "rolling"), "popular", options, quiet).reports
    assert (report.protocol, len(report.windows)) == ("rolling", 5)


def test_settings_are_chosen_on_the_validation_part_and_kept(shop, tmp_path):
    """A search writes what was tried; the next run takes the best of it without another; named options go before."""
    options = JudgingOptions(k=5, search_seconds=PATIENCE_S, trials_max=4, folder=tmp_path)
    judge_models(data_of(shop), "popular", options, quiet)
    choice = read_settings(tmp_path / "evaluation-acts.csv-temporal-popular.json", ModelChoice)
    assert (choice.chosen_on, choice.metric, len(choice.trials)) == ("validation", "NDCG@5", 4)
    assert choice.worth == max(each.worth for each in choice.trials)
    assert choice.trials[0].options == {"once": True}
    said: list[str] = []
    kept = judge_models(data_of(shop), "popular", JudgingOptions(k=5, folder=tmp_path), said.append)
    assert kept.options == (choice.options,)
    assert not any("choosing" in each for each in said)
    named = JudgingOptions({"once": "false"}, k=5, folder=tmp_path)
    assert judge_models(data_of(shop), "popular", named, quiet).options == ({"once": False},)


def test_a_search_begins_with_what_was_chosen_before(shop, tmp_path):
    """Behind the defaults, without a journal too; what was chosen for another question is not tried."""
    options = JudgingOptions(k=5, search_seconds=PATIENCE_S, trials_max=2, folder=tmp_path)
    path = tmp_path / "evaluation-acts.csv-temporal-rp3beta.json"

    def tried():
        path.with_suffix(".journal").unlink(missing_ok=True)
        judge_models(data_of(shop), "rp3beta", options, quiet)
        return [each.options for each in read_settings(path, ModelChoice).trials]

    first = tried()
    choice = read_settings(path, ModelChoice)
    named: dict[str, int | float | str | bool] = {"alpha": 0.75, "beta": 0.25}
    write_settings(path, replace(choice, options=named))
    assert tried() == [first[0], {**first[0], **named}]
    write_settings(path, replace(choice, options=named, question="another"))
    assert tried() == first


def test_a_search_without_room_for_what_was_chosen_before_keeps_it(tmp_path):
    """As it was found, unless it has no answer any more; a search that tries it again says what comes of it now."""
    path = tmp_path / "settings.json"
    named: dict[str, int | float | str | bool] = {"once": True}
    nothing = ModelChoice("acts", "temporal", "popular", "validation", "NDCG@5", {}, 0.0, (), "which?")
    before = replace(nothing, options=named, worth=7.0)

    def chosen(worth, trials, asked=before):
        path.with_suffix(".journal").unlink(missing_ok=True)
        write_settings(path, asked)
        return choose(path, nothing, Search(worth, {"once": (True, False)}, {"once": False}, SearchBudget(trials)))

    def refuses(options):
        if options["once"]:
            raise Invalid((Fault("$.once", "no answer", "false", "/docs/models.md"),))
        return 1.0

    kept = chosen(lambda _: 1.0, 1)
    assert (kept.options, kept.worth, [each.options["once"] for each in kept.trials]) == (named, 7.0, [False, True])
    assert read_settings(path, ModelChoice) == kept
    again = chosen(lambda _: 1.0, 2)
    assert (again.options, again.worth, len(again.trials)) == ({"once": False}, 1.0, 2)
    assert chosen(refuses, 2).options == {"once": False}
    assert chosen(lambda _: 1.0, 1, replace(before, question="another")).options == {"once": False}


def test_settings_of_another_question_are_refused_and_searched_for_anew(shop, tmp_path):
    """By another metric, or on data of the same name and another content; a search takes no trial of those over."""
    options = JudgingOptions(k=5, search_seconds=PATIENCE_S, trials_max=2, folder=tmp_path)
    judge_models(data_of(shop), "popular", options, quiet)
    path = tmp_path / "evaluation-acts.csv-temporal-popular.json"
    first = read_settings(path, ModelChoice)
    with pytest.raises(Invalid, match="chosen by NDCG@5, and NDCG@3 is asked for"):
        judge_models(data_of(shop), "popular", replace(options, k=3, search_seconds=0.0), quiet)
    less = tmp_path / "less" / "acts.csv"
    less.parent.mkdir()
    less.write_text("".join(shop.read_text().splitlines(keepends=True)[:400]))
    with pytest.raises(Invalid, match="other data"):
        judge_models(data_of(less), "popular", replace(options, search_seconds=0.0), quiet)
    judge_models(data_of(less), "popular", options, quiet)
    second = read_settings(path, ModelChoice)
    assert second.question != first.question
    assert {each.worth for each in second.trials}.isdisjoint(each.worth for each in first.trials)
    judge_models(data_of(less), "popular", replace(options, search_seconds=0.0), quiet)
    with pytest.raises(Invalid, match="other items may be recommended"):
        judge_models(data_of(less, repeat=True), "popular", replace(options, search_seconds=0.0), quiet)


def test_a_kind_is_judged_against_itself_with_other_options(shop, tmp_path):
    """Two reports: the named options beside the settings or defaults."""
    options = JudgingOptions({"once": "false"}, "popular", folder=tmp_path)
    judged = judge_models(data_of(shop), "popular", options, quiet)
    assert judged.options == ({"once": False}, {"once": True})
    assert [each.model for each in judged.reports] == ["popular", "popular (settings)"]
    assert "NDCG@20" in judged.differences


def test_parts_of_a_blend_have_the_settings_of_their_kinds(shop, tmp_path):
    """Where their kinds alone are named they are searched for, or read from the settings files."""
    options = JudgingOptions(k=5, search_seconds=PATIENCE_S, trials_max=2, folder=tmp_path)
    parts = {"parts": "popular,ease", "held_out": "random"}
    said: list[str] = []
    (told,) = judge_models(data_of(shop), "blend", replace(options, options=parts), said.append).options
    assert sum("choosing settings of" in each for each in said) == 2
    files = [f"evaluation-acts.csv-temporal-{kind}.json" for kind in ("popular", "ease")]
    chosen = [read_settings(tmp_path / name, ModelChoice).options for name in files]
    named = zip(("popular", "ease"), chosen, strict=True)
    assert told["parts"] == tuple({"kind": kind, "options": each, "weight": None} for kind, each in named)
    assert told["held_out"] == "random"
    kept = replace(options, options=parts, search_seconds=0.0, against="popular")
    judged = judge_models(data_of(shop), "blend", kept, quiet)
    assert judged.options[0] == told
    assert [each.model for each in judged.reports] == ["blend", "popular"]
    with pytest.raises(Invalid, match=r"parts\[1\]"):
        judge_models(data_of("nowhere.csv"), "blend", JudgingOptions({"parts": "popular,easy"}), quiet)


def test_what_is_wrong_is_named_before_anything_is_read(shop):
    """Kinds, options, protocols and data."""
    with pytest.raises(Invalid, match="popular"):
        judge_models(data_of("nowhere.csv"), "populer", JudgingOptions(), quiet)
    with pytest.raises(Invalid, match=r"options\.twice"):
        judge_models(data_of("nowhere.csv"), "popular", JudgingOptions({"twice": "1"}), quiet)
    with pytest.raises(Invalid, match="temporal, rolling"):
        data_of(shop, "random")
    with pytest.raises(NotFound, match="nowhere"):
        judge_models(data_of("nowhere.csv"), "popular", JudgingOptions(), quiet)
