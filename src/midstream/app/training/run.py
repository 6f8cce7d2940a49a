"""Training runs: a child process for each, with progress, limits and cleanup."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from midstream.app.config.schema import Config, Model
from midstream.app.opening import DATA_NAME, Outside
from midstream.app.operate.model_registry import list_models, promote
from midstream.app.server_address import read_address
from midstream.app.training.fit import Trained, model_named
from midstream.app.training.warm_start import require_goes_on, version_of
from midstream.app.training.worker import TrainingOrder
from midstream.core.errors import FitStopped, Invalid, StoreUnavailable
from midstream.engine import child_process
from midstream.engine.child_process import Ended, Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.models.standing_models import CHAMPION
from midstream.monitoring.fact_logger import log_fact
from midstream.monitoring.facts import Fact, FieldValue
from midstream.training.registry import Registry

CHILD = "midstream.app.training.worker"
GRACE_S = 60.0
"""Beyond ``time_max``: to start, and for the step that is under way when the time is over."""


def train(folder: Path, config: Config, name: str, notify: Notify = nobody, start: str = "") -> Trained:
    """Fit a model of a configuration on the log of a folder as it is now, and publish it as a new version.

    A server that has the folder open continues; the version in service does not change.

    Args:
        folder: Holds the data.
        config: Names the model.
        name: Of the model.
        notify: Receives the progress.
        start: Parent of a warm start: an alias, a version, its number or first digits; empty = none.

    Raises:
        NotFound: No such model is configured, or no such version exists.
        Invalid: There is nothing to learn from, or the parent version does not fit the model.
        FitStopped: It failed or reached its limit of time or memory, the text has the cause; nothing was published.
        KeyboardInterrupt: It was interrupted; nothing was published, and its files are removed.
    """
    origin = TrainingOrigin(start, _champion_of(folder, config, name))
    return asyncio.run(train_beside(folder, config, name, origin, notify))


@dataclass(frozen=True, slots=True)
class TrainingOrigin:
    """Versions before a training, and the log that it may learn."""

    start: str = ""
    """Parent of a warm start: an alias, a version, its number or first digits; empty = none."""
    champion: str = ""
    """Version in service; empty = none, or it is not known."""
    since_ms: int = 0
    """Log time of an alarm, before which a whole fit of a ranker learns nothing once enough came since; 0 = none."""


async def train_beside(
    folder: Path, config: Config, name: str, origin: TrainingOrigin, notify: Notify = nobody
) -> Trained:
    """Train a model on the running event loop, as ``train`` does, which says what is raised.

    Args:
        folder: Holds the data.
        config: Names the model.
        name: Of the model.
        origin: What it goes on from, is compared with and learns.
        notify: Receives the progress.
    """
    model = model_named(config, name)
    registry = Registry(DataFolder(folder / DATA_NAME).models, config.registry.version_bytes_max)
    order = await asyncio.to_thread(_order, folder, config, name, origin)
    fields: dict[str, FieldValue] = {"model": name, "kind": model.kind}
    log_fact(Fact("training_begun", fields={**fields, "start": order.start}))
    began = Outside().monotonic()
    try:
        ended = await _run(order, model.time_max.ms / 1_000, notify)
    finally:
        registry.clean()
    fields["seconds"] = round(Outside().monotonic() - began, 1)
    if not ended.line:
        log_fact(Fact("training_failed", "error", fields, detail=ended.reason))
    if ended.faults:
        raise Invalid(ended.faults)
    if ended.reason:
        raise FitStopped(_why_not(model, ended))
    trained = msgspec.json.decode(ended.line, type=Trained)
    log_fact(Fact("training_ended", fields={**fields, "version": trained.version}))
    return trained


def _order(folder: Path, config: Config, name: str, origin: TrainingOrigin) -> TrainingOrder:
    """Return the order of a child, with the parent version looked up; remains of other trainings are removed."""
    model, data = model_named(config, name), DataFolder(folder / DATA_NAME)
    registry = Registry(data.models, config.registry.version_bytes_max)
    version = version_of(folder, config, name, origin.start) if origin.start else ""
    if version:
        require_goes_on(model, version, registry.manifest(name, version))
    registry.clean()
    return TrainingOrder(
        folder=str(folder.absolute()),
        config=msgspec.json.encode(config, enc_hook=str).decode(),
        name=name,
        made_ms=Outside().clock(),
        start=version,
        champion=origin.champion,
        since_ms=origin.since_ms,
        hurried=read_address(data.root) is None,
    )


def train_and_promote(folder: Path, config: Config, name: str, notify: Notify = nobody, start: str = "") -> Trained:
    """Train a model, and let the new version be the champion: it answers when this returns; raises as ``train`` does.

    Raises:
        ArtifactInvalid: The server that has the folder open refused it; the version stays, and so does the champion.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        StoreUnavailable: The server that has it open refused or did not answer.
    """
    done = train(folder, config, name, notify, start)
    notify("promoting", 1, 1)
    promote(folder, config, name, done.version)
    return done


def _champion_of(folder: Path, config: Config, name: str) -> str:
    """Return the version in service; empty = none, or the server that has the folder open does not say."""
    with suppress(StoreUnavailable):
        return {each.name: each.aliases for each in list_models(folder, config)}.get(name, {}).get(CHAMPION, "")
    return ""


def _why_not(model: Model, ended: Ended) -> str:
    """Return why there is no version; with its limits where the process could not say, as one that was killed."""
    if ended.is_told:
        return f"{model.name} was not trained: {ended.reason.removeprefix('FitStopped: ')}"
    limits = f"(time_max {model.time_max}, memory_bytes_max {model.memory_bytes_max:,})"
    return f"{model.name} was not trained {limits}: {ended.reason}"


async def _run(order: TrainingOrder, time_s_max: float, notify: Notify) -> Ended:
    """Run the process of a training to its end, or to that of its time."""

    def told(stage: str, done: int, total: int) -> None:
        notify(stage.replace("_", " "), done, total)

    wait_s = time_s_max + GRACE_S
    try:
        async with asyncio.timeout(wait_s):
            return await child_process.run(CHILD, order, told, stall_s=2 * wait_s)
    except TimeoutError:
        text = f"time_max of {time_s_max:g} s is over, and the step under way did not end; it was ended"
        return Ended(b"", text, is_told=True)
