"""Engine opened with inputs and outputs, as an app serves it: in a process of its own, or in another application."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from midstream.app.config.schema import Config
from midstream.app.inputs.services import require_secrets, with_inputs
from midstream.app.opening import DATA_NAME, Outside, open_running
from midstream.app.output_services import with_outputs
from midstream.app.server.freshness import with_probe
from midstream.app.tracing import with_tracing
from midstream.app.training.services import with_trainings
from midstream.engine.child_process import Notify, nobody
from midstream.engine.experiments.live_report import ExperimentReports
from midstream.engine.folder import DataFolder
from midstream.engine.inputs.input_group import InputGroup
from midstream.engine.instance import Instance
from midstream.engine.outbox.output_group import OutputGroup
from midstream.engine.replication.snapshot_shelf import SnapshotShelf
from midstream.events.machine_code.ahead import Compiled
from midstream.events.machine_code.behind import CompilationBehind
from midstream.events.wire import Accept, Limits
from midstream.monitoring.facts import Fact, Facts, FieldValue
from midstream.serving.app import Maintenance
from midstream.serving.run import FollowerGroup, OpenedEngine

_LIMITS = Limits()
"""Of one request."""
EXAMPLE_S = 60.0
"""Age of the time that messages give as an example."""


def open_with_groups(
    folder: Path, config: Config, notify: Notify = nobody, outside: Outside | None = None
) -> tuple[Instance, InputGroup, OutputGroup]:
    """Open a folder with its inputs and outputs; start what is returned.

    Args:
        folder: Of the configuration and the data.
        config: To be put in service.
        notify: Receives the progress of the fold.
        outside: Time, randomness and turns; None = those of the machine.

    Raises:
        FolderLocked: Another process has the folder open.
        ConfigInvalid: Something of it cannot be used; every fault is named.
        LogDamaged: The log cannot be trusted; nothing was changed.
    """
    require_secrets(config.inputs)
    require_secrets(config.outputs, name="outputs")
    running, inputs = with_inputs(
        open_running(folder, config, outside=outside, notify=notify, may_serve_before=True), config
    )
    running, outputs = with_outputs(running, DataFolder(folder / DATA_NAME))
    running = with_trainings(running, folder, None if outside is None else outside.training_turn)
    running = with_probe(running, DataFolder(folder / DATA_NAME), config, AcceptNow(running))
    running = with_tracing(running, config)
    running = replace(
        running, services=(*running.services, CompilationBehind(partial(_note_compiled, running.engine.facts)))
    )
    return running, inputs, outputs


def _note_compiled(facts: Facts, compiled: Compiled) -> None:
    """Log what was compiled behind the start."""
    fields: dict[str, FieldValue] = {"kernels": compiled.kernels, "seconds": round(compiled.seconds, 1)}
    facts.note(Fact("kernels_compiled", fields=fields))
    for failure in compiled.failures:
        facts.note(Fact("kernel_not_compiled", "warning", {"reason": failure}, failure.partition(":")[0]))


def opened_engine(
    folder: Path | None,
    running: Instance,
    inputs: InputGroup | None = None,
    outputs: OutputGroup | None = None,
    company: FollowerGroup | None = None,
) -> OpenedEngine:
    """Return a started engine with all that an app needs of it; without the folder no node joins by its snapshots."""
    upkeep = Maintenance(
        running.rebuilder,
        running.eraser,
        running.champions,
        running.explainer,
        running.placing,
        running.experimenting,
        None if folder is None else SnapshotShelf(DataFolder(folder / DATA_NAME)),
        inputs,
        outputs,
        running.sinks,
        running.trainings,
        running.online,
        reports_of(running),
        None if folder is None else DataFolder(folder / DATA_NAME),
        running.tracing,
        running.past,
    )
    return OpenedEngine(running.engine, AcceptNow(running), running.ingest, upkeep, company)


class AcceptNow:
    """The terms on which a server takes events now: made anew with another configuration, and once a minute.

    Their time stands in messages alone, as an example of one.
    """

    def __init__(self, running: Instance) -> None:
        """Begin with those of now."""
        self._running = running
        self._of: Accept | None = None
        self._until_s = 0.0
        self._made = Accept(frozenset(), 0)

    def __call__(self) -> Accept:
        """Return the terms; the same object as long as nothing of them has changed."""
        running = self._running
        accept, now_s = running.service.accept, running.engine.host.monotonic()
        if accept is not self._of or now_s >= self._until_s:
            self._of, self._until_s = accept, now_s + EXAMPLE_S
            self._made = msgspec.structs.replace(accept, limits=_LIMITS, now_ms=running.engine.clock())
        return self._made


def reports_of(running: Instance) -> ExperimentReports | None:
    """Return the live reports of an instance's experiments; None = it watches none."""
    if running.watch is None:
        return None
    return ExperimentReports(running.engine, running.experimenting, running.watch)
