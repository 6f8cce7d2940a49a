"""Click models on the sample of the Open Bandit data set: trees and FTRL beside scikit-learn's logistic regression.

The sample is the folder ``obp/dataset/obd`` of the wheel ``obp`` (zr-obp, Saito et al., NeurIPS 2021): three campaigns
shown by two policies, 10,000 rows each. All six are one log, ordered by time: the first 60 % are fitted on, settings
are chosen by the log loss of the next 20 %, each model is fitted again on both and the last 20 % are asked once.

Usage: open_bandit.py FOLDER
"""

import itertools
import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import FtrlOptions, fit_ftrl
from midstream.models.rows.lambdamart import LambdaMartOptions, fit_lambdamart

RESAMPLES = 2_000


def read_log(folder):
    """Return the columns of one log: time in µs, clicks, propensities, and what is known of each row by name."""
    name = folder.name
    log = pyarrow.csv.read_csv(folder / f"{name}.csv")
    items = pyarrow.csv.read_csv(folder / "item_context.csv").sort_by("item_id")
    item = log["item_id"].to_numpy()
    affinity = np.stack([log[each].to_numpy() for each in log.column_names if "affinity" in each], axis=1)
    known = {
        "campaign": np.full(len(item), name),
        "position": log["position"].to_numpy().astype(str),
        "affinity": affinity[np.arange(len(item)), item],
        "affinity_sum": affinity.sum(axis=1),
        "item_number": items["item_feature_0"].to_numpy()[item],
        **{f"item_{n}": np.array(items[f"item_feature_{n}"].to_pylist())[item] for n in (1, 2, 3)},
        **{f"user_{n}": np.array(log[f"user_feature_{n}"].to_pylist()) for n in range(4)},
    }
    time = pc.cast(log["timestamp"], pa.timestamp("us", tz="UTC")).to_numpy().astype("datetime64[us]").astype(np.int64)
    return time, log["click"].to_numpy(), log["propensity_score"].to_numpy(), known


def read_examples(root):
    """Return all rows by time; a column for each number and for each value of a category that 100 rows have."""
    logs = [read_log(path.parent) for path in sorted(root.glob("*/*/item_context.csv"))]
    time, click, propensity = (np.concatenate([log[n] for log in logs]) for n in range(3))
    names, columns = [], []
    for name in logs[0][3]:
        values = np.concatenate([log[3][name] for log in logs])
        if values.dtype.kind == "f":
            names.append(name)
            columns.append(values)
            continue
        for value, count in zip(*np.unique(values, return_counts=True), strict=True):
            if count >= 100:
                names.append(f"{name}={value[:6]}")
                columns.append(values == value)
    order = np.argsort(time, kind="stable")
    values = np.stack(columns, axis=1).astype(np.float32)[order]
    plain = Examples.of_rows(names, values, click[order].astype(np.float32))
    return Examples(
        plain.names, values, plain.start, plain.label, time[order] // 1_000, plain.weight, plain.position,
        propensity[order].astype(np.float32),
    )  # fmt: skip


def logistic(examples, c):
    """Return what scikit-learn's logistic regression says of values, standardised."""
    scaler = StandardScaler().fit(examples.values)
    model = LogisticRegression(C=c, max_iter=2_000).fit(scaler.transform(examples.values), examples.label > 0)
    return lambda values: model.predict_proba(scaler.transform(values))[:, 1]


def trials():
    """Return by method the settings that are tried and what fits with them."""
    grid = ((0.01, 0.03, 0.1, 0.3), (0.0, 1.0, 3.0), (1.0, 30.0), (1, 8), (1, 3))
    ftrl = [
        FtrlOptions(alpha=alpha, l1=l1, l2=l2, bins=bins, passes=passes)
        for alpha, l1, l2, bins, passes in itertools.product(*grid)
    ]
    base = LambdaMartOptions(objective="binary", later_share=0.0)
    trees = [
        msgspec.structs.replace(base, trees_max=t, leaves_max=leaves, learning_rate=0.02, leaf_rows_min=rows, l2=l2)
        for t, leaves, rows, l2 in itertools.product((25, 50, 100, 200), (3, 7), (100, 400), (1.0, 30.0))
    ]
    return {
        "FTRL": (ftrl, lambda examples, options: fit_ftrl(examples, options).score),
        "LightGBM binary, our kernel": (trees, lambda examples, options: fit_lambdamart(examples, options).score),
        "logistic regression, scikit-learn": ([10.0**n for n in range(-6, 2)], logistic),
    }


def interval(clicked, score):
    """Return the 2.5 % and 97.5 % quantiles of the AUC over resampled rows."""
    dice = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        rows = dice.integers(0, len(score), len(score))
        if clicked[rows].any():
            found.append(roc_auc_score(clicked[rows], score[rows]))
    return [round(float(each), 4) for each in np.quantile(found, (0.025, 0.975))]


def run(root):
    """Return figures by method."""
    examples = read_examples(root)
    count = len(examples)
    fitted, judged, both, asked = (
        examples.take(np.arange(*map(int, part)))
        for part in ((0, 0.6 * count), (0.6 * count, 0.8 * count), (0, 0.8 * count), (0.8 * count, count))
    )
    clicked = asked.label > 0
    share = np.full(len(asked), (both.label > 0).mean())
    found = {
        "rows and clicks": [[len(each), int(each.label.sum())] for each in (fitted, judged, asked)],
        "columns": len(examples.names),
        "the share of clicks": {"log_loss": round(log_loss(clicked, share), 5), "auc": 0.5},
    }
    for name, (settings, fit) in trials().items():
        losses = [log_loss(judged.label > 0, fit(fitted, each)(judged.values)) for each in settings]
        best = settings[int(np.argmin(losses))]
        score = np.asarray(fit(both, best)(asked.values), dtype=np.float64)
        found[name] = {
            "settings": msgspec.to_builtins(best),
            "tried": len(settings),
            "validation_log_loss": round(min(losses), 5),
            "log_loss": round(log_loss(clicked, score), 5),
            "auc": round(roc_auc_score(clicked, score), 4),
            "auc_interval": interval(clicked, score),
            "calibration": round(float(score.sum() / clicked.sum()), 3),
        }
    return found


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1])), indent=2))
