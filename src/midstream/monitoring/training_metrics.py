"""Metrics of trainings: runs by result, refusals by gate, rollbacks, and when each model was trained last."""

from typing import Final, Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge

Result: TypeAlias = Literal["failed", "refused", "passed"]
RESULTS: Final[tuple[Result, ...]] = ("failed", "refused", "passed")
_MS: Final = 1_000.0


class TrainingMetrics:
    """Counts of what this process decided; the log has all decisions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register them; a model has series once it is configured or decided on."""
        self._runs = Counter("midstream_trainings", "Trainings by result.", ("model", "result"), registry=registry)
        self._refusals = Counter(
            "midstream_training_gate_refusals",
            "Candidates that a gate held back.",
            ("model", "gate"),
            registry=registry,
        )
        self._rollbacks = Counter(
            "midstream_training_rollbacks", "Versions taken back after their promotion.", ("model",), registry=registry
        )
        self._last = Gauge(
            "midstream_training_last_timestamp_seconds", "End of the last training.", ("model",), registry=registry
        )
        self.overdue = Gauge(
            "midstream_training_overdue_seconds",
            "By how much the next one is late, or since when it is under way; 0 = neither.",
            ("model",),
            registry=registry,
        )
        self.alarm = Gauge(
            "midstream_training_alarm",
            "1 = the last training failed, or its version was taken back.",
            ("model",),
            registry=registry,
        )

    def begin(self, model: str, ended_ms: int | None) -> None:
        """Let the series of a model stand at 0, so that rates exist before its first training.

        Args:
            model: Configured.
            ended_ms: When its last training ended; None = there was none.
        """
        for result in RESULTS:
            self._runs.labels(model, result)
        self._rollbacks.labels(model)
        if ended_ms is not None:
            self._last.labels(model).set(ended_ms / _MS)

    def ended(self, model: str, result: Result, ended_ms: int, gate: str = "") -> None:
        """Count a training.

        Args:
            model: Trained.
            result: What it came to.
            ended_ms: When.
            gate: That refused; empty = none.
        """
        self._runs.labels(model, result).inc()
        self._last.labels(model).set(ended_ms / _MS)
        if gate:
            self._refusals.labels(model, gate).inc()

    def rolled_back(self, model: str) -> None:
        """Count a version that was taken back."""
        self._rollbacks.labels(model).inc()
