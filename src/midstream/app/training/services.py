"""Continuous training of an open folder: the loop with what trains, measures and tries, as one of its services."""

import asyncio
from dataclasses import replace
from pathlib import Path

from midstream.app.training.candidate_maker import ChildMaker
from midstream.app.training.experiment_trials import ExperimentTrials
from midstream.engine.instance import Instance
from midstream.engine.trainings.candidates import LoopParts
from midstream.engine.trainings.overdue import overdue_listener
from midstream.engine.trainings.training_loop import TrainingLoop

LEASE = "trainings"


def training_loop(running: Instance, folder: Path, turn: asyncio.Lock | None = None) -> TrainingLoop:
    """Return the loop of an open folder, not started.

    Args:
        running: The open folder.
        folder: Of its configuration.
        turn: Of trainings, shared by the engines of one process; None = its own.
    """
    if running.canaries is None or running.online is None:
        message = "a folder that is open has experiments and online metrics"
        raise AssertionError(message)
    return TrainingLoop(
        LoopParts(
            running.engine,
            running.champions,
            ChildMaker(folder, lambda: running.service.config),
            ExperimentTrials(running.engine, running.canaries),
            lambda: running.service.config.trainings,
            turn or asyncio.Lock(),
            running.online.miscalibrated_since,
        )
    )


def with_trainings(running: Instance, folder: Path, turn: asyncio.Lock | None = None) -> Instance:
    """Return an instance with the loop of its configuration as its last service; see ``training_loop``."""
    loop = training_loop(running, folder, turn)
    if running.leases is not None:
        loop.share(running.leases.lease(LEASE))
    engine = running.engine
    tables = lambda: running.service.config.trainings  # noqa: E731  read anew at each look
    engine.listeners.add(overdue_listener(tables, loop.journal, engine.metrics, engine.clock))
    return replace(running, services=(*running.services, loop), trainings=loop)
