"""Kinds of models, by the name in commands and manifests."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import msgspec

from midstream.core.errors import Fault, Invalid
from midstream.core.nearest import nearest
from midstream.models.histories import Interactions
from midstream.models.items import popular
from midstream.models.items.als import AlsModel, AlsOptions, fit_als
from midstream.models.items.bpr import Bpr, BprOptions, fit_bpr
from midstream.models.items.content import ContentModel, ContentOptions, fit_content
from midstream.models.items.ease import EaseOptions, fit_ease
from midstream.models.items.graph_filter import GraphFilterOptions, fit_graph_filter
from midstream.models.items.item_blend import BlendPart, ItemBlend, ItemBlendOptions, PartFit, fit_item_blend
from midstream.models.items.item_knn import ItemKnnOptions, fit_item_knn
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.items.rp3beta import Rp3betaOptions, fit_rp3beta
from midstream.models.items.sasrec import SasrecOptions, fit_sasrec
from midstream.models.items.sequence import SequenceModel
from midstream.models.items.sequence_onnx import exported
from midstream.models.items.svd import Svd, SvdOptions, fit_ratings
from midstream.models.items.two_tower import TwoTowerModel, TwoTowerOptions, fit_two_tower
from midstream.models.model import Arrays, ItemModel, RowModel, Watch
from midstream.models.options import decoded
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import Ftrl, FtrlOptions, fit_ftrl
from midstream.models.rows.gradient_boosting import GradientBoostingOptions, fit_gradient_boosting
from midstream.models.rows.keras_ranker import KerasRanker, KerasRankerOptions, fit_keras_ranker
from midstream.models.rows.lambdamart import LambdaMartOptions, fit_lambdamart
from midstream.models.rows.logistic_regression import (
    LogisticRegression,
    LogisticRegressionOptions,
    fit_logistic_regression,
)
from midstream.models.rows.trees import Trees
from midstream.models.vocabulary import ItemVocabulary

Value = int | float | bool | str
_PAGE, _MODELS_PAGE = "/docs/evaluation.md", "/docs/models.md"


@dataclass(frozen=True, slots=True)
class Range:
    """Values of a number that a search may take."""

    low: float
    high: float
    log: bool = False
    """Each factor is as likely as the next, not each difference."""
    whole: bool = False


Space = Mapping[str, Range | tuple[Value, ...]]
"""Of each option the numbers, or the values, that are worth trying."""


Told = TypeVar("Told", bound=msgspec.Struct)


def _no_files(_model: ItemModel) -> Mapping[str, bytes]:
    return {}


def _no_figures(_model: ItemModel) -> Mapping[str, float]:
    return {}


def _no_faults(_options: msgspec.Struct) -> tuple[Fault, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class ItemKind(Generic[Told]):
    """One kind of item model: options, how it is fitted, how it is read again."""

    options: type[Told]
    fit: Callable[[Interactions, Told, Watch], ItemModel]
    restore: Callable[[ItemVocabulary, Arrays], ItemModel]
    space: Space = field(default_factory=dict[str, "Range | tuple[Value, ...]"])
    """Options of a search; empty = none."""
    files: Callable[[ItemModel], Mapping[str, bytes]] = _no_files
    """What is written of a model beside its arrays, by file name, for programs elsewhere: nothing here reads it."""
    reads_items: bool = False
    """Whether its fit reads the content of each item, also of those without acts."""
    figures: Callable[[ItemModel], Mapping[str, float]] = _no_figures
    """Figures of a fit that are among a version's metrics."""
    faults: Callable[[Told], tuple[Fault, ...]] = _no_faults
    """Faults of options in combination."""
    go_on: Callable[[ItemModel, Interactions, Told, Watch], ItemModel] | None = None
    """Fits on all the data, beginning with what an earlier version had found; None = it is always fitted anew.

    Raises ``Invalid`` where the two do not go together.
    """

    def decoded(self, options: Mapping[str, object]) -> Told:
        """Return the options that are named, all others at their defaults; numbers may come as text.

        Raises:
            Invalid: There is no such option, the value is of another type, or it does not go with the others.
        """
        found = decoded(self.options, options)
        if faults := self.faults(found):
            raise Invalid(faults)
        return found


