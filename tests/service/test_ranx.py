"""Metrics beside those of ranx and scikit-learn, on random lists and probabilities: equal to 1e-9.

Needs a Python that has ``ranx`` and ``scikit-learn``, in an environment of its own so that neither decides versions of
the other. ``MIDSTREAM_RANX_PYTHON`` names it. Where it names none this skips, in CI too: only where it is set are they
meant to be there, and what is wrong with them fails here then.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from midstream.evaluation.metrics.click_metrics import auc, log_losses
from midstream.evaluation.metrics.list_metrics import ACCURACY, RelevantItems, hits_of

pytestmark = [pytest.mark.service, pytest.mark.timeout(600)]
PYTHON_VARIABLE = "MIDSTREAM_RANX_PYTHON"
PEER = Path(__file__).parents[2] / "benchmarks" / "ranx_peer"
ITEMS, QUESTIONS, LENGTH, CUTS = 300, 400, 30, (1, 3, 10, 30)


@pytest.fixture(scope="module")
def python():
    """The interpreter of the peers' environment."""
    found = os.environ.get(PYTHON_VARIABLE)
    if not found:
        pytest.skip(f"{PYTHON_VARIABLE} names no Python that has ranx")
    return found


def test_values_equal_those_of_kept_libraries(python, tmp_path):
    """Lists of 1 to 30 items with 1 to 50 right ones each, at four cuts; 5,000 probabilities with ties."""
    random = np.random.default_rng(7)
    lists = [random.permutation(ITEMS)[: random.integers(1, LENGTH + 1)].tolist() for _ in range(QUESTIONS)]
    wanted = [random.permutation(ITEMS)[: random.integers(1, 51)].tolist() for _ in range(QUESTIONS)]
    probability = np.round(random.random(5_000), 3)
    label = random.random(5_000) < probability
    asked = {"lists": lists, "wanted": wanted, "cuts": CUTS, "label": label.tolist()}
    (tmp_path / "lists.json").write_text(json.dumps({**asked, "probability": probability.tolist()}))
    subprocess.run([python, str(PEER), str(tmp_path)], check=True, timeout=540)
    theirs = json.loads((tmp_path / "values.json").read_text())
    filled = np.array([each + [-1] * (LENGTH - len(each)) for each in lists], dtype=np.int32)
    right = RelevantItems.of(wanted)
    ours = {
        f"{name}@{k}": metric(hits_of(filled, right), right.counts, k)
        for name, metric in ACCURACY.items()
        for k in CUTS
    }
    far = {name: float(np.abs(each - theirs[name]).max()) for name, each in ours.items()}
    far["AUC"] = abs(auc(label, probability) - theirs["AUC"])
    far["log loss"] = abs(float(log_losses(label, probability).mean()) - theirs["log loss"])
    print(f"\nfurthest apart: {max(far.values()):.1e}; {far}")
    assert all(len(np.unique(each)) > 1 for each in ours.values())
    assert max(far.values()) < 1e-9
