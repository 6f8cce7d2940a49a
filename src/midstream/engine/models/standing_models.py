"""Selection of the models in service by a log and a registry: at a start, and for readers of the log alone.

One function loads them for both, so that a server, a program that embeds the engine and a command name the same version
of the same model. A refused champion is replaced by the one before it, and each refusal is reported.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from midstream.core.errors import ArtifactInvalid, MidstreamError, ModelUnfit
from midstream.core.types import Models
from midstream.events.processes.thread_pace import Rest, no_rest
from midstream.experiments.names import is_document
from midstream.models.model import is_item_model
from midstream.models.pins import pin_key
from midstream.ranking.model_gate import unfit
from midstream.ranking.plan import Plan
from midstream.state.control.placements import PlacementVersion
from midstream.state.fold import Fold
from midstream.training.registry import LoadedVersion, Registry

CHAMPION = "champion"
REFUSALS = (MidstreamError, OSError, MemoryError)
"""Faults of a version, or missing libraries for it."""


class _Pinning(msgspec.Struct, frozen=True):
    """What is read of a placement that was set."""

    models: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class RefusedVersion:
    """A champion that is refused."""

    name: str
    """Of the model."""
    version: str
    error: BaseException

    @property
    def why(self) -> str:
        """The version and its fault, in one line."""
        return refusal_text(self.version, self.error)


@dataclass(frozen=True, slots=True)
class StandingModels:
    """The champions of a state, loaded."""

    loaded: Mapping[str, LoadedVersion]
    """By name of the model."""
    refused: Sequence[RefusedVersion]
    pinned: Mapping[str, LoadedVersion]
    """Versions that plans read in place of champions, by ``pin_key``."""
    unpinned: Sequence[RefusedVersion]
    """Such versions that are refused; nothing takes their place."""

    @property
    def models(self) -> Models:
        """As plans take them."""
        return models_of({**self.loaded, **self.pinned})

    @property
    def why_refused(self) -> Mapping[str, str]:
        """Last refusal of each model."""
        return {each.name: each.why for each in self.refused}


def standing_models(
    registry: Registry, fold: Fold, plans: Sequence[Plan], names: Sequence[str] | None = None
) -> StandingModels:
    """Load the champions of a state, and what plans pin; a refused champion is replaced by the one before it.

    Args:
        registry: Has the versions.
        fold: Has the aliases.
        plans: Have the names of the models, and of versions that they pin.
        names: Models to load; None = all.
    """
    loaded: dict[str, LoadedVersion] = {}
    refused: list[RefusedVersion] = []
    for row in fold.promotions.rows:
        if row.alias != CHAMPION or not row.version or (names is not None and row.model not in names):
            continue  # an alias that stands for none was withdrawn: the version before it is what was withdrawn
        for version, manifest in ((row.version, row.manifest), (row.previous, row.previous_manifest)):
            if not version:
                continue
            try:
                loaded[row.model] = _promoted(registry, fold, plans, (row.model, version, manifest))
            except REFUSALS as error:
                refused.append(RefusedVersion(row.model, version, error))
            else:
                break
    pinned: dict[str, LoadedVersion] = {}
    unpinned: list[RefusedVersion] = []
    for name, version in pins_of(plans):
        try:
            pinned[pin_key(name, version)] = read_version(registry, fold, name, version)
        except REFUSALS as error:
            unpinned.append(RefusedVersion(name, version, error))
    return StandingModels(loaded, refused, pinned, unpinned)


def pins_of(plans: Iterable[Plan]) -> list[tuple[str, str]]:
    """Return name and version of each model that plans read in place of the champion, in order."""
    return sorted({pin for plan in plans for pin in plan.pinned.items()})


def pins_said(rows: Iterable[PlacementVersion]) -> set[tuple[str, str]]:
    """Return name and version of each model that placements which were set pin, in force or not."""
    return {pin for each in rows if each.content and not is_document(each.name) for pin in _said(each.content).items()}


def _said(content: str) -> Mapping[str, str]:
    try:
        return msgspec.json.decode(content, type=_Pinning).models
    except (msgspec.MsgspecError, RecursionError):  # no server wrote it: its placement is set aside for that
        return {}


def readers_of(plans: Iterable[Plan], name: str) -> tuple[Plan, ...]:
    """Return the plans that read the champion of a model."""
    return tuple(plan for plan in plans if name in plan.model_names and name not in plan.pinned)


def _promoted(registry: Registry, fold: Fold, plans: Sequence[Plan], named: tuple[str, str, str]) -> LoadedVersion:
    """Return the version that was promoted: name, version, hash of the manifest."""
    name, version, manifest = named
    if registry.manifest_hash(name, version) != manifest:
        raise other_manifest(version)
    loaded = read_version(registry, fold, name, version)
    require_read(loaded, plans)
    return loaded


def other_manifest(version: str) -> ArtifactInvalid:
    """Return the fault of a version whose files are not those that were promoted."""
    return ArtifactInvalid(f"{version}: its manifest is not the one that was promoted")


def read_version(registry: Registry, fold: Fold, name: str, version: str, rest: Rest = no_rest) -> LoadedVersion:
    """Return a version whose items are hashed with the key of the state, so that no request waits for that."""
    loaded = registry.load(name, version, rest)
    if is_item_model(loaded.model):
        loaded.model.vocabulary.under(fold.vocabulary.id_key)
    return loaded


def require_read(loaded: LoadedVersion, plans: Sequence[Plan]) -> None:
    """Refuse a ranker whose inputs a placement that names it lacks: it would never answer there.

    Raises:
        ModelUnfit: Each fault of each placement is named.
    """
    models = models_of({loaded.name: loaded})
    faults = [fault for plan in readers_of(plans, loaded.name) for fault in unfit(plan, models, place_of(plan))]
    if faults:
        raise ModelUnfit(tuple(faults))


def told_of_models(plans: Sequence[Plan], refused: Mapping[str, str], versions: Mapping[str, str]) -> list[str]:
    """Return sentences about refused models, models without a version or unfit to rank, and replacements.

    Args:
        plans: Each once, with the models that they read.
        refused: The version and why, by name of the model.
        versions: In service, by name of the model.
    """
    told = [f"model {name} {why}; in service: {versions.get(name, 'none')}" for name, why in sorted(refused.items())]
    for name in sorted({name for plan in plans for name in plan.model_names} - {*versions, *refused}):
        if readers := readers_of(plans, name):
            without = ", ".join(plan.name for plan in readers)
            told.append(f"model {name} has no version in service, answered without it: {without}")
    for name, version in pins_of(plans):
        pinning = [plan for plan in plans if plan.pinned.get(name) == version and name not in plan.models.by_name]
        if pinning:
            without = ", ".join(plan.name for plan in pinning)
            told.append(f"version {version} of model {name} is not loaded, answered without it: {without}")
    # A change of the configuration may take from a ranker what it reads.
    faults = [fault for plan in plans for fault in unfit(plan, plan.models, place_of(plan))]
    told.extend(f"{fault.where} {fault.came}" for fault in faults)
    return told


def refusal_text(version: str, error: BaseException) -> str:
    """Return which version is refused and why, in one line."""
    return f"{version}: {type(error).__name__}: {' '.join(str(error).split())}"


def models_of(loaded: Mapping[str, LoadedVersion]) -> Models:
    """Return versions that answer, by name, as plans take them."""
    return Models(
        {name: each.model for name, each in loaded.items()},
        {name: each.version for name, each in loaded.items()},
        {name: line for name, each in loaded.items() if (line := each.manifest.calibration) is not None},
    )


def place_of(plan: Plan) -> Callable[[int], str]:
    """Return the pointer to a scorer of a plan, by its place in the ladder."""
    return lambda number: f"$.placements.{plan.name}.scorers[{number}]"
