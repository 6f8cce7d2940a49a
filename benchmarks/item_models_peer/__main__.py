"""Lists of the libraries that a user would take instead: run by a Python of its own that has some of them.

``python item_models_peer FOLDER`` reads ``train.npz`` (users × items, 0 and 1) and ``options.json``, fits each model of
the libraries that this Python has, and writes for each ``NAME.npz``: the 20 best items of every user that are not in
train, -1 where there are fewer, and the seconds of processor time of its fit. irspack and RecTools want different
releases of NumPy, so each has an environment of its own.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy.sparse import load_npz

K = 20
BLOCK = 512


def best_of_scores(train, score_of):
    """Rank all items but those of train, block by block."""
    lists = np.empty((train.shape[0], K), dtype=np.int32)
    for begin in range(0, train.shape[0], BLOCK):
        end = min(begin + BLOCK, train.shape[0])
        scores = np.asarray(score_of(begin, end), dtype=np.float32)
        scores[train[begin:end].nonzero()] = -np.inf
        top = np.argpartition(-scores, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
        lists[begin:end] = np.take_along_axis(top, order, axis=1)
    return lists


def irspack_model(train, name, options):
    """Fit a recommender of irspack; it scores a block of users at once."""
    from irspack import IALSRecommender, RP3betaRecommender

    kind = {"IALS": IALSRecommender, "RP3beta": RP3betaRecommender}[name]
    model = kind(train, **options).learn()
    return lambda: best_of_scores(train, model.get_score_block)


def implicit_als(train, options):
    """Fit ALS of implicit."""
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(**options)
    model.fit(train, show_progress=False)
    users = np.arange(train.shape[0])
    return lambda: model.recommend(users, train, N=K, filter_already_liked_items=True)[0]


def rectools_pure_svd(train, options):
    """Fit PureSVD of RecTools."""
    import pandas as pd
    from rectools.dataset import Dataset
    from rectools.models import PureSVDModel

    acts = train.tocoo()
    when = pd.Timestamp("2020-01-01")
    table = pd.DataFrame({"user_id": acts.row, "item_id": acts.col, "weight": 1.0, "datetime": when})
    data = Dataset.construct(table)
    model = PureSVDModel(**options).fit(data)

    def ranked():
        found = model.recommend(users=np.unique(acts.row), dataset=data, k=K, filter_viewed=True)
        lists = np.full((train.shape[0], K), -1, dtype=np.int32)
        lists[found["user_id"].to_numpy(), found["rank"].to_numpy() - 1] = found["item_id"].to_numpy()
        return lists

    return ranked


FITS = {
    "irspack RP3beta": ("irspack", lambda train, options: irspack_model(train, "RP3beta", options)),
    "irspack iALS": ("irspack", lambda train, options: irspack_model(train, "IALS", options)),
    "implicit ALS": ("implicit", implicit_als),
    "RecTools PureSVD": ("rectools", rectools_pure_svd),
}


def main(folder):
    """Fit what is there and write its lists."""
    train = load_npz(folder / "train.npz").tocsr().astype(np.float32)
    for name, options in json.loads((folder / "options.json").read_text()).items():
        library, fit = FITS[name]
        if importlib.util.find_spec(library) is None or (folder / f"{name}.npz").exists():
            continue
        began = time.process_time()
        ranked = fit(train, options)
        seconds = time.process_time() - began
        np.savez(folder / f"{name}.npz", lists=ranked(), seconds=seconds)
        print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)


main(Path(sys.argv[1]))
