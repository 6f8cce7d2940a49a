"""ONNX Runtime in this process: one thread, one bounded memory for all graphs, no other file.

A session runs on the thread that calls it, without Python's lock. All sessions of a process share one arena, which
fails an operator that wants more (``ARENA_BYTES_MAX``) instead of taking it from the machine; constants are not
calculated in advance, since that would be outside of it. A run whose time is over is ended between two operators, by
one thread that looks after all runs of the process.
"""

import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, ExtraMissing

RUNNER: Final = "onnxruntime"
"""Of a manifest: what runs an ONNX graph."""
ARENA_BYTES_MAX = 512 << 20
"""Of constants and results of all graphs of a process: three versions of two models of ``GRAPH_BYTES_MAX``, or results
of 1,000 rows in layers of 10,000 numbers ten times over."""
RUN_S_MAX = 5.0
"""Time of one call in service, on a machine that is busy: a hundred deadlines of a request."""
_LOOK_S = 0.05
"""Between two looks at what runs."""


def library() -> Any:  # noqa: ANN401  the package brings no types
    """Return ONNX Runtime.

    Raises:
        ExtraMissing: It is not installed.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        message = "ONNX graphs are run by ONNX Runtime: install midstream[onnx]"
        raise ExtraMissing(message) from error
    found: Any = onnxruntime
    return found


@lru_cache(maxsize=1)
def _require_arena() -> None:
    """Give the process its one arena."""
    runtime = library()
    place = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    # 1: an arena grows by what is asked for, not by twice as much.
    options = runtime.OrtArenaCfg({"max_mem": ARENA_BYTES_MAX, "arena_extend_strategy": 1})
    runtime.create_and_register_allocator(place, options)


class _Watch:
    """What ends runs whose time is over: one thread, which sleeps while nothing runs."""

    def __init__(self) -> None:
        """Begin without a thread."""
        self._changed = threading.Condition()
        self._ends: dict[int, tuple[float, Any]] = {}
        self._thread: threading.Thread | None = None
        self._is_idle = False

    @contextmanager
    def within(self, seconds: float, options: Any) -> Generator[None, None, None]:  # noqa: ANN401
        """End a run of some options when the time is over."""
        key = id(options)
        with self._changed:
            self._ends[key] = (time.monotonic() + seconds, options)
            # After a fork there is no thread.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look, name="onnx-runs", daemon=True)
                self._thread.start()
            elif self._is_idle:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._ends[key]

    def _look(self) -> None:
        while True:
            with self._changed:
                self._is_idle = not self._ends
                # Nothing notifies while something runs.
                self._changed.wait(None if self._is_idle else _LOOK_S)
                self._is_idle = False
                now = time.monotonic()
                for end, options in self._ends.values():
                    if end <= now:
                        options.terminate = True


_WATCH = _Watch()
Given = NDArray[np.generic] | list[object]
"""An output: a tensor, or a list, as of maps."""
_LOCK = threading.Lock()


class Session:
    """A graph that can be run, from several threads at once."""

    def __init__(self, graph: bytes | memoryview) -> None:
        """Read a graph. Cost: 1 ms and more; call it on a thread.

        Raises:
            ExtraMissing: ONNX Runtime is not installed.
            ArtifactInvalid: It cannot be run.
        """
        runtime = library()
        with _LOCK:
            _require_arena()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._runtime = runtime
        with runnable(runtime):
            self._session = runtime.InferenceSession(
                bytes(graph), options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
            )

    def run(
        self, outputs: Sequence[str], values: Mapping[str, NDArray[np.generic]], seconds: float = RUN_S_MAX
    ) -> list[Given]:
        """Return outputs by name for some inputs by name, ended between two operators when the time is over.

        Raises:
            ArtifactInvalid: They do not fit, an operator failed, or the time was over.
        """
        options = self._runtime.RunOptions()
        options.log_severity_level = 4
        with runnable(self._runtime), _WATCH.within(seconds, options):
            found: list[Given] = self._session.run(list(outputs), dict(values), options)
        return found


@contextmanager
def runnable(runtime: Any) -> Generator[None, None, None]:  # noqa: ANN401
    """Turn what ONNX Runtime raises, which has no class in common, into ``ArtifactInvalid``."""
    state = runtime.capi.onnxruntime_pybind11_state
    failures: tuple[type[Exception], ...] = (
        state.EPFail, state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoModel,
        state.NotImplemented, state.RuntimeException, ValueError,
    )  # fmt: skip
    try:
        yield
    except failures as error:
        message = f"the network cannot be run: {error}"
        raise ArtifactInvalid(message) from error
