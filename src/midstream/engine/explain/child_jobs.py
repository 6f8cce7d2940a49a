"""Jobs of child processes that callers poll: one child at a time, a bounded queue, and results kept for a while.

A child that folds the log needs the memory of the state once more, so it takes turns with those that write snapshots
and seal history: the lock is shared.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeAlias

from midstream.core.errors import MidstreamError, Overloaded, RequestInvalid
from midstream.engine import child_process
from midstream.engine.engine import Engine

Run: TypeAlias = Callable[[str, child_process.WorkOrder, child_process.Notify], Awaitable[child_process.Ended]]
REASON_CHARACTERS_MAX = 300
"""Length of an exception's text in a problem document."""


@dataclass(frozen=True, slots=True)
class JobTerms:
    """Bounds of the jobs of one kind, and its words."""

    child: str
    """Module of the child process."""
    plural: str
    """In words and in metrics."""
    waiting_max: int
    kept_max: int
    """Results in memory."""
    kept_s: float
    """Lifetime of a result."""
    job_s_max: float
    by_hand: str
    """What takes the time that it takes, in words."""
    failed: Callable[[str], MidstreamError]
    """Makes the error of a job that did not come to its end."""


@dataclass(slots=True, eq=False)
class ChildJob:
    """One result of a child process, made or being made."""

    order: child_process.WorkOrder
    state: str = "waiting"
    """``waiting``, ``running``, ``done`` or ``failed``."""
    stage: str = ""
    """What its process does, in a word."""
    progress: float = 0.0
    """Share of the events that its state has, 0 to 1."""
    result: bytes = b""
    """JSON of the answer; empty until it is done."""
    error: MidstreamError | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ended_at: float = 0.0
    """Monotonic."""
    is_told: bool = False
    """A caller that waited has its end."""

    @property
    def is_anew(self) -> bool:
        """Whether it is begun anew for the next caller.

        A failed one is, but not before its reason was told, as a caller that polls would never see it; a question that
        was refused is refused as long as results are kept.
        """
        return self.state == "failed" and self.is_told and not isinstance(self.error, RequestInvalid)


class ChildJobs:
    """Makes results, on the event loop of the engine."""

    def __init__(self, engine: Engine, turn: asyncio.Lock, terms: JobTerms, run: Run) -> None:
        """Begin without a job.

        Args:
            engine: Its clock and metrics.
            turn: Held while a child runs.
            terms: Bounds and words.
            run: Runs the child.
        """
        self._engine = engine
        self._turn = turn
        self._terms = terms
        self._run = run
        self._jobs: dict[Hashable, ChildJob] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, key: Hashable, order: child_process.WorkOrder) -> ChildJob:
        """Return the job of a key, begun now unless it was before.

        Raises:
            Overloaded: As many wait as may.
        """
        terms = self._terms
        self._forget()
        job = self._jobs.get(key)
        if job is not None and not job.is_anew:
            return job
        if sum(each.state in {"waiting", "running"} for each in self._jobs.values()) > terms.waiting_max:
            self._engine.metrics.count_overload(terms.plural)
            message = f"{terms.waiting_max} {terms.plural} wait for the one that is being made"
            raise Overloaded(message)
        job = self._jobs[key] = ChildJob(order)
        task = asyncio.get_running_loop().create_task(self._make(job), name=f"midstream-{terms.plural}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def wait(self, job: ChildJob, timeout_s: float) -> bool:
        """Wait until a job has ended; return False when the time is over before."""
        try:
            async with asyncio.timeout(timeout_s):
                await job.ended.wait()
        except TimeoutError:
            return False
        job.is_told = True
        return True

    async def stop(self) -> None:
        """End the running job."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _make(self, job: ChildJob) -> None:
        try:
            async with self._turn:
                job.state = "running"
                job.result = await self._result(job)
                job.state = "done"
        except MidstreamError as error:
            job.state, job.error = "failed", error
        finally:
            if job.state in {"waiting", "running"}:  # stopped, or an error that nobody foresaw, which goes on from here
                job.state = "failed"
                job.error = self._terms.failed(f"it was ended by {sys.exception()!r}"[:REASON_CHARACTERS_MAX])
            job.ended_at = self._engine.host.monotonic()
            job.ended.set()

    async def _result(self, job: ChildJob) -> bytes:
        terms = self._terms

        def notify(stage: str, done: int, total: int) -> None:
            job.stage, job.progress = stage, done / max(total, 1)

        try:
            async with asyncio.timeout(terms.job_s_max):
                ended = await self._run(terms.child, job.order, notify)
        except TimeoutError as error:
            message = f"it was not made within {terms.job_s_max:g} s; {terms.by_hand} takes what it takes"
            raise terms.failed(message) from error
        if ended.faults:
            raise RequestInvalid(ended.faults)
        if not ended.line:
            raise terms.failed(ended.reason)
        return ended.line

    def _forget(self) -> None:
        """Drop results that are old, and the oldest of too many."""
        now, terms = self._engine.host.monotonic(), self._terms
        over = [key for key, job in self._jobs.items() if job.ended.is_set()]
        surplus = max(0, len(over) - terms.kept_max + 1)
        for place, key in enumerate(over):
            if place < surplus or now - self._jobs[key].ended_at > terms.kept_s:
                del self._jobs[key]
