"""Model of the demo: trained at half time through the running server, and promoted, so that it answers from then on.

Both placements have the same sources and filters; one is ordered by trees over features, the other by the blend of the
sources' ranks. So the difference of their answers to one request is the effect of the training. The trees learn from a
replay of the log: the candidates before each click, and the click.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from midstream.app.config.schema import Config
from midstream.app.training.fit import Trained
from midstream.app.training.run import train_and_promote
from midstream.cli.demo.score import DEFAULT, TRAINED
from midstream.core.errors import MidstreamError

MODEL = "order"
_FEATURES = """
[[features]]
name = "alike"
kind = "knn_score"

[[features]]
name = "beside"
kind = "pair_score"

[[features]]
name = "same_category"
kind = "match"
attribute = "category"

[[features]]
name = "same_colour"
kind = "match"
attribute = "colour"

[[features]]
name = "last_category"
kind = "match"
attribute = "category"
last = 1

[[features]]
name = "last_colour"
kind = "match"
attribute = "colour"
last = 1

[[features]]
name = "price"
kind = "number"
scope = "item"
attribute = "price"

[[features]]
name = "price_apart"
kind = "diversity"
attribute = "price"

[[features]]
name = "views"
kind = "count"
actions = ["view"]
"""
_COLUMNS = (
    *("alike", "beside", "same_category", "same_colour", "last_category", "last_colour"),
    *("price", "price_apart", "views"),
)
CONFIG = f"""{_FEATURES}
[[models]]
name = "{MODEL}"
kind = "trees"
placement = "{TRAINED}"
examples = "replay"
options = {{ trees_max = 60, leaves_max = 7, leaf_rows_min = 100 }}
time_max = "45s"

[[placements]]
name = "{DEFAULT}"

[[placements]]
name = "{TRAINED}"
features = {json.dumps(_COLUMNS)}
scorers = [{{ kind = "model", name = "{MODEL}" }}]
"""
"""Text behind the attributes ``category``, ``colour`` and ``price``; docs/cli.md has the alternatives."""


_COLD = "the first training on a machine compiles, which is kept: run the demo again"


@dataclass(frozen=True, slots=True)
class Training:
    """Result of the training."""

    seconds: float
    """Of the training and the promotion together."""
    done: Trained | None
    refusal: str = ""
    """Why there is no model, where there is none."""

    def __str__(self) -> str:
        """Return the model and the metrics of the training, in a line."""
        if self.done is None:
            return f"No model was trained: {self.refusal}"
        counts, metrics = self.done.counts, self.done.metrics
        name = "NDCG@10" if "NDCG@10" in metrics else "sampled.NDCG@10"
        ndcg = metrics.get(name)
        judged = "was not judged" if ndcg is None else f"had {name} {ndcg:.3f} on the newest {metrics['requests']:,.0f}"
        return (
            f"A ranker ({self.done.version}) was trained at half time on {counts['requests']:,} clicks and promoted, "
            f"{self.seconds:.1f} s; a fit on the others {judged}."
        )


def train_beside(folder: Path, config: Config) -> Training:
    """Train on the log as it is now, in a process of its own, and put the model in service.

    A failure of the training is printed and not raised: the demo continues without a model.
    """
    began = time.monotonic()
    try:
        done = train_and_promote(folder, config, MODEL)
    except MidstreamError as error:
        seconds, refusal = time.monotonic() - began, " ".join(str(error).split())
        return Training(seconds, None, f"{refusal}; {_COLD}" if "time_max" in refusal else refusal)
    return Training(time.monotonic() - began, done)
