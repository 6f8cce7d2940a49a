"""Sources, models and rankers judged on tables: the figures of the commands, from any frame, and nothing written."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import midstream
from midstream.app.evaluation.frames import SCHEMA
from midstream.app.evaluation.item_models import JudgingOptions, item_data_of, judge_models
from midstream.app.evaluation.placements import (
    EvaluationOptions,
    evaluate_next_item,
    interactions_of,
    sessions_of,
)
from midstream.app.evaluation.rankers import RankerOptions, judge_rankers
from midstream.app.point_in_time.served_examples import write_served_examples
from midstream.core.errors import Invalid
from tests.app.training.test_warm_start import day

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in; a test that left a file there fails."""
    place = tmp_path / "notebook"
    place.mkdir()
    monkeypatch.chdir(place)
    yield place
    assert not list(place.iterdir())


def acts(count: int = 600) -> Any:
    """600 acts of 30 users on 25 items, some far more popular, a minute apart."""
    dice = np.random.default_rng(5)
    rows = [
        {
            "user_id": f"u{dice.integers(30)}",
            "item_id": f"i{int(25 * dice.random() ** 3)}",
            "time": 1_700_000_000_000 + 60_000 * at,
        }
        for at in range(count)
    ]
    return pa.Table.from_pylist(rows)


def means(table: Any, method: str) -> dict[str, float]:
    """Return the figures of a method by name."""
    return {row["figure"]: row["mean"] for row in table.to_pylist() if row["method"] == method}


def test_two_models_have_the_figures_of_the_command(tmp_path: Path) -> None:
    """Means, intervals, segments and differences, with options as they are in Python."""
    pyarrow.csv.write_csv(acts(), tmp_path / "acts.csv")
    data = item_data_of(
        interactions_of(str(tmp_path / "acts.csv"), EvaluationOptions({"user_id": "user_id"})), "temporal"
    )
    told = JudgingOptions({"regularization": "7"}, "popular", folder=tmp_path)
    judged = judge_models(data, "ease", told, lambda _text: None)
    table = midstream.evaluate_model(tmp_path, "ease", acts(), options={"regularization": 7.0}, against="popular")
    assert table.schema == SCHEMA
    for report in judged.reports:
        found = means(table, report.model)
        assert {name: found[name] for name in report.metrics} == {
            name: each.mean for name, each in report.metrics.items()
        }
        assert found["coverage"] == report.coverage
        assert len(found) == len(report.metrics) + 1 + sum(len(each.metrics) for each in report.segments)
    (first,) = [row for row in table.to_pylist() if (row["method"], row["figure"]) == ("ease", "NDCG@20")]
    less = judged.differences["NDCG@20"]
    assert (first["difference"], first["difference_high"]) == (less.mean, less.high)
    assert first["low"] <= first["mean"] <= first["high"]
    assert first["questions"] == judged.reports[0].questions


def test_a_protocol_of_several_windows_is_chosen_by_name(tmp_path: Path) -> None:
    """It asks about more than the last one."""
    one, many = (
        midstream.evaluate_model(tmp_path, "popular", acts(), protocol=name).to_pylist()[0]["questions"]
        for name in ("temporal", "rolling")
    )
    assert many > one


def test_a_source_has_the_figures_of_the_command(tmp_path: Path) -> None:
    """On the last sessions, with options that are chosen before; no settings file of it remains."""
    pyarrow.csv.write_csv(acts(), tmp_path / "acts.csv")
    options = EvaluationOptions({"user_id": "user_id"}, source="covisitation")
    data = sessions_of(str(tmp_path / "acts.csv"), options)
    report = evaluate_next_item(data, tmp_path / "settings.json", options, lambda _text: None)
    table = midstream.evaluate_next_item(tmp_path, acts(), source="covisitation")
    assert means(table, "covisitation") == {
        "HR@20": report.hit_rate.mean,
        "MRR@20": report.mrr.mean,
        "NDCG@20": report.ndcg.mean,
        "precision@20": report.precision.mean,
        "recall@20": report.recall.mean,
        "coverage": report.coverage,
    }
    assert set(table.column("questions").to_pylist()) == {report.questions}


def test_rankers_have_the_figures_of_the_command(tmp_path: Path) -> None:
    """On the examples of the folder, of a file, and of a frame whose times have another unit."""
    shop = tmp_path / "shop"
    shop.mkdir()
    for number in range(2):
        day(shop, number)
    write_served_examples(shop, "..", tmp_path / "served.parquet")
    told = RankerOptions({"alpha": "0.2"}, "logistic_regression", share=0.25)
    report = judge_rankers(tmp_path / "served.parquet", "ftrl", told, shop)
    file = pq.read_table(tmp_path / "served.parquet")
    at = file.schema.get_field_index("time")
    turned = file.set_column(at, "time", file.column("time").cast(pa.timestamp("ns", "UTC")))
    for examples in (None, file, turned):
        table = midstream.evaluate_ranker(
            shop, "ftrl", examples, options={"alpha": 0.2}, against="logistic_regression", share=0.25
        )
        for each in report.rankers:
            assert means(table, each.kind) == {
                name: value for name, value in each.metrics.items() if name not in {"requests", "rows"}
            }
            assert set(table.column("questions").to_pylist()) == {each.metrics["requests"]}
        compared = {row["figure"]: row["difference"] for row in table.to_pylist() if row["difference"] is not None}
        assert compared == {"NDCG@10": report.ndcg_difference and report.ndcg_difference.mean}


def test_a_log_is_asked_where_no_table_is_given(tmp_path: Path) -> None:
    """Its interactions, in their sessions."""
    with midstream.open(tmp_path) as shop:
        shop.record(
            [
                {"type": "view", "user_id": f"u{user}", "item_id": f"i{item}", "event_id": f"{user}-{item}"}
                for user in range(12)
                for item in range(user % 3, 6)
            ]
        )
    table = midstream.evaluate_next_item(tmp_path)
    assert table.schema == SCHEMA
    assert set(table.column("questions").to_pylist()) == {5}


def test_faults_name_the_arguments_of_python(tmp_path: Path) -> None:
    """And not the options of the commands."""
    nothing = pa.table({"time": pa.array([datetime.now(UTC)])})
    asked: list[tuple[Any, str]] = [
        (lambda: midstream.evaluate_next_item(tmp_path, acts(), source="session_kn"), "source"),
        (lambda: midstream.evaluate_next_item(tmp_path, 7), "interactions"),
        (lambda: midstream.evaluate_next_item(tmp_path, nothing), "interactions"),
        (lambda: midstream.evaluate_model(tmp_path, "eese", acts()), "kind"),
        (lambda: midstream.evaluate_model(tmp_path, "ease", acts(), protocol="temporl"), "protocol"),
        (lambda: midstream.evaluate_model(tmp_path, "ease", acts(), options={"lambda": 1}), "options.lambda"),
        (lambda: midstream.evaluate_ranker(tmp_path, "tree", nothing), "kind"),
        (lambda: midstream.evaluate_ranker(tmp_path, "ftrl", nothing), "examples"),
        (lambda: midstream.evaluate_ranker(tmp_path, "ftrl", "no frame"), "examples"),
    ]
    for ask, where in asked:
        with pytest.raises(Invalid) as caught:
            ask()
        assert {each.where for each in caught.value.faults} == {where}
