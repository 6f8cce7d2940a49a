"""What ranx makes of lists, and scikit-learn of probabilities: run by a Python of its own that has both.

``python ranx_peer FOLDER`` reads ``lists.json`` (lists, right items, cuts, labels, probabilities) and writes
``values.json``: metric → one number a list, and the two figures of the probabilities.
"""

import json
import sys
from pathlib import Path

from ranx import Qrels, Run, evaluate
from sklearn.metrics import log_loss, roc_auc_score

NAMES = {
    "HR": "hit_rate",
    "recall": "recall",
    "precision": "precision",
    "NDCG": "ndcg",
    "MRR": "mrr",
    "MAP": "map",
}


def main(folder):
    """Read what was asked and write the answers."""
    asked = json.loads((folder / "lists.json").read_text())
    # ranx sorts the questions' names as text.
    names = [f"q{number:06}" for number in range(len(asked["lists"]))]
    right = {name: {str(item): 1 for item in items} for name, items in zip(names, asked["wanted"], strict=True)}
    lists = {
        name: {str(item): float(len(items) - place) for place, item in enumerate(items)}
        for name, items in zip(names, asked["lists"], strict=True)
    }
    metrics = [f"{theirs}@{k}" for theirs in NAMES.values() for k in asked["cuts"]]
    found = evaluate(Qrels(right), Run(lists), metrics, return_mean=False)
    values = {
        f"{ours}@{k}": [float(each) for each in found[f"{theirs}@{k}"]]
        for ours, theirs in NAMES.items()
        for k in asked["cuts"]
    }
    values["AUC"] = float(roc_auc_score(asked["label"], asked["probability"]))
    values["log loss"] = float(log_loss(asked["label"], asked["probability"]))
    (folder / "values.json").write_text(json.dumps(values))


main(Path(sys.argv[1]))
