"""Implicit ALS beside implicit and irspack, in one run: seconds of a fit, Recall@20 and NDCG@20 on Gowalla's test part.

    python benchmarks/als.py --peers ENV/bin/python

The peers run in an environment of their own, each in a process of its own, with two threads as here; their vectors
come back in a file, and all are ranked by the same code. Here users are solved for from their history, as a request
does; theirs are those of the fit. With ``--epochs 16`` all fit the same loss for the same time but implicit, which has
no regularization by frequency. CPU time is what a fit takes of a machine that others use too.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.sparse import load_npz

from benchmarks.quality.data_folder import data_folder
from midstream.models.histories import Histories, Interactions
from midstream.models.items.als import AlsOptions, fit_als
from midstream.models.kernels.top_n import top_n
from midstream.models.vocabulary import ItemVocabulary

K = 20
PEER = """
import sys, time
import numpy as np
from scipy.sparse import load_npz
name, path, out, d, epochs, weight, ridge = sys.argv[1:]
d, epochs, weight, ridge = int(d), int(epochs), float(weight), float(ridge)
matrix = load_npz(path).tocsr().astype(np.float32)
if name == "irspack":
    from irspack import IALSRecommender
else:
    from implicit.als import AlternatingLeastSquares
wall, cpu = time.perf_counter(), time.process_time()
if name == "irspack":
    model = IALSRecommender(matrix, n_components=d, alpha0=weight, reg=ridge, train_epochs=epochs, n_threads=2)
    model.learn()
    users, items = model.get_user_embedding(), model.get_item_embedding()
else:
    model = AlternatingLeastSquares(
        factors=d, regularization=1.0, alpha=1 / weight, iterations=epochs, num_threads=2, random_state=1
    )
    model.fit(matrix, show_progress=False)
    users, items = model.user_factors, model.item_factors
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
np.savez(out, users=users, items=items, seconds=[wall, cpu])
"""


class Vectors:
    """Vectors of a fit as a model that is ranked with."""

    def __init__(self, data, users, items):
        self.vocabulary, self.users, self.items = data.vocabulary, np.float32(users), np.float32(items)

    def item_vectors(self):
        return self.items

    def history_vectors(self, histories):
        assert len(histories) == len(self.users)
        return self.users


def worth(model, data, test):
    """Recall@20 and NDCG@20 over all users, all items ranked but those of train."""
    lists = top_n(model, data.histories, K, data.histories)
    right = np.zeros(lists.shape)
    for user, best in enumerate(lists):
        right[user] = np.isin(best, test.indices[test.indptr[user] : test.indptr[user + 1]])
    count = np.diff(test.indptr)
    gain = 1 / np.log2(np.arange(2, K + 2))
    ideal = np.cumsum(gain)[np.minimum(count, K) - 1]
    return float((right.sum(1) / count).mean()), float((right @ gain / ideal).mean())


def ours(data, options):
    """A fit here, with its seconds of the clock and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    model = fit_als(data, options)
    return model, time.perf_counter() - wall, time.process_time() - cpu


def theirs(python, name, path, data, options):
    """The same of a peer."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/out.npz"
        numbers = (options.factors, options.iterations, options.unobserved_weight, options.regularization)
        # A BLAS with threads of its own is in their way; both say so themselves.
        settings = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        command = [python, "-c", PEER, name, str(path), out, *map(str, numbers)]
        subprocess.run(command, check=True, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = np.load(out)
        return Vectors(data, found["users"], found["items"]), *found["seconds"]


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="the Python of an environment with implicit and irspack")
    parser.add_argument("--factors", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--regularization", type=float, default=0.003)
    parser.add_argument("--unobserved-weight", type=float, default=0.01)
    told = parser.parse_args()
    folder = data_folder(os.environ, Path(__file__).parents[1])
    if folder is None:
        sys.exit("there is no folder of data sets")
    path = folder / "gowalla-lightgcn" / "train.npz"
    train, test = load_npz(path).tocsr(), load_npz(path.with_name("test.npz")).tocsr()
    histories = Histories(train.indices, np.ones(train.nnz, dtype=np.float32), train.indptr.astype(np.int64))
    data = Interactions(ItemVocabulary.of([str(item) for item in range(train.shape[1])]), histories)
    fit_als(Interactions(data.vocabulary, histories.part(0, 9)), AlsOptions(iterations=1))
    for factors in told.factors:
        options = AlsOptions(
            factors=factors,
            iterations=told.epochs,
            regularization=told.regularization,
            unobserved_weight=told.unobserved_weight,
        )
        fits = {"here": lambda options=options: ours(data, options)}
        for name in ("irspack", "implicit") if told.peers else ():
            fits[name] = lambda name=name, options=options: theirs(told.peers, name, path, data, options)
        for name, fit in fits.items():
            model, wall, cpu = fit()
            recall, ndcg = worth(model, data, test)
            said = f"{wall:6.1f} s, {cpu:6.1f} s of CPU, Recall@{K} {recall:.4f}, NDCG@{K} {ndcg:.4f}"
            print(f"d = {factors:3} {told.epochs:3} epochs {name:9} {said}", flush=True)


if __name__ == "__main__":
    main()
