"""Rankers from elsewhere in service: imported by a command, promoted, and answering with the graph's own numbers."""

import sys
from pathlib import Path

import numpy as np
import pytest

from midstream.app.opening import config_of, open_shop
from midstream.app.operate.model_registry import promote, registry_of
from midstream.cli.app import main
from midstream.core.errors import ExtraMissing, ModelUnfit
from midstream.engine.instance import Instance
from tests.support.fakes.models import run_folder, write_ranked
from tests.support.small_graphs import linear, logistic

WEIGHTS = np.array([[0.5], [-0.25]], dtype=np.float32)
FEATURES = ("carts", "views")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder whose placement is ranked by ``ranker``, with events, and ``ranker.onnx`` in it."""
    write_ranked(tmp_path, FEATURES)
    (tmp_path / "ranker.onnx").write_bytes(linear(("n", 2), weights=WEIGHTS))
    with open_shop(tmp_path) as opened:
        opened.record(
            [
                {"type": kind, "user_id": f"u{number % 3}", "item_id": f"item-{number % 4}"}
                for number, kind in enumerate(["view", "cart", "view", "view", "cart", "view", "view"] * 3)
            ]
        )
    return tmp_path


def call(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int | str | None, str]:
    """Return exit status and output of a command."""
    with pytest.raises(SystemExit) as left:
        main([*words])
    said = capfd.readouterr()
    return left.value.code, said.out + said.err


def bring(shop: Path, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int | str | None, str]:
    """Import the file; return exit status and output."""
    return call(capfd, "models", "import", str(shop / "ranker.onnx"), *words, "-f", str(shop))


def test_a_file_is_imported_promoted_and_answers(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Scores are the graph's, of the columns as they are served, in the order that the command names."""
    status, said = bring(shop, capfd, "--name", "ranker", "--columns", "carts, views")
    assert status == 0, said
    assert call(capfd, "models", "promote", "ranker", "-f", str(shop))[0] == 0
    with open_shop(shop) as opened:
        answer = opened.recommend("home", user_id="ann", n=4)
        values = opened.features([each.id for each in answer.items], features=list(FEATURES))
    assert answer.tier == "full"
    assert answer.models["ranker"] == said.split()[1]
    columns = dict(zip(values.names, np.array(values.values, dtype=np.float32).T, strict=True))
    told = np.stack([columns[name] for name in FEATURES], axis=1)
    assert np.abs(np.array([each.score for each in answer.items]) - logistic(told, WEIGHTS)).max() < 1e-6
    status, said = call(capfd, "models", "compare", "ranker", "-f", str(shop))
    assert "runner" in said
    assert "onnxruntime" in said


def test_what_does_not_fit_is_refused_with_the_column(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By the import where the file says so, by the promotion where the placement has no such column."""
    status, said = bring(shop, capfd, "--name", "ranker")
    assert (status, '"rows" takes 2 columns without their names' in " ".join(said.split())) == (1, True)
    status, said = bring(shop, capfd, "--name", "ranker", "--columns", "carts")
    assert (status, "takes 2 columns, and 1 came: carts" in " ".join(said.split())) == (1, True)
    assert bring(shop, capfd, "--name", "ranker", "--columns", "carts,veiws")[0] == 0
    with pytest.raises(ModelUnfit, match=r'reads "veiws", which this placement does not have\. Nearest: "views"'):
        promote(shop, config_of(shop), "ranker")


def test_without_the_runner_the_next_scorer_answers_and_health_says_so(
    shop: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a model that has no version: the blend answers, and the concern names what to install."""
    bring(shop, capfd, "--name", "ranker", "--columns", "carts,views")
    promote(shop, config_of(shop), "ranker")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with open_shop(shop) as opened:
        answer = opened.recommend("home", user_id="ann", n=4)

    async def concerns(running: Instance) -> str:
        return running.engine.concerns["models"]

    concern = run_folder(shop, concerns)
    assert len(answer.items) == 4
    assert answer.models == {}
    assert "midstream[onnx]" in concern
    assert "in service: none" in concern
    with pytest.raises(ExtraMissing, match=r"midstream\[onnx\]"):
        registry_of(shop).load("ranker", registry_of(shop).find("ranker"))
