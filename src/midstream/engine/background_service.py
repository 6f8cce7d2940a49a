"""Supervised background loops: error handling and back-off for all periodic work beside events and requests.

Without supervision a loop would end at its first error without notice: segments would not be sealed any more, snapshots
would get old. So an error of a round is shown in health and counted, the next round comes after a wait that doubles up
to a minute, and a good round clears the concern. Unexpected errors also go to the event loop's handler. Work with one
end, such as a rewrite, is no service: it keeps its own outcome.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping

from midstream.core.errors import MidstreamError
from midstream.core.tracebacks import Raised, raised_of
from midstream.monitoring.metrics import Metrics

BACK_OFF_S_MIN = 1.0
"""Wait after the first error: a shortage, such as of descriptors, often ends when some requests have ended."""
BACK_OFF_S_MAX = 60.0
"""A loop that waits longer by itself is tried again sooner than it would come round."""
DOUBLINGS_MAX = 6
"""From one to the other; a thousand doublings, which are 17 hours of errors, are more than a float holds."""
Round = Callable[[], Awaitable[None]]


class BackgroundService:
    """One loop with a start, a stop and a health; its rounds come one after another on the event loop."""

    def __init__(
        self,
        name: str,
        one_round: Round,
        pause_s: float,
        concerns: MutableMapping[str, str],
        metrics: Metrics,
        *,
        first_s: float | None = None,
    ) -> None:
        """Prepare a loop that is not started.

        Args:
            name: Stable, ``snake_case``: label of its metrics and, behind ``midstream-``, the name of its task.
            one_round: Does the work that is due.
            pause_s: Between the end of a round and the next.
            concerns: Gets the name of an error, for health.
            metrics: Counts errors.
            first_s: Before the first round; None = ``pause_s``.
        """
        self.name = name
        self._round = one_round
        self._pause_s = pause_s
        self._first_s = pause_s if first_s is None else first_s
        self.back_off_s_max = BACK_OFF_S_MAX
        """Longest wait after an error; to be set before the start."""
        self._concerns = concerns
        self._metrics = metrics
        self.errors = 0
        """One after another, up to now."""
        self.errors_sum = 0
        """Of all rounds; a good one leaves it as it is."""
        self.raised: Raised | None = None
        """What the last of them was, without what it says."""
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether its loop runs."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin on the running event loop."""
        self._is_stopping = False
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"midstream-{self.name}")
        self._task.add_done_callback(self._ended)
        self._metrics.background_running.labels(self.name).set(True)
        self._metrics.background_errors.labels(self.name)  # at 0, so that the first one is an increase

    async def stop(self) -> None:
        """End it, in the middle of a round too."""
        self._is_stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def health(self) -> str:
        """Return its error, empty = healthy."""
        return self._concerns.get(self._concern, "")

    @property
    def _concern(self) -> str:
        return f"background-{self.name}"

    async def _run(self) -> None:
        await asyncio.sleep(self._first_s)
        while True:
            # A cancellation goes through to the round and ends both.
            (error,) = await asyncio.gather(self._round(), return_exceptions=True)
            if error is None:
                self._note_good()
                await asyncio.sleep(self._pause_s)
            else:
                wait_s = min(BACK_OFF_S_MIN * 2 ** min(self.errors, DOUBLINGS_MAX), self.back_off_s_max)
                self._note(error, wait_s)
                await asyncio.sleep(wait_s)

    def _note_good(self) -> None:
        if self.errors:
            self.errors = 0
            self._concerns.pop(self._concern, None)

    def _note(self, error: BaseException, wait_s: float) -> None:
        """Record the error of a round; it goes to the event loop once, until it changes or a round succeeds."""
        raised = raised_of(error)
        is_new = self.errors == 0 or raised != self.raised
        self.errors += 1
        self.errors_sum += 1
        self.raised = raised
        self._metrics.background_errors.labels(self.name).inc()
        reason = f"{type(error).__name__}: {error}"
        self._concerns[self._concern] = (
            f"{self.name} in the background failed, {self.errors} times one after another, "
            f"and is tried again in {wait_s:g} s: {reason}"
        )
        if is_new and not isinstance(error, (MidstreamError, OSError, MemoryError)):
            context = {"message": f"a round of {self.name} ended by a bug", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Record an unrequested end."""
        self._metrics.background_running.labels(self.name).set(False)
        if self._is_stopping:
            return
        error = None if task.cancelled() else task.exception()
        self.errors += 1
        self.errors_sum += 1
        self.raised = Raised("CancelledError", ()) if error is None else raised_of(error)
        said = "it was cancelled" if error is None else f"{type(error).__name__}: {error}"
        self._concerns[self._concern] = f"{self.name} in the background ended and goes on at the next start: {said}"