def _go_on_als(model: ItemModel, interactions: Interactions, options: AlsOptions, watch: Watch) -> ItemModel:
    if not isinstance(model, AlsModel) or model.options.factors != options.factors:
        there = model.options.factors if isinstance(model, AlsModel) else "no"
        raise _apart(f"The version has {there} factors, and options.factors is {options.factors}.")
    return fit_als(interactions, options, watch, model)


def _apart(came: str) -> Invalid:
    right = "The options and features that the version was fitted with, or a training without --from."
    return Invalid((Fault("--from", came, right, "/docs/models.md"),))


def _fit_content(interactions: Interactions, options: ContentOptions, watch: Watch) -> ItemModel:
    if not interactions.described:
        right = "Data that say what items are, such as a log with items in its catalogue."
        raise Invalid((Fault("model", "content came, and these data have acts alone.", right, _MODELS_PAGE),))
    return fit_content(interactions.vocabulary, interactions.described, options, watch)


def _fit_svd(interactions: Interactions, options: SvdOptions, watch: Watch) -> ItemModel:
    return fit_ratings(interactions, options, watch)[0]


def _sasrec_files(model: ItemModel) -> Mapping[str, bytes]:
    return exported(model) if isinstance(model, SequenceModel) else {}


def blend_parts(options: msgspec.Struct) -> tuple[BlendPart, ...]:
    """Return the parts of a blend as they are named in its options; none where the options are of another kind."""
    if not isinstance(options, ItemBlendOptions):
        return ()
    return tuple(BlendPart(each) if isinstance(each, str) else each for each in options.parts)


def _blend_faults(options: msgspec.Struct) -> tuple[Fault, ...]:
    """Return what is wrong with the parts of a blend."""
    return tuple(_part_faults(blend_parts(options)))


def _part_faults(parts: tuple[BlendPart, ...]) -> Iterator[Fault]:
    kinds = {name: each for name, each in ITEM_KINDS.items() if each.options is not ItemBlendOptions}
    for number, part in enumerate(parts):
        where = f"options.parts[{number}]"
        if part.kind not in kinds:
            came = f"{part.kind!r} is no kind that a blend has parts of.{nearest(part.kind, kinds)}"
            yield Fault(f"{where}.kind", came, "one of " + ", ".join(sorted(kinds)), _MODELS_PAGE)
            continue
        try:
            kinds[part.kind].decoded(part.options)
        except Invalid as error:
            yield from (replace(each, where=f"{where}.{each.where}", page=_MODELS_PAGE) for each in error.faults)
    if len({each.weight is None for each in parts}) > 1:
        right = "A weight of each part, or of none: then they are fitted."
        yield Fault("options.parts", "some have a weight and some have none.", right, _MODELS_PAGE)
    if all(each.weight == 0 for each in parts):
        yield Fault("options.parts", "all weights are 0.", "One other than 0.", _MODELS_PAGE)


def _fit_blend(interactions: Interactions, options: ItemBlendOptions, watch: Watch) -> ItemModel:
    parts = [_part_fit(each, options.seed) for each in blend_parts(options)]
    return fit_item_blend(interactions, parts, options, watch)


def _part_fit(part: BlendPart, seed: int) -> PartFit:
    """Return how a part is fitted, with the seed of the blend where it takes one and names none."""
    kind = ITEM_KINDS[part.kind]
    seeded = {"seed": seed} if "seed" in kind.options.__struct_fields__ else {}
    options = kind.decoded({**seeded, **part.options})
    return PartFit(part.kind, lambda data, watch: kind.fit(data, options, watch), part.weight)


def _read_blend(vocabulary: ItemVocabulary, arrays: Arrays) -> ItemModel:
    return ItemBlend.restore(vocabulary, arrays, {name: each.restore for name, each in ITEM_KINDS.items()})


def _blend_figures(model: ItemModel) -> Mapping[str, float]:
    if not isinstance(model, ItemBlend):
        return {}
    weighed = zip(model.kinds, model.weights.tolist(), strict=True)
    return {f"weight.{number}.{kind}": weight for number, (kind, weight) in enumerate(weighed)}


