"""Features as of a past moment from the log, made by one child process at a time for callers that poll.

The child folds the log up to the moment by the code of ``midstream features as-of``, from the nearest snapshot before
it. A moment that is too far from one is refused with the command, which has no such bound.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from midstream.core.errors import Fault, FeatureFailed, NotFound, RequestInvalid
from midstream.engine import child_process
from midstream.engine.engine import Engine
from midstream.engine.explain.child_jobs import ChildJob, ChildJobs, JobTerms, Run

CHILD = "midstream.app.point_in_time.worker"
PAGE = "/docs/features.md#as-of"
COMMAND = "`midstream features as-of`"
ITEMS_MAX = 20
"""Items of a question."""
EVENTS_MAX = 5_000_000
"""From the nearest snapshot to the moment: 50 s at 100,000 a second, a third of an idle machine's rate."""
JOB_S_MAX = 60.0
WAITING_MAX = 4
"""Queued jobs; at 3 s each, the start of a process and 300,000 events, the last waits 15 s."""
KEPT_MAX = 64
"""Cached results; 20 items of 40 features take 16 kB."""
KEPT_S = 60.0
"""Lifetime of a cached result: an act that is taken back and a changed configuration are seen after it."""


class PastOrder(child_process.WorkOrder, frozen=True):
    """The question."""

    time_ms: int
    items: tuple[str, ...]
    user_id: str | None = None
    session_id: str | None = None
    features: tuple[str, ...] | None = None
    """Names; None = all that are declared."""
    erased: tuple[int, ...] = ()
    """Hashes of erased users of whom the files of the log still hold what was: no session of theirs is read."""
    events_max: int = EVENTS_MAX


@dataclass(frozen=True, slots=True)
class PastQuestion:
    """Features that are asked for as of a moment."""

    time_ms: int
    items: tuple[str, ...]
    user_id: str | None = None
    session_id: str | None = None
    features: tuple[str, ...] | None = None


def iso(time_ms: int) -> str:
    """Return a time in UTC as ISO 8601.

    Example:
        >>> iso(0)
        '1970-01-01T00:00:00.000Z'
    """
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class PastFeatures:
    """Reads features as of past moments, on the event loop of the engine."""

    def __init__(self, engine: Engine, folder: Path, turn: asyncio.Lock, run: Run = child_process.run) -> None:
        """Read the log of a folder.

        Args:
            engine: Has the log open.
            folder: Of the configuration file and the data.
            turn: Held while a child runs.
            run: Runs the child.
        """
        self._engine = engine
        self._folder = folder
        terms = JobTerms(
            CHILD, "past_features", WAITING_MAX, KEPT_MAX, KEPT_S, JOB_S_MAX, COMMAND, failed=FeatureFailed
        )
        self._jobs = ChildJobs(engine, turn, terms, run)

    def begin(self, asked: PastQuestion) -> ChildJob:
        """Return the job that answers a question, begun now unless it was before.

        Raises:
            RequestInvalid: The moment is in the future.
            NotFound: The user was erased, and the log still has to be rewritten.
            Overloaded: As many wait as may.
        """
        now_ms = self._engine.clock()
        if asked.time_ms > now_ms:
            right = f"A moment up to now, {iso(now_ms)}."
            raise RequestInvalid((Fault("time", f"{iso(asked.time_ms)} is in the future.", right, PAGE),))
        self._require_not_erased(asked.user_id)
        erasures = self._engine.fold.vocabulary.erasures
        erased = tuple(dict.fromkeys(int(each.user_hash) for each in erasures.pending)) if asked.session_id else ()
        order = PastOrder(
            str(self._folder), asked.time_ms, asked.items, asked.user_id, asked.session_id, asked.features, erased
        )
        # What was read before an erasure answers nobody after it.
        return self._jobs.begin((asked, erasures.newest), order)

    def _require_not_erased(self, user_id: str | None) -> None:
        """Refuse a user of whom the files of the log still hold what was erased.

        Raises:
            NotFound: It is one.
        """
        if user_id is None:
            return
        vocabulary = self._engine.fold.vocabulary
        hashes = {vocabulary.user_hash_of(user_id), vocabulary.id_hash_of(user_id)}
        if any(each.user_hash in hashes for each in vocabulary.erasures.pending):
            message = "This user was erased: nothing of the time before is shown."
            raise NotFound(message)

    async def wait(self, job: ChildJob, timeout_s: float) -> bool:
        """Wait until a job has ended; return False when the time is over before."""
        return await self._jobs.wait(job, timeout_s)

    async def stop(self) -> None:
        """End the running job."""
        await self._jobs.stop()
