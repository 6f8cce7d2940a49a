"""Rankers judged on files of examples: the same rows and figures as of a training, and what parts two of them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midstream.app.evaluation.item_models import JudgingOptions, item_data_of, judge_models
from midstream.app.evaluation.placements import EvaluationOptions, interactions_of
from midstream.app.evaluation.rankers import RankerOptions, difference_of, judge_rankers
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import config_of
from midstream.app.point_in_time.lookup import Past
from midstream.app.point_in_time.replay_examples import ReplayWanted, write_replay_examples
from midstream.app.point_in_time.served_examples import write_served_examples
from midstream.app.training.fit import Fitting, model_named, question_of
from midstream.app.training.ranker_data import ranker_rows, rows_of_groups
from midstream.cli.app import main
from midstream.core.errors import Invalid, NotFound
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import FtrlOptions, fit_ftrl
from midstream.training.calibrating import calibrated
from midstream.training.validation import row_validation_of
from tests.app.timed import HOUR_MS
from tests.app.training.test_warm_start import day


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


def test_two_rankers_are_compared_on_the_same_requests(folder: Path) -> None:
    """One against itself is no better; a second one has its defaults."""
    path = folder / "served.parquet"
    same = judge_rankers(path, "ftrl", RankerOptions(against="ftrl"), folder).ndcg_difference
    assert same is not None
    assert (same.mean, same.p_value) == (0.0, 1.0)
    report = judge_rankers(path, "ftrl", RankerOptions({"alpha": "0.9"}, against="ftrl"), folder)
    first, second = (each.metrics["NDCG@10"] for each in report.rankers)
    assert report.ndcg_difference is not None
    assert report.ndcg_difference.mean == pytest.approx((first or 0.0) - (second or 0.0))
    assert set(msgspec.to_builtins(report)["rankers"][0]) == {"kind", "options", "metrics", "reliability", "calibrated"}


def by_column(at: int) -> Any:
    """A ranker that says of a row one of its features."""
    return SimpleNamespace(score=lambda values: values[:, at])


def test_worlds_without_a_difference_show_one_in_twenty() -> None:
    """Users come back, and one likes the first ranker better, another the second: by request one in three would do."""
    dice = np.random.default_rng(4)
    requests, size, users = 120, 5, 12
    count, alarms, worlds = requests * size, 0, 100
    for _ in range(worlds):
        owner = np.repeat(np.arange(users), requests // users)
        likes = np.repeat(dice.normal(0.0, 1.5, users)[owner], size)
        values = dice.normal(size=(count, 2)).astype(np.float32)
        label = np.zeros(count, dtype=np.float32)
        wanted = values[:, 0] * likes - values[:, 1] * likes + dice.normal(size=count)
        label[np.arange(requests) * size + wanted.reshape(requests, size).argmax(axis=1)] = 1
        rows = replace(
            Examples.of_rows(("one", "two"), values, label),
            start=np.arange(requests + 1, dtype=np.int64) * size,
            time_ms=np.arange(requests, dtype=np.int64),
            owner=owner.astype(np.uint64),
        )
        found = difference_of([by_column(0), by_column(1)], rows)
        assert found is not None
        alarms += found.p_value <= 0.05
    assert alarms / worlds <= 0.12


def test_requests_are_grouped_by_user_else_by_session() -> None:
    """As the file says; one of nobody stands for itself."""
    users = ["ann", "ann", "bob", None, None, None, None]
    sessions = ["s1", "s2", None, "s1", "s1", None, ""]
    columns: dict[str, Any] = {
        "group": range(7),
        "time": range(7),
        "label": [1.0] * 7,
        "user_id": users,
        "session_id": sessions,
    }
    batch = pa.RecordBatch.from_pydict(columns)
    owner = rows_of_groups(batch, ()).owner
    assert owner is not None
    first = {each: place for place, each in reversed(list(enumerate(owner.tolist())))}
    assert [first[each] for each in owner.tolist()] == [0, 0, 2, 3, 3, 5, 6]
    kept = rows_of_groups(batch, ()).split(0.5)[1].owner
    assert kept is not None
    assert kept.tolist() == owner[3:].tolist()


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
    acts = item_data_of(interactions_of("acts.csv", EvaluationOptions()), "temporal")
    with pytest.raises(Invalid, match="midstream evaluate ranker"):
        judge_models(acts, "ftrl", JudgingOptions(), print)


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