def _no_row_figures(_model: RowModel) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True, slots=True)
class RowKind(Generic[Told]):
    """One kind of row model: options, how it is fitted, how it is read again."""

    options: type[Told]
    fit: Callable[[Examples, Told, Watch], RowModel]
    restore: Callable[[Arrays], RowModel]
    is_probability: Callable[[Told], bool]
    """Whether with these options its scores are probabilities, and no numbers that only order."""
    row_bytes: tuple[int, int]
    """What a fit takes at most for each row, beside the rows themselves: bytes for each feature, and bytes more."""
    not_finite: frozenset[str] = frozenset()
    """Names of arrays in which NaN or infinity means something."""
    go_on: Callable[[RowModel, Examples, Told, Watch], RowModel] | None = None
    """Learns further rows after all that an earlier version has learned; None = it is always fitted anew.

    Raises ``Invalid`` where the two do not go together.
    """
    figures: Callable[[RowModel], Mapping[str, float]] = _no_row_figures
    """Figures of a fit that are among a version's metrics."""

    def decoded(self, options: Mapping[str, object]) -> Told:
        """Return the options that are named, all others at their defaults; raises as ``ItemKind.decoded``."""
        return decoded(self.options, options)

    def rows_max(self, features: int, byte_count: int) -> int:
        """Return how many rows with so many features a fit takes that has so many bytes beside the rows; at least 1."""
        each, more = self.row_bytes
        return max(1, byte_count // (each * features + more))


def _go_on_ftrl(model: RowModel, examples: Examples, options: FtrlOptions, watch: Watch) -> RowModel:
    if not isinstance(model, Ftrl) or model.inputs != examples.names:
        raise _apart(f"The version reads {', '.join(model.inputs)}, and the placement {', '.join(examples.names)}.")
    names = [each for each in FtrlOptions.__struct_fields__ if getattr(model.options, each) != getattr(options, each)]
    if names:
        was = ", ".join(f"{each} = {getattr(model.options, each)}" for each in names)
        raise _apart(f"The version was fitted with {was}.")
    for _ in range(options.passes):
        model = model.learn(examples, watch)
    return model


def _solver_figures(model: RowModel) -> Mapping[str, float]:
    if not isinstance(model, LogisticRegression):
        return {}
    return {"converged": float(model.is_converged), "iterations": float(model.iterations)}


def _always(_options: msgspec.Struct) -> bool:
    return True


def _if_binary(options: LambdaMartOptions) -> bool:
    return options.objective == "binary"


_EDGES, _THRESHOLD = frozenset({"edges"}), frozenset({"threshold"})
# Bytes of a row, measured at 4 and 40 features and rounded up: vectors alone of ftrl (65); gradient_boosting 530 at 40
# (copies without NaN); logistic_regression two entries of 12 bytes a feature, and vectors (148 and 1,012); trees copies
# that the library makes (118 and 840). Of keras counted: values and what is unknown, in float64 and then in float32.
ROW_KINDS: Mapping[str, RowKind[Any]] = {
    "ftrl": RowKind(FtrlOptions, fit_ftrl, Ftrl.restore, _always, (1, 80), _EDGES, _go_on_ftrl),
    "gradient_boosting": RowKind(
        GradientBoostingOptions, fit_gradient_boosting, Trees.restore, _always, (14, 128), _THRESHOLD
    ),
    "keras": RowKind(KerasRankerOptions, fit_keras_ranker, KerasRanker.restore, _always, (36, 64)),
    "logistic_regression": RowKind(
        LogisticRegressionOptions,
        fit_logistic_regression,
        LogisticRegression.restore,
        _always,
        (24, 128),
        _EDGES,
        figures=_solver_figures,
    ),
    "trees": RowKind(LambdaMartOptions, fit_lambdamart, Trees.restore, _if_binary, (20, 96), _THRESHOLD),
}
"""Name → kind."""

_ALS_SPACE: Space = {
    "factors": (32, 64, 128, 256),
    "regularization": Range(3e-4, 3e-2, log=True),
    "unobserved_weight": Range(1e-3, 1e-1, log=True),
    "iterations": Range(4, 24, whole=True),
    "confidence": ("sum", "log", "one"),
}
_BPR_SPACE: Space = {
    "factors": (32, 64, 128),
    "learning_rate": Range(5e-3, 0.2, log=True),
    "regularization": Range(1e-3, 0.3, log=True),
    "iterations": Range(20, 300, log=True, whole=True),
}
_EASE_SPACE: Space = {
    "regularization": Range(1.0, 5_000.0, log=True),
    "dropout": Range(0.0, 0.7),
    "user_power": Range(0.0, 0.6),
}
_GRAPH_FILTER_SPACE: Space = {
    "factors": Range(64, 512, log=True, whole=True),
    "low_pass": Range(0.0, 0.5),
    "sharpening": Range(0.0, 2.7),
    "user_power": Range(0.1, 0.6),
    "item_power": Range(0.3, 0.6),
}
_ITEM_KNN_SPACE: Space = {
    "neighbours_max": Range(20, 500, log=True, whole=True),
    "shrinkage": Range(0.0, 100.0),
    "weighting": ("none", "tfidf"),
}
_RP3BETA_SPACE: Space = {
    "alpha": Range(0.4, 1.6),
    "beta": Range(0.0, 1.0),
    "kept_max": Range(50, 500, log=True, whole=True),
}
_SASREC_SPACE: Space = {
    "factors": (32, 64, 128),
    "blocks": Range(1, 3, whole=True),
    "dropout": Range(0.1, 0.7),
    "learning_rate": Range(3e-4, 3e-3, log=True),
    "epochs": Range(5, 100, log=True, whole=True),
}
_TWO_TOWER_SPACE: Space = {
    "factors": (32, 64, 128),
    "temperature": Range(0.03, 0.3, log=True),
    "learning_rate": Range(3e-4, 1e-2, log=True),
    "epochs": Range(5, 100, log=True, whole=True),
}
_SVD_SPACE: Space = {
    "factors": (20, 50, 100, 200),
    "regularization": Range(5e-3, 0.2, log=True),
    "user_regularization": Range(0.02, 1.0, log=True),
    "epochs": Range(10, 80, log=True, whole=True),
}
_CONTENT_SPACE: Space = {"items_min": Range(1, 10, whole=True), "item_terms_max": (20, 50, 200)}
ITEM_KINDS: Mapping[str, ItemKind[Any]] = {
    "als": ItemKind(AlsOptions, fit_als, AlsModel.restore, _ALS_SPACE, go_on=_go_on_als),
    "bpr": ItemKind(BprOptions, fit_bpr, Bpr.restore, _BPR_SPACE),
    "blend": ItemKind(ItemBlendOptions, _fit_blend, _read_blend, figures=_blend_figures, faults=_blend_faults),
    "content": ItemKind(ContentOptions, _fit_content, ContentModel.read, _CONTENT_SPACE, reads_items=True),
    "ease": ItemKind(EaseOptions, fit_ease, ItemToItem.read, _EASE_SPACE),
    "graph_filter": ItemKind(GraphFilterOptions, fit_graph_filter, ItemToItem.read, _GRAPH_FILTER_SPACE),
    "item_knn": ItemKind(ItemKnnOptions, fit_item_knn, ItemToItem.read, _ITEM_KNN_SPACE),
    "popular": ItemKind(popular.PopularOptions, popular.fit, popular.restore, {"once": (True, False)}),
    "rp3beta": ItemKind(Rp3betaOptions, fit_rp3beta, ItemToItem.read, _RP3BETA_SPACE),
    "sasrec": ItemKind(SasrecOptions, fit_sasrec, SequenceModel.restore, _SASREC_SPACE, _sasrec_files),
    "svd": ItemKind(SvdOptions, _fit_svd, Svd.restore, _SVD_SPACE),
    "two_tower": ItemKind(TwoTowerOptions, fit_two_tower, TwoTowerModel.restore, _TWO_TOWER_SPACE),
}
"""Name → kind."""


def item_kind(name: str) -> ItemKind[Any]:
    """Return the kind of that name.

    Raises:
        Invalid: There is none.
    """
    if name not in ITEM_KINDS:
        came = f"{name!r} is no kind of item model.{nearest(name, ITEM_KINDS)}"
        raise Invalid((Fault("model", came, "one of " + ", ".join(ITEM_KINDS), _PAGE),))
    return ITEM_KINDS[name]


def is_told_items(name: str, options: Mapping[str, object]) -> bool:
    """Return whether a kind with some options, which are valid, reads the content of items; no row model does."""
    if name not in ITEM_KINDS:
        return False
    kind = ITEM_KINDS[name]
    return kind.reads_items or any(ITEM_KINDS[each.kind].reads_items for each in blend_parts(kind.decoded(options)))
