"""Rankers judged on files of examples: the same rows and figures as of a training, and what parts two of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.app.test_going_on import day
from tests.app.timed import HOUR_MS

from midstream.app.as_of import Past
from midstream.app.evaluating import EvaluationOptions
from midstream.app.examples import write_served_examples
from midstream.app.fitting import Fitting, model_named, question_of
from midstream.app.inspection import LogView
from midstream.app.judging import JudgingOptions, judge_models
from midstream.app.judging_rows import RankerOptions, judge_rankers
from midstream.app.ranker_data import ranker_rows
from midstream.app.replay_examples import ReplayWanted, write_replay_examples
from midstream.app.running import config_of
from midstream.cli.app import main
from midstream.core.errors import Invalid, NotFound
from midstream.models.ftrl import FtrlOptions, fit_ftrl
from midstream.training.calibrating import calibrated
from midstream.training.validation import row_validation_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of two days, an hour between two slates, and its examples."""
    place = tmp_path_factory.mktemp("shop")
    for number in range(2):
        day(place, number)
    write_served_examples(place, "..", place / "served.parquet")
    return place


def test_figures_are_those_of_the_rows_of_a_training(folder: Path) -> None:
    """The last slate of the file ends it, so what is less than the window before it is too young; then the gap."""
    config = config_of(folder)
    asked = question_of(Fitting(folder, config, "clicks", 1), model_named(config, "clicks"), LogView(folder))
    every = ranker_rows(Past(folder, config), replace(asked, mature_ms=None)).examples
    newest = int(every.time_ms.max())
    rows = ranker_rows(Past(folder, config), replace(asked, mature_ms=newest - 3 * HOUR_MS)).examples
    earlier, later = rows.split(0.25, 3 * HOUR_MS)
    options = FtrlOptions(alpha=0.2)
    model = fit_ftrl(earlier, options)
    line = calibrated(model, later, is_probability=True)
    wanted = {**row_validation_of(model, later, is_probability=True), **line.metrics}
    report = judge_rankers(folder / "served.parquet", "ftrl", RankerOptions({"alpha": "0.2"}, share=0.25), folder)
    (ours,) = report.rankers
    assert ours.metrics == wanted
    assert (report.learned, report.between) == (len(earlier.time_ms), len(rows.time_ms) - len(earlier.time_ms) - 9)
    assert report.left_out == {"slates_younger_than_the_outcome_window": 3}
    assert sum(each.count for each in ours.reliability) == len(later)
    assert str(ours.calibrated) == str(line.bins), "bins without rows are NaN"
    assert sum(each.count for each in line.bins) == len(later.split(0.5)[1])
    assert ours.options["alpha"] == 0.2
    # Of 37 slates 7 are asked about, and 2 are less than three hours before them.
    assert judge_rankers(folder / "served.parquet", "ftrl", RankerOptions(placement="home"), folder).learned == 28
    with pytest.raises(Invalid, match="0 requests to learn from"):
        judge_rankers(folder / "served.parquet", "ftrl", RankerOptions(placement="elsewhere"), folder)


def test_two_rankers_are_compared_request_by_request(folder: Path) -> None:
    """One against itself is no better; a second one has its defaults."""
    path = folder / "served.parquet"
    same = judge_rankers(path, "ftrl", RankerOptions(against="ftrl"), folder).ndcg_difference
    assert same is not None
    assert (same.mean, same.p_value) == (0.0, 1.0)
    report = judge_rankers(path, "ftrl", RankerOptions({"alpha": "0.9"}, against="ftrl"), folder)
    first, second = (each.metrics["NDCG@10"] for each in report.rankers)
    assert report.ndcg_difference is not None
    assert report.ndcg_difference.mean == pytest.approx((first or 0.0) - (second or 0.0))
    assert set(report.builtins()["rankers"][0]) == {"kind", "options", "metrics", "reliability", "calibrated"}  # type: ignore[index]


def test_a_replay_is_named_as_one(folder: Path, tmp_path: Path) -> None:
    """Its rows were not served: figures are of candidates, and nothing is too young."""
    write_replay_examples(folder, ReplayWanted("home", candidates_max=8), tmp_path / "replay.arrow")
    report = judge_rankers(tmp_path / "replay.arrow", "ftrl", RankerOptions(), folder)
    assert report.is_replay
    assert report.left_out == {}
    assert report.rankers[0].metrics["sampled.NDCG@10"] is not None
    assert report.rankers[0].metrics["sampled.blend.NDCG@10"] is not None


def test_what_is_no_file_of_examples_says_so(folder: Path, tmp_path: Path) -> None:
    """Nor is there a ranker of that name, nor one among the item models."""
    pq.write_table(pa.table({"x": np.arange(3)}), tmp_path / "other.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    for name in ("other.parquet", "torn.parquet"):
        with pytest.raises(Invalid, match="that midstream examples wrote"):
            judge_rankers(tmp_path / name, "ftrl", RankerOptions(), folder)
    with pytest.raises(NotFound):
        judge_rankers(tmp_path / "gone.parquet", "ftrl", RankerOptions(), folder)
    with pytest.raises(Invalid, match='Nearest: "ftrl"'):
        judge_rankers(folder / "served.parquet", "ftl", RankerOptions(), folder)
    with pytest.raises(Invalid, match="midstream evaluate ranker"):
        judge_models("acts.csv", "ftrl", JudgingOptions(), EvaluationOptions(), print)


def test_the_command_prints_figures_and_calibration(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Predicted beside observed; or all of it as JSON."""
    for extra, said in (("--against=ftrl", "NDCG, ftrl less ftrl"), ("--json", '"reliability"')):
        with pytest.raises(SystemExit) as left:
            main(["evaluate", "ranker", str(folder / "served.parquet"), "ftrl", extra, "-f", str(folder)])
        found = capfd.readouterr()
        assert left.value.code == 0, found.err
        text = " ".join(f"{found.out} {found.err}".split())
        assert said in text
        assert "predicted" in text
