"""Training by hand as the loop does it: through the server that has the folder open, else in this process."""

import asyncio
from pathlib import Path

from midstream.app.config.schema import Config
from midstream.app.opening import open_running
from midstream.app.operate.trainings import order_training
from midstream.app.training.services import training_loop
from midstream.engine.trainings.views import TrainingView


def run_training(folder: Path, config: Config, model: str) -> TrainingView:
    """Train a model as its table says; without a server the gates have decided when this returns.

    Raises:
        NotFound: There is no table of it.
        Overloaded: A candidate of it is being tried.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        StoreUnavailable: The server that has it open does not answer.
    """
    found = order_training(folder, model)
    return asyncio.run(_here(folder, config, model)) if found is None else found


async def _here(folder: Path, config: Config, model: str) -> TrainingView:
    async with open_running(folder, config) as running:
        return await training_loop(running, folder).train_now(model)
