"""Two-tower model: one network reads the last items of a history, another an item; the score is their cosine.

The input of the user's tower is the mean of the last items' vectors and the vector of the very last one. Both towers
are trained together to find the next item among those of other histories in the same step; these come as often as they
are acted on, so log q is subtracted from each score. Of the item's tower only its vectors are kept, of the user's its
weights: the history is read at request time, up to the last click, and the model holds no user. Weights of acts are not
read.

Reference: P. Covington, J. Adams, E. Sargin, "Deep Neural Networks for YouTube Recommendations", RecSys 2016; X. Yi et
al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys 2019, equations 2 and 3.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, Fault, Invalid
from midstream.core.types import Index, Score
from midstream.models.histories import Histories, Interactions
from midstream.models.items.sasrec import Windows, library, seeded, shared_loss
from midstream.models.kernels.bf16_index import Halves
from midstream.models.kernels.top_k import inner_products
from midstream.models.model import QUIET, Arrays, Watch
from midstream.models.vocabulary import ItemVocabulary

NAMES = ("items", "read", "inner", "inner_shift", "outer", "outer_shift", "last")
"""Vector of each item and what it says of a user, (items, d), the layers of the user's tower, and how many are read."""
_SMALL = 1e-12  # no length is taken for less


class TwoTowerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How towers are fitted."""

    factors: Annotated[int, msgspec.Meta(ge=1, le=512)] = 64
    """d: numbers of a vector."""
    hidden: Annotated[int, msgspec.Meta(ge=1, le=4_096)] = 128
    """h: inner numbers of each tower."""
    items_max: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50
    """Last items of a history that are read."""
    temperature: Annotated[float, msgspec.Meta(ge=0.01, le=10)] = 0.1
    """Of the softmax: less = what is nearly right is pushed away harder."""
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.003
    """Of Adam."""
    epochs: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 20
    batch_acts: Annotated[int, msgspec.Meta(ge=2, le=65_536)] = 512
    """Acts guessed at a step, about, and so the items that each is told from."""
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1


@dataclass(frozen=True, slots=True, eq=False)
class TwoTowerModel:
    """Vectors of items, and the user's tower. See ``ItemModel`` and ``top_n.FactorModel``."""

    vocabulary: ItemVocabulary
    weights: dict[str, NDArray[np.float32]]
    """By ``NAMES``, float32."""
    _halves: Halves = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Round the items, for the scan."""
        object.__setattr__(self, "_halves", Halves.of(self.weights["items"]))

    def item_vectors(self) -> Score:
        """Return the vector of each item, (items, d)."""
        return self.weights["items"]

    @np.errstate(divide="ignore", over="ignore", invalid="ignore")  # flags that a BLAS leaves; weights are finite
    def history_vectors(self, histories: Histories) -> Score:
        """Return the vector of the user of each history, (histories, d), zeros of an empty one. Cost: 20 µs each."""
        _, read, inner, inner_shift, outer, outer_shift, last = (self.weights[name] for name in NAMES)
        found = np.zeros((len(histories), outer.shape[1]), dtype=np.float32)
        for number in range(len(histories)):
            said = read[histories.part(number, number + 1).row[-int(last[0]) :]]
            if len(said):
                given = np.concatenate([said.mean(axis=0), said[-1]])
                user = np.maximum(given @ inner + inner_shift, 0) @ outer + outer_shift
                found[number] = user / max(float(np.sqrt(user @ user)), _SMALL)
        return found

    def scores(self, histories: Histories) -> Score:
        """Return the cosine of each history and item; see ``ItemModel``."""
        return inner_products(self.history_vectors(histories), self.weights["items"])

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k items of the highest scores of one history; see ``ItemModel``. None of an empty history."""
        return self._halves.top_k(self.history_vectors(history)[0], k if len(history.row) else 0)

    def arrays(self) -> Arrays:
        """Return all that was fitted but the vocabulary."""
        return {f"two_tower.{name}": self.weights[name] for name in NAMES}

    @classmethod
    def restore(cls, vocabulary: ItemVocabulary, arrays: Arrays) -> "TwoTowerModel":
        """Return the model whose ``arrays`` are among these; raises ``ArtifactInvalid`` where they are none."""
        found = {name: arrays.get(f"two_tower.{name}", np.empty(0)) for name in NAMES}
        hidden, factors = found["outer"].shape if found["outer"].ndim == 2 else (0, 0)  # noqa: PLR2004
        sizes = {"inner": (2 * factors, hidden), "inner_shift": (hidden,), "outer_shift": (factors,), "last": (1,)}
        for name, array in found.items():
            right = sizes.get(name, (len(vocabulary) if name != "outer" else hidden, factors))
            is_right = array.dtype.str == "<f4" and array.shape == right and np.isfinite(array).all()
            if not is_right or not array.size or (name == "last" and array[0] < 1):
                raise ArtifactInvalid(f"{name} of two towers is missing, no finite float32, not {right}, or nothing")
        return cls(vocabulary, {name: np.ascontiguousarray(found[name], dtype=np.float32) for name in NAMES})


