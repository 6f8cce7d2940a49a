"""Training of sequence models by PyTorch (SASRec): predicts the next item at every position of a history at once.

The loss is the softmax over all items, not one yes against one drawn no: in published runs on one split that alone
takes NDCG@10 from 0.13 to 0.18 (ML-1M). In a catalogue above ``exact_items_max`` the sum over all items is estimated
from ``negatives`` items drawn for each step, q by how often they were acted on, each counted 1 / (negatives · q) times;
those that are what is right are left out, which makes of it an unbiased estimate of the sum over the others.

Weights are trained under the names and in the shapes of ``sequence.Weights``, which answers without PyTorch. Histories
are filled up behind their end, so that an item never sees what is filled in; positions are ages, so the place from
which a request guesses is the same for everybody.

Reference: W.-C. Kang, J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018; A. Klenitskiy, A. Vasilev,
"Turning Dross Into Gold Loss: is BERT4Rec really better than SASRec?", RecSys 2023 (softmax instead of one negative);
Y. Bengio, J.-S. Senécal, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language
Model", IEEE Transactions on Neural Networks 19(4), 2008 (sampled softmax, corrected by log q); X. Yi et al.,
"Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys 2019, equation 3 (the same for
recommenders: without it what is drawn often, because it is popular, is pushed down as often).
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ExtraMissing, Fault, Invalid
from midstream.models.histories import Histories, Interactions
from midstream.models.items.sequence import (
    BEFORE_ATTENTION,
    BEFORE_NETWORK,
    GAIN,
    KEY,
    NAMES,
    OUT,
    QUERY,
    SHIFT,
    SMALL,
    VALUE,
    SequenceModel,
    Weights,
    shapes,
)
from midstream.models.model import QUIET, Watch

PAGE = "/docs/models.md"
FACTORS_MAX = 512
EPOCHS_MAX = 10_000
_SPREAD = 0.02
"""Standard deviation of the weights at the start."""
_GAINS = ("norm", "last_norm")
_ZEROS = ("attention_shift", "inner_shift", "outer_shift")
_MOMENTS = (0.9, 0.98)
"""Of Adam, as in the paper."""

Whole = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class SasrecOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a sequence model is fitted."""

    factors: Annotated[int, msgspec.Meta(ge=1, le=FACTORS_MAX)] = 64
    """Numbers an item is made of, d."""
    blocks: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2
    """Of attention and network, one behind the other."""
    heads: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    """Parts in which an attention looks apart; has to divide ``factors``."""
    hidden_multiple: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1
    """Inner numbers of the network, in ``factors``; 1 as in the paper."""
    items_max: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50
    """Last items of a history that are read; the history of a request has 50 at most."""
    dropout: Share = 0.5
    """Share of the numbers that are left out at each step of the fit."""
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.001
    """Of Adam."""
    epochs: Annotated[int, msgspec.Meta(ge=1, le=EPOCHS_MAX)] = 30
    """Times that every act is guessed."""
    batch_acts: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 512
    """Acts guessed at a step, about. Of all items each has a score: 4 bytes · acts · items, three times."""
    exact_items_max: Whole = 20_000
    """Up to so many items the loss goes over all of them."""
    negatives: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 1_024
    """Items drawn for each step in a larger catalogue."""
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Of the weights at the start, the order of histories, and what is left out."""
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    """At work while fitting."""

    def __post_init__(self) -> None:
        """Refuse heads that do not divide the factors.

        Raises:
            ValueError: They do not.
        """
        if self.factors % self.heads:
            message = f"{self.heads} heads do not divide {self.factors} factors"
            raise ValueError(message)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Stretches of histories in which each act but the first is guessed from those before it."""

    row: NDArray[np.int64]
    """Items of all histories, (acts,)."""
    begin: NDArray[np.int64]
    """First act of each window, (windows,)."""
    length: NDArray[np.int64]
    """Acts guessed in each, one less than it has, (windows,)."""

    @classmethod
    def of(cls, histories: Histories, items_max: int) -> "Windows":
        """Return windows in which each act is guessed once, of at most so many guesses, cut from the end."""
        begins: list[int] = []
        lengths: list[int] = []
        for first, end in zip(histories.start[:-1].tolist(), histories.start[1:].tolist(), strict=True):
            last = end - 1
            while last > first:
                begin = max(first, last - items_max)
                begins.append(begin)
                lengths.append(last - begin)
                last = begin
        return cls(histories.row.astype(np.int64), np.array(begins, np.int64), np.array(lengths, np.int64))

    def batches(self, batch_acts: int, random: np.random.Generator) -> Iterator["WindowBatch"]:
        """Return all windows in a random order, in batches of about so many guesses.

        Those of one length go together: otherwise most places of a batch would be filled in.
        """
        if not len(self.begin):
            return
        order = random.permutation(len(self.begin))
        order = order[np.argsort(self.length[order], kind="stable")]
        number = (np.cumsum(self.length[order]) - 1) // batch_acts
        cuts: list[int] = (np.flatnonzero(np.diff(number)) + 1).tolist()
        parts = list(pairwise([0, *cuts, len(order)]))
        turns: list[int] = random.permutation(len(parts)).tolist()
        for turn in turns:
            first, end = parts[turn]
            yield self._batch(order[first:end])

    def steps(self, batch_acts: int) -> int:
        """Return about how many batches there are."""
        return max(1, -(-int(self.length.sum()) // batch_acts))

    def _batch(self, part: NDArray[np.intp]) -> "WindowBatch":
        length = self.length[part][:, None]
        place = np.arange(int(length.max()))[None, :]
        is_there = place < length
        at = self.begin[part][:, None] + np.minimum(place, length - 1)
        return WindowBatch(self.row[at], np.maximum(length - 1 - place, 0), is_there, self.row[at + 1][is_there])


@dataclass(frozen=True, slots=True, eq=False)
class WindowBatch:
    """Windows side by side, filled up behind the end of the shorter ones."""

    item: NDArray[np.int64]
    """(windows, places)."""
    age: NDArray[np.int64]
    """0 = the last of its window, (windows, places)."""
    is_there: NDArray[np.bool_]
    """(windows, places)."""
    wanted: NDArray[np.int64]
    """What follows each place that is there, row by row."""


def fit_sasrec(data: Interactions, options: SasrecOptions, watch: Watch = QUIET) -> SequenceModel:
    """Return a model of what follows what in some histories, by their order; what acts weigh is not read.

    The same for the same data, options and release of PyTorch on one machine. Cost: time of epochs × acts × d × 6 ×
    (items or negatives) operations, and the blocks; memory of 16 d bytes an item, and the scores of a step.

    Args:
        data: Histories of two acts at least teach something; a repeat is an act as any other.
        options: How.
        watch: Told of each step, asked whether to stop.

    Raises:
        ExtraMissing: PyTorch is not installed.
        Invalid: No history has two acts.
        FitStopped: The watch said so.
    """
    torch = library()
    windows = Windows.of(data.histories, options.items_max)
    if not len(windows.begin):
        came = f"{len(data.histories)} histories came, none of two acts or more."
        raise Invalid((Fault("histories", came, "Histories in which something follows something.", PAGE),))
    with seeded(torch, options.seed, options.threads):
        trained = _train(torch, data, windows, options, watch)
    plain = {name: np.ascontiguousarray(trained[name].detach().numpy(), dtype=np.float32) for name in NAMES}
    watch.step("sequences", 1.0)
    return SequenceModel(data.vocabulary, Weights(**plain), options.heads)


@contextmanager
def seeded(torch: Any, seed: int, threads: int) -> Generator[None, None, None]:  # noqa: ANN401
    """Let what is drawn hang on a seed, on so many threads; afterwards both are as they were."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def library() -> Any:  # noqa: ANN401  # the package is not there where types are checked
    """Return PyTorch.

    Raises:
        ExtraMissing: It is not installed.
    """
    try:
        import torch  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        message = "sequence models are fitted by PyTorch: install midstream[torch]"
        raise ExtraMissing(message) from error
    found: Any = torch
    return found


def _train(torch: Any, data: Interactions, windows: Windows, options: SasrecOptions, watch: Watch) -> dict[str, Any]:  # noqa: ANN401
    """Return the trained weights by name."""
    random = np.random.default_rng(options.seed)
    items = len(data.vocabulary)
    weights = at_first(torch, shapes(items, options.items_max, options.blocks, options.factors, _hidden(options)))
    adam = torch.optim.Adam(list(weights.values()), lr=options.learning_rate, betas=_MOMENTS)
    # One more than an item has: what was never acted on has to be pushed down too.
    often = np.bincount(windows.row, minlength=items) + 1.0
    probability = often / often.sum()
    steps, done = windows.steps(options.batch_acts) * options.epochs, 0
    for epoch in range(options.epochs):
        for batch in windows.batches(options.batch_acts, random):
            watch.step(f"epoch {epoch + 1} of {options.epochs}", min(done / steps, 0.999))
            found = encoded(torch, weights, batch, options.heads, options.dropout)
            users = found[torch.from_numpy(batch.is_there)]
            if items <= options.exact_items_max:
                loss = whole_loss(torch, users, weights["items"], batch.wanted)
            else:
                drawn = random.choice(items, options.negatives, p=probability)
                loss = drawn_loss(torch, users, weights["items"], batch.wanted, (drawn, probability))
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            done += 1
    return weights


def _hidden(options: SasrecOptions) -> int:
    return options.factors * options.hidden_multiple


def at_first(torch: Any, wanted: dict[str, tuple[int, ...]]) -> dict[str, Any]:  # noqa: ANN401
    """Return weights to begin with, by name: gains 1, shifts 0, all else small and random."""
    found: dict[str, Any] = {}
    for name, shape in wanted.items():
        weight = torch.zeros(shape)
        if name in _GAINS:
            weight[..., GAIN, :] = 1.0
        elif name not in _ZEROS:
            weight.normal_(0.0, _SPREAD)
        found[name] = weight.requires_grad_()
    return found


def encoded(torch: Any, weights: dict[str, Any], batch: WindowBatch, heads: int, dropout: float) -> Any:  # noqa: ANN401
    """Return what is known of the user at each place, (windows, places, d): ``sequence`` says how, for the last place.

    Args:
        torch: The library.
        weights: By name.
        batch: What is read; what is filled in has vectors without meaning.
        heads: Of each attention.
        dropout: Share that is left out; 0 = as it answers.
    """
    layers = torch.nn.functional
    item, age = torch.from_numpy(batch.item), torch.from_numpy(batch.age)
    given = layers.embedding(item, weights["items"]) + layers.embedding(age, weights["ages"])
    return read_places(torch, weights, given, heads, dropout)


def read_places(torch: Any, weights: Mapping[str, Any], given: Any, heads: int, dropout: float) -> Any:  # noqa: ANN401
    """Return the same from the sums of items and ages, (windows, places, d)."""
    layers = torch.nn.functional

    def left(given: Any) -> Any:  # noqa: ANN401
        return layers.dropout(given, dropout)

    def normed(given: Any, norm: Any) -> Any:  # noqa: ANN401
        return layers.layer_norm(given, given.shape[-1:], norm[GAIN], norm[SHIFT], SMALL)

    def parted(given: Any) -> Any:  # noqa: ANN401
        return given.reshape(*given.shape[:2], heads, -1).transpose(1, 2)

    found = left(given)
    for block in range(len(weights["inner"])):
        matrix, shift = weights["attention"][block], weights["attention_shift"][block]
        given = normed(found, weights["norm"][block, BEFORE_ATTENTION])
        query, key, value = (parted(given @ matrix[which] + shift[which]) for which in (QUERY, KEY, VALUE))
        seen = layers.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        seen = seen.transpose(1, 2).reshape(found.shape)
        found = found + left(seen @ matrix[OUT] + shift[OUT])
        given = normed(found, weights["norm"][block, BEFORE_NETWORK])
        inner = left(torch.relu(given @ weights["inner"][block] + weights["inner_shift"][block]))
        found = found + left(inner @ weights["outer"][block] + weights["outer_shift"][block])
    return normed(found, weights["last_norm"])


def whole_loss(torch: Any, users: Any, items: Any, wanted: NDArray[np.int64]) -> Any:  # noqa: ANN401
    """Return the mean cross-entropy of what is wanted among all items."""
    return torch.nn.functional.cross_entropy(users @ items.T, torch.from_numpy(wanted))


def drawn_loss(
    torch: Any,  # noqa: ANN401
    users: Any,  # noqa: ANN401
    items: Any,  # noqa: ANN401
    wanted: NDArray[np.int64],
    drawn: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> Any:  # noqa: ANN401
    """Return the same with the sum over all other items estimated from some.

    Args:
        torch: The library.
        users: Vectors, (n, d).
        items: Vectors of all items, (items, d).
        wanted: Row of each right item, (n,).
        drawn: Rows that were drawn with replacement, and the probability of every item.
    """
    rows, probability = drawn
    right = (users * items[torch.from_numpy(wanted)]).sum(dim=1, keepdim=True)
    correction = torch.from_numpy(np.log(len(rows) * probability[rows]).astype(np.float32))
    others = users @ items[torch.from_numpy(rows)].T - correction
    others = others.masked_fill(torch.from_numpy(rows[None, :] == wanted[:, None]), -torch.inf)
    scores = torch.cat([right, others], dim=1)
    return torch.nn.functional.cross_entropy(scores, torch.zeros(len(wanted), dtype=torch.int64))


def shared_loss(torch: Any, users: Any, items: Any, wanted: NDArray[np.int64], probability: NDArray[np.float64]) -> Any:  # noqa: ANN401
    """Return the mean cross-entropy of what is wanted among what is wanted for any in this step.

    Args:
        torch: The library.
        users: Vectors, (n, d).
        items: Vector of what each is wanted for, (n, d).
        wanted: Row of each of these, (n,).
        probability: How often each item of all is wanted; log of it is taken off, since it is among these as often.
    """
    same = wanted[:, None] == wanted[None, :]
    np.fill_diagonal(same, val=False)  # what is right twice is no wrong answer
    correction = torch.from_numpy(np.log(probability[wanted]).astype(np.float32))
    scores = (users @ items.T - correction).masked_fill(torch.from_numpy(same), -torch.inf)
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(wanted)))
