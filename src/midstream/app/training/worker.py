"""Child process that fits a model, beside a server at a lower priority, within its time and memory.

Memory is bounded by the address space (``RLIMIT_AS``) beyond that at the moment when the state's tables were reserved,
so an allocation beyond it fails where it is made, and the error names the limit. Time is checked at each step of the
fit; the parent ends a step that takes longer than all of it.
"""

import os
import resource
import signal
import time
from pathlib import Path

import msgspec

from midstream.app.config.schema import Config
from midstream.app.training.fit import Fitting, Trained, fit_and_publish, model_named
from midstream.core.errors import FitStopped
from midstream.engine import child_process
from midstream.models.model import Watch
from midstream.state.settings import read_duration

SHARES = 1_000
"""Of progress, which is told in whole numbers."""
_PAGE = resource.getpagesize()


class TrainingOrder(child_process.WorkOrder, frozen=True):
    """A training; it is hurried where no server has the folder open."""

    config: str
    """The effective configuration, as JSON."""
    name: str
    made_ms: int
    start: str
    """The version that is gone on from; empty = none."""
    champion: str
    """The version in service; empty = none, or it is not known."""
    since_ms: int = 0
    """Log time of an alarm, before which a whole fit of a ranker learns nothing once enough came since; 0 = none."""


def decode_config(text: str) -> Config:
    """Return the configuration that was written as JSON."""
    return msgspec.json.decode(text, type=Config, dec_hook=read_duration)


def watch_of(time_ms_max: int, parent: int) -> Watch:
    """Return a watch that reports progress, and stops when the time is over or the parent is gone."""
    until = time.monotonic() + time_ms_max / 1_000

    def stopped() -> bool:
        if time.monotonic() > until:
            message = f"time_max of {time_ms_max / 1_000:g} s is over"
            raise FitStopped(message)
        return os.getppid() != parent

    def tell(text: str, share: float) -> None:
        child_process.say_progress("_".join(text.split()) or "fitting", round(share * SHARES), SHARES)

    return Watch(tell, stopped)


def limit_memory(byte_count: int) -> None:
    """Limit this process to so many bytes beyond its current address space."""
    mapped = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * _PAGE
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = mapped + byte_count
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def run(order: TrainingOrder, _pace: child_process.Pace) -> Trained:
    """Fit the model that was ordered, and publish it.

    Raises:
        FitStopped: It needed more memory than it may have, or its time is over.
        MidstreamError: It cannot be fitted or published.
        OSError: The disk.
    """
    config = decode_config(order.config)
    model = model_named(config, order.name)
    watch = watch_of(model.time_max.ms, os.getppid())
    versions = order.start, order.champion
    fitting = Fitting(Path(order.folder), config, order.name, order.made_ms, *versions, order.since_ms)
    try:
        return fit_and_publish(fitting, watch, limit_memory)
    except MemoryError as error:
        message = f"more memory was needed than memory_bytes_max of {model.memory_bytes_max:,}; nothing was published"
        raise FitStopped(message) from error


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; who waits ends this process
    child_process.main(TrainingOrder, run, logs_bugs=False)