def fit_two_tower(data: Interactions, options: TwoTowerOptions, watch: Watch = QUIET) -> TwoTowerModel:
    """Return towers of what follows what in some histories.

    The same for the same data, options and release of PyTorch on one machine. Cost: 3 · epochs · acts · d · (6 h + acts
    of a step); memory of 32 d bytes an item. Raises ``ExtraMissing``, ``FitStopped``, ``Invalid``: nothing to guess.
    """
    torch, windows = library(), Windows.of(data.histories, options.items_max)
    if not len(windows.begin):
        came = f"{len(data.histories)} histories came, none of two acts or more."
        raise Invalid((Fault("histories", came, "Histories in which something follows something.", "/docs/models.md"),))
    with seeded(torch, options.seed, options.threads):
        trained = _train(torch, data, windows, options, watch)
    return TwoTowerModel(data.vocabulary, {**trained, "last": np.array([options.items_max], dtype=np.float32)})


def _train(torch: Any, data: Interactions, windows: Windows, options: TwoTowerOptions, watch: Watch) -> dict[str, Any]:  # noqa: ANN401
    """Return the trained weights by name."""
    network, items, d, h = torch.nn, len(data.vocabulary), options.factors, options.hidden
    read, own = network.Embedding(items, d), network.Embedding(items, d)
    tower = network.Sequential(network.Linear(2 * d, h), network.ReLU(), network.Linear(h, d))
    item_tower = network.Sequential(network.Linear(d, h), network.ReLU(), network.Linear(h, d))
    adam = torch.optim.Adam(network.ModuleList([read, own, tower, item_tower]).parameters(), lr=options.learning_rate)
    often = np.bincount(windows.row, minlength=items) / len(windows.row)
    random, done, steps = np.random.default_rng(options.seed), 0, windows.steps(options.batch_acts) * options.epochs
    unit = partial(network.functional.normalize, dim=-1, eps=_SMALL)
    for epoch in range(options.epochs):
        for batch in windows.batches(options.batch_acts, random):
            watch.step(f"epoch {epoch + 1} of {options.epochs}", min(done / steps, 0.999))
            said = read(torch.from_numpy(batch.item))
            mean = said.cumsum(dim=1) / torch.arange(1, said.shape[1] + 1)[None, :, None]
            users = unit(tower(torch.cat([mean, said], dim=2)[torch.from_numpy(batch.is_there)]))
            vectors = unit(item_tower(own(torch.from_numpy(batch.wanted)))) / options.temperature
            loss = shared_loss(torch, users, vectors, batch.wanted, often)
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            done += 1
    first, _, second = tower
    kept = (unit(item_tower(own.weight)), read.weight, first.weight.T, first.bias, second.weight.T, second.bias)
    return {name: each.detach().contiguous().numpy() for name, each in zip(NAMES, kept, strict=False)}
