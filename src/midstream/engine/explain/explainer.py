"""Explanation service for logged requests: one child process at a time, results cached for some minutes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from midstream.core.errors import ExplanationFailed
from midstream.engine import child_process
from midstream.engine.answer.lookups import require_asker, served_body
from midstream.engine.engine import Engine
from midstream.engine.explain.child_jobs import ChildJob, ChildJobs, JobTerms, Run

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


class ExplainOrder(child_process.WorkOrder, frozen=True):
    """The request to be explained."""

    position: int
    """Log position of the served event."""
    request_id: str
    items: tuple[str, ...]


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
        by_hand = "`midstream explain`"
        terms = JobTerms(
            CHILD, "explanations", WAITING_MAX, KEPT_MAX, KEPT_S, JOB_S_MAX, by_hand, failed=ExplanationFailed
        )
        self._jobs = ChildJobs(engine, turn, terms, run)

    def begin(self, request_id: str, items: Sequence[str] = ()) -> ChildJob:
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
        order = ExplainOrder(str(self._folder), position, request_id, tuple(items))
        return self._jobs.begin((request_id, order.items), order)

    async def wait(self, job: ChildJob, timeout_s: float) -> bool:
        """Wait until a job has ended; return False when the time is over before."""
        return await self._jobs.wait(job, timeout_s)

    async def stop(self) -> None:
        """End the running job."""
        await self._jobs.stop()
