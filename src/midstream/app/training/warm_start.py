"""Warm start: the parent version of a training run, the log range that it has learned, and whether it may be judged.

A linear model that learns row by row (``ftrl``) continues with rows after those that it has learned: its next version
costs the new rows alone. ALS is fitted on all acts again, and begins with the parent's factors, so it needs fewer
iterations. All other kinds are fitted from all of the data at once, and always anew.
"""

from pathlib import Path

from midstream.app.config.schema import Config, Model
from midstream.app.operate.model_registry import list_models, registry_of
from midstream.core.errors import Fault, Invalid, NotFound
from midstream.core.types import LogPosition
from midstream.events.segments.log_identity import LogIdentity
from midstream.models.artifact.artifact import Manifest, Window
from midstream.models.kinds import ITEM_KINDS, ROW_KINDS
from midstream.models.model import ItemModel, RowModel, is_item_model, is_row_model
from midstream.state.control.promotions import ALIASES
from midstream.training.registry import LoadedVersion

PAGE = "/docs/models.md"


def version_of(folder: Path, config: Config, name: str, told: str) -> str:
    """Return the version of an alias, a version, its number or first digits.

    Raises:
        NotFound: There is none; or the alias has no version.
        LogDamaged: The log cannot be trusted.
        StoreUnavailable: A server has the folder open and does not answer.
    """
    if told not in ALIASES:
        return registry_of(folder).find(name, told)
    aliases = {each.name: each.aliases for each in list_models(folder, config)}.get(name, {})
    if told not in aliases:
        message = f"{name} has no {told} to go on from. A training without --from, and a promotion, make one."
        raise NotFound(message)
    return aliases[told]


def loaded_parent(folder: Path, model: Model, version: str, log: LogIdentity) -> LoadedVersion:
    """Return the parent version of a warm start.

    Raises:
        Invalid: Its kind cannot continue, or the version is of another kind, or of another log.
        NotFound: It does not exist.
        ArtifactInvalid: It is damaged.
    """
    registry = registry_of(folder)
    require_goes_on(model, version, registry.manifest(model.name, version))
    found = registry.load(model.name, version)
    if found.manifest.window.log_name != log.public_name:
        came = f"{version} was fitted on another log: which of these events it knows cannot be said."
        raise _refusal(came, "A version that was trained here, or a training without --from.")
    return found


def require_goes_on(model: Model, version: str, manifest: Manifest) -> None:
    """Refuse a warm start from a version of another kind, or of one that is always fitted anew.

    Raises:
        Invalid: It is one.
    """
    able = [name for name, kind in ITEM_KINDS.items() if kind.go_on is not None]
    able += [name for name, kind in ROW_KINDS.items() if kind.go_on is not None]
    if model.kind not in able:
        came = f"A model of kind {model.kind} is always fitted anew."
        raise _refusal(came, f"A training without it. Kinds that go on: {', '.join(able)}.")
    if manifest.kind != model.kind:
        came = f"{version} is of kind {manifest.kind}, and {model.name} of {model.kind}."
        raise _refusal(came, "A version of the same kind, or a training without --from.")


def item_parent(parent: LoadedVersion | None) -> ItemModel | None:
    """Return the item model of a version that is gone on from."""
    return parent.model if parent is not None and is_item_model(parent.model) else None


def row_parent(parent: LoadedVersion | None) -> RowModel | None:
    """Return the row model of a version that is gone on from."""
    return parent.model if parent is not None and is_row_model(parent.model) else None


def has_learned(window: Window, log: LogIdentity, position: int) -> bool:
    """Return whether a version may know acts of this log from a position on, so that they cannot evaluate it."""
    return window.generation != log.generation or max(window.end, window.known_end) > position


def known_end(end: int, before: Window | None, log: LogIdentity, log_end: LogPosition) -> int:
    """Return the log position from which on neither a version nor its ancestors know an event.

    Args:
        end: Log position behind the last event that it was fitted on.
        before: Of its parent; None = it has none.
        log: The log as it was fitted on.
        log_end: Behind the last event of that log: a version fitted on another generation of it knows none after.
    """
    if before is None:
        return end
    return max(end, before.end, before.known_end) if before.generation == log.generation else max(end, int(log_end))


def _refusal(came: str, right: str) -> Invalid:
    return Invalid((Fault("--from", came, right, PAGE),))
