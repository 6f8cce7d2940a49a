"""Evaluation of a configuration on files: by its own settings, and saying what could not answer."""

import pytest

from midstream.app.config.reader import parse_config
from midstream.app.evaluation.placements import (
    EvaluationOptions,
    evaluate_learning,
    evaluate_replay,
    fit_on_replay,
    interactions_of,
    write_fitted,
)
from midstream.app.opening import CONFIG_NAME
from midstream.cli.app import main
from midstream.core.errors import Invalid

START_MS = 1_700_000_000_000


@pytest.fixture
def data(tmp_path):
    """Sessions of four acts over ten items, in time order."""
    rows = [
        f"s{number // 4},i{(number * 7 + number // 4) % 10},{START_MS + number * 1_000},u{number // 4}\n"
        for number in range(200)
    ]
    path = tmp_path / "acts.csv"
    path.write_text("session_id,item_id,time,user_id\n" + "".join(rows))
    return str(path)


def acts_of(data):
    """A file as its own columns are called."""
    return interactions_of(data, EvaluationOptions())


def replayed(data, tmp_path, config):
    """Return the report of a replay, and what was missing."""
    return evaluate_replay(acts_of(data), parse_config(config), tmp_path, EvaluationOptions(), lambda _: None)


def test_a_replay_folds_for_the_half_lives_that_are_configured(data, tmp_path):
    """A source of another half-life than the defaults answers every question."""
    config = '[[placements]]\nname = "hot"\nsources = [{ kind = "trending", half_life = "1h" }]\n'
    report, failures = replayed(data, tmp_path, config)
    assert failures == {"hot": {}}
    assert next(each for each in report.methods if each.name == "placement hot").hit_rate.mean > 0


def test_what_a_data_set_has_no_attributes_for_is_said(data, tmp_path):
    """Each answer that a filter over attributes was missing from is counted."""
    config = (
        '[items.attributes]\nprice = "number"\n[[placements]]\nname = "cheap"\n'
        'sources = [{ kind = "trending" }]\nfilter = "item.price < 5"\n'
    )
    report, failures = replayed(data, tmp_path, config)
    assert report.questions == 150
    assert failures == {"cheap": {"filter": 150}}


def test_a_file_that_cannot_be_changed_for_certain_costs_no_figures(data, tmp_path):
    """Fitting and judging write nothing into the configuration; what writes it says where it cannot."""
    path = tmp_path / CONFIG_NAME
    path.write_text("")
    options = EvaluationOptions(fit_path=tmp_path / "fit.json")
    report = fit_on_replay(acts_of(data), parse_config(""), tmp_path, options, lambda _: None)
    assert path.read_text() == ""
    assert write_fitted(tmp_path, "default", report)
    assert "rank_offset" in path.read_text()
    path.write_text("placements = [{ name = 'default' }]\n")
    with pytest.raises(Invalid):
        write_fitted(tmp_path, "default", report)
    assert path.read_text() == "placements = [{ name = 'default' }]\n"
    path.unlink()
    assert not write_fitted(tmp_path, "default", report)


def test_each_placement_has_a_file_of_its_own(data, tmp_path, monkeypatch):
    """Weights of one placement are never taken for another's, whatever it is called, nor after its sources changed."""
    monkeypatch.chdir(tmp_path)
    config = '[[placements]]\nname = "default"\n[[placements]]\nname = "a/b"\nsources = [{ kind = "trending" }]\n'
    for name in ("default", "a/b"):
        fit_on_replay(acts_of(data), parse_config(config), tmp_path, EvaluationOptions(placement=name), lambda _: None)
    names = sorted(path.name for path in tmp_path.glob("**/*.json"))
    assert names == ["blend-acts.csv-a%2Fb.json", "blend-acts.csv-default.json"]
    changed = parse_config(config.replace('kind = "trending"', 'kind = "trending", half_life = "7d"'))
    options = EvaluationOptions(placement="a/b")
    with pytest.raises(Invalid, match="Fitted with other options of trending"):
        fit_on_replay(acts_of(data), changed, tmp_path, options, lambda _: None)


def test_what_learning_on_is_worth_is_told_of_a_file(data):
    """A frozen state, one that learns now and then, one that always does; of the source that is named."""
    told: list[int] = []
    report = evaluate_learning(acts_of(data), EvaluationOptions(source="covisitation"), 4, told.append)
    assert [each.name for each in report.schedules] == ["frozen", "rolling", "test then learn"]
    assert (report.rows, report.asked_from, report.windows) == (200, 100, 4)
    assert sum(told) == 600
    assert report.schedules[0].hit_rate_gain.mean == 0.0
    with pytest.raises(Invalid, match='Nearest: "popular"'):
        evaluate_learning(acts_of(data), EvaluationOptions(source="popula"), 4, told.append)


@pytest.mark.parametrize(
    "command, said",
    [
        (("next-item", "{data}", "--settings", "{folder}/chosen.json"), "the validation part is learned"),
        (("replay", "{data}"), "nothing was chosen on these data"),
        (("replay", "{data}", "--fit-blend", "-f", "{folder}"), "the validation part is learned"),
        (("learning", "{data}", "--windows", "3"), "nothing was chosen on these data"),
        (("model", "{data}", "popular", "--map", "user_id=user_id"), "the validation part is learned"),
    ],
)
def test_every_report_says_what_it_can_be_compared_with(command, said, data, tmp_path, monkeypatch, capfd):
    """Whether the last item may be recommended, and whether what was chosen on is learned."""
    monkeypatch.chdir(tmp_path)
    words = [each.format(data=data, folder=tmp_path) for each in command]
    with pytest.raises(SystemExit) as left:
        main(["evaluate", *words])
    found = capfd.readouterr()
    assert left.value.code == 0, found.err
    text = " ".join(f"{found.out} {found.err}".split())
    assert "the last item is never recommended" in text
    assert said in text
