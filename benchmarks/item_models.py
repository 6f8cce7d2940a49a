"""Item models, their blend and the libraries that a user would take instead, on one split in one run: Recall and NDCG.

    MIDSTREAM_ITEM_MODELS_PYTHONS=ENV/bin/python:OTHER/bin/python python benchmarks/item_models.py gowalla-lightgcn
    python benchmarks/item_models.py online-retail --protocol rolling

Every model learns the same acts and is asked the same questions; all items are ranked but those that each has acted on.
Options of ours are those of the settings files, chosen on the validation part, and so are those of a library where
``--search-peer`` has chosen them, by the same search; the weights of the blend are chosen on a part of what is learned.
Each part is fitted once on all that is learned and judged alone as well; the last columns are the paired test of the
blend against each (``midstream.evaluation.metrics.statistics``). Seconds are processor time of a fit.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse import save_npz

from benchmarks.quality.known_sets import SETTINGS_FOLDER, item_set
from midstream.app.evaluation.item_models import (
    JudgingOptions,
    ModelChoice,
    Search,
    choose,
    chosen_options,
    kept_options,
    question_of,
)
from midstream.evaluation.full_ranking import ItemData, Judged, RankingOptions, Task, judge, worth_of
from midstream.evaluation.metrics.statistics import difference, estimate
from midstream.models.histories import Interactions
from midstream.models.items.item_blend import ItemBlendOptions, PartFit, fit_item_blend
from midstream.models.kinds import Range, Space, Value, item_kind
from midstream.models.model import QUIET, ItemModel, Watch
from midstream.models.search import SearchBudget

PYTHONS_VARIABLE = "MIDSTREAM_ITEM_MODELS_PYTHONS"
"""Names the environments of the libraries beside, as ``PATH`` names folders."""
PEER = Path(__file__).with_name("item_models_peer")
ALS = {"factors": 256, "regularization": 1.0, "alpha": 100.0, "iterations": 6, "num_threads": 1, "random_state": 1}
IALS = {"n_components": 256, "alpha0": 0.01, "reg": 0.003, "train_epochs": 6, "n_threads": 1}
SHARED = {"irspack iALS": IALS, "implicit ALS": ALS, "RecTools PureSVD": {"factors": 64}}
PEER_OPTIONS = {
    "gowalla-lightgcn": {
        "irspack RP3beta": {"alpha": 0.566, "beta": 0.0011, "top_k": 777, "normalize_weight": True, "n_threads": 1},
        **SHARED,
    },
    "yelp2018": {
        "irspack RP3beta": {"alpha": 0.768, "beta": 0.418, "top_k": 342, "normalize_weight": True, "n_threads": 1},
        **SHARED,
    },
}
"""RP3beta's are those of Anelli et al., "Challenging the Myth of Graph Collaborative Filtering", RecSys 2023. A search
begins with these."""
PEER_SPACES: dict[str, Space] = {
    "irspack RP3beta": {
        "alpha": Range(0.4, 1.6),
        "beta": Range(0.0, 1.0),
        "top_k": Range(50, 1_000, log=True, whole=True),
    },
    "irspack iALS": {
        "n_components": (64, 128, 256),
        "alpha0": Range(1e-3, 1.0, log=True),
        "reg": Range(3e-4, 3e-2, log=True),
        "train_epochs": Range(4, 24, whole=True),
    },
    "implicit ALS": {
        "factors": (64, 128, 256),
        "regularization": Range(1e-2, 1e2, log=True),
        "alpha": Range(1.0, 200.0, log=True),
        "iterations": Range(4, 24, whole=True),
    },
    "RecTools PureSVD": {"factors": (32, 64, 128, 256, 512)},
}
"""What a search may try, as wide as ours of such models."""


class Fits:
    """Parts as they are fitted, each once on the same acts."""

    def __init__(self) -> None:
        """Nothing is fitted yet."""
        self.kept: dict[tuple[str, int], tuple[ItemModel, Interactions]] = {}
        self.seconds: dict[str, float] = {}

    def of(self, kind: str, options: dict[str, object]) -> Callable[[Interactions, Watch], ItemModel]:
        """Return a fit that looks first whether it was made."""

        def fit(data: Interactions, watch: Watch) -> ItemModel:
            key = (kind, id(data))
            if key not in self.kept:
                began = time.process_time()
                chosen = item_kind(kind)
                # What was learned is kept too, so that no other has its identity.
                self.kept[key] = chosen.fit(data, chosen.decoded(options), watch), data
                self.seconds.setdefault(kind, time.process_time() - began)
            return self.kept[key][0]

        return fit


def fitted_by(part: PartFit, learned: Interactions) -> ItemModel:
    """Return a part alone, fitted on what is learned."""
    return part.fit(learned, QUIET)


@dataclass(frozen=True)
class Peers:
    """The libraries that some environments have, on one split."""

    data: ItemData
    pythons: Sequence[str]
    ranking: RankingOptions
    folder: Path
    """Of settings files and journals."""

    def lists_of(self, task: Task, options: Mapping[str, Mapping[str, object]]) -> dict[str, tuple[Judged, float]]:
        """Return what each library that is there ranks under its options, and the seconds of its fit."""
        found: dict[str, tuple[Judged, float]] = {}
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            save_npz(folder / "train.npz", task.learned.histories.matrix(len(task.learned.vocabulary)))
            (folder / "options.json").write_text(json.dumps(options))
            for python in self.pythons:
                subprocess.run([python, str(PEER), place], check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
            for name in options:
                if (folder / f"{name}.npz").is_file():
                    written = np.load(folder / f"{name}.npz")
                    lists = written["lists"].astype(np.int32)[task.owner]
                    found[name] = Judged(self.data, name, [task], lists, self.ranking), float(written["seconds"])
        return found

    def search(self, name: str, budget: SearchBudget) -> None:
        """Choose the options of a library on the validation part as ours are chosen, and write them to a file."""
        (task,) = self.data.choosing()
        fixed = PEER_OPTIONS[self.data.name][name]
        metric = f"NDCG@{self.ranking.k}"

        def worth(tried: dict[str, Value]) -> float:
            lists = self.lists_of(task, {name: {**fixed, **tried}})
            if name not in lists:
                message = f"no Python that was named has the library of {name}"
                raise SystemExit(message)
            found = float(np.nanmean(worth_of(lists[name][0], "NDCG")))
            print(f"{self.data.name}, {name}: {metric} {found:.4f} {tried}", flush=True)
            return found

        question = question_of(self.data, [task], name, metric)
        nothing = ModelChoice(self.data.name, self.data.protocol, name, "validation", metric, {}, 0.0, (), question)
        choose(self.path_of(name), nothing, Search(worth, PEER_SPACES[name], fixed, budget))

    def options(self) -> dict[str, dict[str, object]]:
        """Return the options of each library: with what a search chose, where there was one."""
        found: dict[str, dict[str, object]] = {}
        metric = f"NDCG@{self.ranking.k}"
        for name, fixed in PEER_OPTIONS.get(self.data.name, {}).items():
            path = self.path_of(name)
            chosen = kept_options(path, self.data, name, metric) if path.is_file() else {}
            found[name] = {**fixed, **chosen}
        return found

    def path_of(self, name: str) -> Path:
        """Return the settings file of a library."""
        return self.folder / f"peer-{self.data.name}-{self.data.protocol}-{name.replace(' ', '-').lower()}.json"


def row_of(name: str, judged: Judged, blend: Judged) -> str:
    """Return a line of the table: figures, and what the blend is above them with the paired test."""
    cells = [name]
    values = {metric: worth_of(judged, metric) for metric in ("recall", "NDCG")}
    for each in values.values():
        found = estimate(each, judged.owner, judged.options.resampling)
        cells.append(f"{found.mean:.4f} ({found.low:.4f} to {found.high:.4f})")
    for metric, each in values.items():
        known = ~np.isnan(each)
        less = difference(worth_of(blend, metric)[known], each[known], judged.owner[known], judged.options.resampling)
        cells.append("" if judged is blend else str(less))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Fit, rank and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--parts", default="graph_filter,als,ease")
    parser.add_argument("--protocol", default="temporal", help="for data with times: temporal or rolling")
    named = os.environ.get(PYTHONS_VARIABLE, "")
    peers = [each for each in named.split(os.pathsep) if each]
    parser.add_argument("--peers", nargs="*", default=peers, help="Pythons that have irspack, implicit or rectools")
    parser.add_argument("--settings", type=Path, default=SETTINGS_FOLDER, help="the folder of the settings files")
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument(
        "--search-peer", action="append", default=[], choices=PEER_SPACES, help="choose the options of this one"
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1_800, help="no trial of a search begins later")
    told = parser.parse_args()
    judging = JudgingOptions(k=told.k, folder=told.settings)
    data = item_set(told.data, told.protocol)
    kinds, ranking = told.parts.split(","), RankingOptions(k=told.k)
    peers_there = Peers(data, told.peers, ranking, told.settings)
    if told.search_peer:
        if told.data not in PEER_OPTIONS or not told.peers:
            parser.error(f"--search-peer wants --peers, and one of {', '.join(PEER_OPTIONS)}")
        for name in told.search_peer:
            peers_there.search(name, SearchBudget(told.trials, told.seconds))
        return
    chosen = {kind: chosen_options(data, kind, item_kind(kind), judging, print) for kind in kinds}
    tasks, fits = data.reporting(), Fits()
    # Where the order of acts says nothing, any of them are kept apart for the weights.
    options = ItemBlendOptions(held_out="random" if data.protocol == "top-n" else "last", k=told.k)
    parts = [PartFit(kind, fits.of(kind, dict(chosen[kind]))) for kind in kinds]
    weights: list[str] = []

    def blended(learned: Interactions) -> ItemModel:
        model = fit_item_blend(learned, parts, options)
        weights.append(", ".join(f"{kind} {weight:g}" for kind, weight in zip(model.kinds, model.weights, strict=True)))
        return model

    alone: dict[str, Judged] = {}
    for part in parts:
        alone[part.kind] = judge(part.kind, partial(fitted_by, part), data, tasks, ranking)
    blend = judge("blend", blended, data, tasks, ranking)
    lists = peers_there.lists_of(tasks[0], peers_there.options()) if told.peers else {}
    beside = {f"{name} ({seconds:.0f} s)": judged for name, (judged, seconds) in lists.items()}
    print(f"{data.name}, {data.protocol}: {len(blend.lists)} questions; weights: {'; '.join(weights)}")
    print(f"options: {chosen}; of libraries: {peers_there.options() if told.peers else {}}")
    for name, judged in {**beside, **{f"{kind} ({fits.seconds[kind]:.0f} s)": alone[kind] for kind in kinds}}.items():
        print(row_of(name, judged, blend), flush=True)
    print(row_of("blend", blend, blend))


if __name__ == "__main__":
    main()
