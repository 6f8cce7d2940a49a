"""Explanation service for logged requests: one child process at a time, results cached for some minutes.

A child needs the memory of the state once more, so it takes turns with those that write snapshots and seal history.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from midstream.core.errors import ExplanationFailed, MidstreamError, Overloaded
from midstream.engine import child_process
from midstream.engine.answer.lookups import require_asker, served_body
from midstream.engine.engine import Engine

Run: TypeAlias = Callable[[str, child_process.WorkOrder, child_process.Notify], Awaitable[child_process.Ended]]
CHILD = "midstream.app.explain.worker"
ITEMS_MAX = 20
"""Further items of a request for an explanation."""
WAITING_MAX = 8
"""Queued jobs; at 5 s each, the start of a process and 100,000 events, the last waits 40 s."""
KEPT_MAX = 64
"""Cached results; 60 kB each with 100 items of 40 features, so 4 MB."""
KEPT_S = 600.0
"""Lifetime of a cached result."""
JOB_S_MAX = 300.0
"""A fold of 30 M events at 100,000 a second, a third of an idle machine's rate; more is for ``midstream explain``."""

REASON_CHARACTERS_MAX = 300
"""Length of an exception's text in a problem document."""


class ExplainOrder(child_process.WorkOrder, frozen=True):
    """The request to be explained."""

    position: int
    """Log position of the served event."""
    request_id: str
    items: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Job:
    """One explanation, made or being made."""

    order: ExplainOrder
    state: str = "waiting"
    """``waiting``, ``running``, ``done`` or ``failed``."""
    stage: str = ""
    """What its process does, in a word."""
    progress: float = 0.0
    """Share of the events that its state has, 0 to 1."""
    result: bytes = b""
    """JSON of ``core.answers.explanations.Explained``; empty until it is done."""
    error: MidstreamError | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ended_at: float = 0.0
    """Monotonic."""


class Explainer:
    """Makes explanations of logged requests, on the event loop of the engine."""

    def __init__(self, engine: Engine, folder: Path, turn: asyncio.Lock, run: Run = child_process.run) -> None:
        """Explain requests that ``engine`` answered.

        Args:
            engine: Has their log positions.
            folder: Of the configuration file and the data.
            turn: Held while a child runs.
            run: Runs the child.
        """
        self._engine = engine
        self._folder = folder
        self._turn = turn
        self._run = run
        self._jobs: dict[tuple[str, tuple[str, ...]], Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, request_id: str, items: Sequence[str] = ()) -> Job:
        """Return the job that explains a request, begun now unless it was before.

        Args:
            request_id: As the answer had it.
            items: At most ``ITEMS_MAX`` further ones to explain.

        Raises:
            NotFound: No such request is known, or its user was erased.
            Overloaded: As many wait as may.
        """
        position, body = served_body(self._engine.fold, self._engine.log, request_id)
        require_asker(body)  # and so before a result of then is given
        self._forget()
        key = (request_id, tuple(items))
        job = self._jobs.get(key)
        if job is not None and job.state != "failed":
            return job
        if sum(each.state in {"waiting", "running"} for each in self._jobs.values()) > WAITING_MAX:
            self._engine.metrics.count_overload("explanations")
            message = f"{WAITING_MAX} explanations wait for the one that is being made"
            raise Overloaded(message)
        job = self._jobs[key] = Job(ExplainOrder(str(self._folder), position, request_id, key[1]))
        task = asyncio.get_running_loop().create_task(self._make(job), name="midstream-explain")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def wait(self, job: Job, timeout_s: float) -> bool:
        """Wait until a job has ended; return False when the time is over before."""
        try:
            async with asyncio.timeout(timeout_s):
                await job.ended.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End the running job."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _make(self, job: Job) -> None:
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
                job.error = ExplanationFailed(f"it was ended by {sys.exception()!r}"[:REASON_CHARACTERS_MAX])
            job.ended_at = self._engine.host.monotonic()
            job.ended.set()

    async def _result(self, job: Job) -> bytes:
        def notify(stage: str, done: int, total: int) -> None:
            job.stage, job.progress = stage, done / max(total, 1)

        try:
            async with asyncio.timeout(JOB_S_MAX):
                ended = await self._run(CHILD, job.order, notify)
        except TimeoutError as error:
            message = f"it was not made within {JOB_S_MAX:g} s; `midstream explain` takes what it takes"
            raise ExplanationFailed(message) from error
        if not ended.line:
            raise ExplanationFailed(ended.reason)
        return ended.line

    def _forget(self) -> None:
        """Drop results that are old, and the oldest of too many."""
        now = self._engine.host.monotonic()
        over = [key for key, job in self._jobs.items() if job.ended.is_set()]
        surplus = max(0, len(over) - KEPT_MAX + 1)
        for place, key in enumerate(over):
            if place < surplus or now - self._jobs[key].ended_at > KEPT_S:
                del self._jobs[key]
