"""SASRec of RecTools on sequences of users, leave-one-out: run by a Python of its own that has ``rectools[torch]``.

``python benchmarks/sequence_peer SEQUENCES.txt.gz --journal FILE --seconds 3600`` reads one user a line (its number,
then its items in order), trains on all but the last two items, and chooses among ``TRIALS`` and their epochs by
NDCG@10 of the item before the last, all items ranked but those of the query. The best of them is asked for the last
item of every user once, with the newest 20 before it as the query; HR@10 and NDCG@10 are printed with 95 % intervals
over users.

The journal holds a line a trial, so that a search goes on where it stopped. ``--sample`` chooses by that many users;
the last line is of all. Losses: softmax over drawn items, and gBCE (Petrov and Macdonald, RecSys 2023, gSASRec).
"""

import argparse
import gzip
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet

IDS = (IdEmbeddingsItemNet,)
"""Attributes are not read, as by the others."""
K = 10
EPOCHS_STEP, EPOCHS_MAX, PATIENCE = 5, 100, 2
"""Validated every so often; ended when so many validations in a row bring nothing."""
SHARED = {"session_max_len": 20, "batch_size": 128, "n_negatives": 64, "n_blocks": 2, "lr": 1e-3}
TRIALS = [
    {"loss": "sampled_softmax", "n_factors": 64, "n_heads": 2, "dropout_rate": 0.5},
    {"loss": "gBCE", "gbce_t": 0.75, "n_factors": 64, "n_heads": 2, "dropout_rate": 0.5},
    {"loss": "sampled_softmax", "n_factors": 128, "n_heads": 2, "dropout_rate": 0.5},
    {"loss": "gBCE", "gbce_t": 0.75, "n_factors": 128, "n_heads": 2, "dropout_rate": 0.5},
    {"loss": "sampled_softmax", "n_factors": 64, "n_heads": 2, "dropout_rate": 0.3},
    {"loss": "gBCE", "gbce_t": 0.9, "n_factors": 64, "n_heads": 2, "dropout_rate": 0.3},
    {"loss": "sampled_softmax", "n_factors": 128, "n_heads": 2, "dropout_rate": 0.7},
    {"loss": "gBCE", "gbce_t": 0.75, "n_factors": 128, "n_heads": 2, "dropout_rate": 0.3},
]


def sequences_of(path):
    """Return the items of each user, in order."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        return [[int(item) for item in line.split()[1:]] for line in file if line.strip()]


def dataset_of(sequences, item_count):
    """Return a data set of RecTools; users and items keep their numbers, and every item of the file is known."""
    user = np.repeat(np.arange(len(sequences)), [len(each) for each in sequences])
    item = np.concatenate([np.asarray(each) for each in sequences])
    place = np.concatenate([np.arange(len(each)) for each in sequences])
    when = pd.Timestamp("2020-01-01") + pd.to_timedelta(place, unit="min")
    table = pd.DataFrame({"user_id": user, "item_id": item, "weight": 1.0, "datetime": when})
    features = pd.DataFrame({"id": np.arange(1, item_count + 1), "feature": "known", "value": 1})
    return Dataset.construct(
        table, item_features_df=features, cat_item_features=["known"], make_dense_item_features=False
    )


def places_of(model, data, users, wanted):
    """Return the place of the wanted item in each user's list of K, 0-based, -1 = it is not there."""
    found = model.recommend(users=users, dataset=data, k=K, filter_viewed=True)
    found = found[found["item_id"].to_numpy() == wanted[found["user_id"].to_numpy()]]
    places = np.full(len(wanted), -1)
    places[found["user_id"].to_numpy()] = found["rank"].to_numpy() - 1
    return places[users]


def gains(places):
    """Return NDCG of one right item."""
    return np.where(places >= 0, 1 / np.log2(np.maximum(places, 0) + 2), 0.0)


def train(options, learned, validate, epochs_max, seed):
    """Train until validation gains nothing; return the best epoch, its worth and the model as it was then."""
    torch.manual_seed(seed)
    model = SASRecModel(**SHARED, **options, epochs=EPOCHS_STEP, item_net_block_types=IDS, recommend_torch_device="cpu")
    best, since, state = (0, -1.0), 0, {}
    for epoch in range(EPOCHS_STEP, epochs_max + 1, EPOCHS_STEP):
        model.fit_partial(learned, min_epochs=EPOCHS_STEP, max_epochs=EPOCHS_STEP)
        worth = validate(model)
        print(f"  epoch {epoch}: {worth:.5f}", file=sys.stderr, flush=True)
        if worth > best[1]:
            best, since = (epoch, worth), 0
            state = {name: value.clone() for name, value in model.torch_model.state_dict().items()}
        else:
            since += 1
            if since == PATIENCE:
                break
    model.torch_model.load_state_dict(state)
    return best, model


def interval(values, seed=1):
    """Return mean and 95 % bootstrap interval over users."""
    random = np.random.default_rng(seed)
    means = [values[random.integers(0, len(values), len(values))].mean() for _ in range(1_000)]
    return [float(values.mean()), *(float(each) for each in np.quantile(means, [0.025, 0.975]))]


def main():
    """Search, choose, ask once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sequences", type=Path)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument(
        "--seconds", type=float, default=3_600, help="no trial begins later; the best one is then asked"
    )
    parser.add_argument("--sample", type=int, default=5_000, help="users that trials are chosen by")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--search-only", action="store_true", help="do not ask for the test items")
    told = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(told.threads)
    sequences = sequences_of(told.sequences)
    item_count = max(max(each) for each in sequences)
    learned = dataset_of([each[:-2] for each in sequences], item_count)
    wanted = np.array([each[-2] for each in sequences])
    sample = np.sort(np.random.default_rng(told.seed).permutation(len(sequences))[: told.sample])

    def validate(model):
        return float(gains(places_of(model, learned, sample, wanted)).mean())

    began, kept = time.monotonic(), (-1.0, None)
    lines = told.journal.read_text().splitlines() if told.journal.is_file() else []
    tried = {json.dumps(each["options"], sort_keys=True): each for each in map(json.loads, lines)}
    for options in TRIALS:
        key = json.dumps(options, sort_keys=True)
        if key in tried or (tried and time.monotonic() - began > told.seconds):
            continue
        cpu = time.process_time()
        (epoch, worth), model = train(options, learned, validate, EPOCHS_MAX, told.seed)
        if worth > kept[0]:
            kept = worth, model
        tried[key] = {"options": options, "epoch": epoch, "worth": worth, "cpu_seconds": time.process_time() - cpu}
        with told.journal.open("a") as file:
            file.write(json.dumps(tried[key]) + "\n")
        print(json.dumps(tried[key]), flush=True)
    if told.search_only:
        return
    best = max(tried.values(), key=lambda each: each["worth"])
    model = kept[1]
    if best["worth"] > kept[0]:  # it was tried before this search went on
        _, model = train(best["options"], learned, validate, best["epoch"], told.seed)
    everybody = np.arange(len(sequences))
    asked = dataset_of([each[:-1] for each in sequences], item_count)
    found = {}
    for name, data, right in (
        ("validation", learned, wanted),
        ("test", asked, np.array([each[-1] for each in sequences])),
    ):
        places = places_of(model, data, everybody, right)
        found[name] = {"HR@10": interval((places >= 0).astype(float)), "NDCG@10": interval(gains(places))}
    print(json.dumps({"chosen": best, "trials": len(tried), **found}, indent=1))


main()
