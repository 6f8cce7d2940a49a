"""Ranker from elsewhere: an ONNX graph over named columns, run by ONNX Runtime in this process.

The graph was fitted by any library that writes ONNX. It is checked when a version is read (``models.onnx.rules``), and
asked once about rows of zeros, within a time, before it is asked anything else. Rows are asked in whole sixteens, the
last ones repeated, since a library multiplies a row alone in another order than among others: so a row alone has the
bits that it has among others, on one machine with one release of the runtime.

An unknown value is NaN, as everywhere, and the graph makes of it what it was made to: a row whose number is NaN then
has no number, and is chosen where no other item is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import thread_time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, Invalid
from midstream.core.types import Score
from midstream.models.model import Arrays
from midstream.models.onnx.graph import DOUBLE, read_graph
from midstream.models.onnx.marks import column_marks
from midstream.models.onnx.rules import require_allowed, require_bytes
from midstream.models.onnx.session import RUN_S_MAX, Given, Session
from midstream.models.onnx.signature import CLASSES, Signature, columns_of, narrowed, signature_of, two_numbers
from midstream.models.rows.examples import names_of, names_text

KIND: Final = "onnx"
FILE: Final = "graph.onnx"
"""Name under which the graph is written for other programs."""
ROWS_STEP = 16
"""Rows are asked in whole multiples of it."""
ROWS_MAX = 1_024
"""Rows of one call; more are asked in several."""
TRIAL_ROWS = 512
"""What a placement has at most by default (500 candidates), in whole sixteens."""
TRIAL_S_MAX = 1.0
"""Processor time of the trial rows: twenty times the deadline of a request. Slower graphs would answer nobody."""
TRIAL_WALL_S_MAX = 20.0
"""Time after which a trial is ended, on a machine that is busy with other work."""
_COLUMN_AXES = 2


@dataclass(frozen=True, slots=True, eq=False)
class OnnxRanker:
    """A graph over named inputs: a row model."""

    inputs: tuple[str, ...]
    """Names of the columns that it reads, in order."""
    graph: NDArray[np.uint8]
    """The file."""
    signature: Signature
    _session: Session = field(repr=False)

    def score(self, values: Score) -> Score:
        """Return the number of each row of values (n, len(inputs)), NaN = unknown; NaN = the graph gives none.

        Raises:
            ArtifactInvalid: An operator failed, the graph gives anything else than a number a row, or a call of
                ``ROWS_MAX`` rows takes longer than ``RUN_S_MAX``.
        """
        found = np.empty(len(values), dtype=np.float32)
        for begin in range(0, len(values), ROWS_MAX):
            part = values[begin : begin + ROWS_MAX]
            told = self._session.run([self.signature.output], self._asked(part), RUN_S_MAX)
            found[begin : begin + len(part)] = _numbers(told[0], _padded(len(part)))[: len(part)]
        return found

    def _asked(self, values: Score) -> Mapping[str, NDArray[np.generic]]:
        """Return some rows as the inputs of the graph, repeated to whole sixteens."""
        kind = np.float64 if self.signature.element == DOUBLE else np.float32
        count = len(values)
        shape = (_padded(count), len(self.inputs))
        rows: NDArray[np.generic] = np.empty(shape, dtype=kind, order="C" if self.signature.is_matrix else "F")
        rows[:count], rows[count:] = values, values[count - 1]
        if self.signature.is_matrix:
            return {self.signature.inputs[0]: rows}
        columns = (rows[:, [at]] if self.signature.axes == _COLUMN_AXES else rows[:, at] for at in range(shape[1]))
        return dict(zip(self.signature.inputs, columns, strict=True))

    def width(self) -> int:
        """Return how many numbers the graph gives for a row.

        Raises:
            ArtifactInvalid: An operator failed, or it gives anything else than a number a row.
        """
        (told,) = self._session.run([self.signature.output], self._asked(np.zeros((1, len(self.inputs)), np.float32)))
        _numbers(told, ROWS_STEP)
        return told.shape[1] if isinstance(told, np.ndarray) and told.ndim > 1 else 1

    def arrays(self) -> Arrays:
        """Return what ``restore`` makes the same ranker of."""
        return {
            "inputs": names_text(self.inputs),
            "graph": self.graph,
            "output": np.frombuffer(self.signature.output.encode(), dtype=np.uint8),
        }

    @classmethod
    def restore(cls, arrays: Arrays) -> "OnnxRanker":
        """Return the ranker whose ``arrays`` these are. Cost: that of the session, and of the trial rows.

        Raises:
            ArtifactInvalid: They are none, or the graph cannot be run.
            Invalid: The graph is none that may be run, or none over these columns.
            ExtraMissing: ONNX Runtime is not installed.
        """
        for name in ("inputs", "graph", "output"):
            if name not in arrays or arrays[name].dtype.str != "|u1" or arrays[name].ndim != 1:
                raise ArtifactInvalid(f"{name} of the graph is missing, or no row of bytes")
        require_bytes(arrays["graph"].nbytes)
        content = np.ascontiguousarray(arrays["graph"]).view(np.uint8)
        graph = read_graph(content.data)
        require_allowed(graph)
        columns = names_of(arrays["inputs"])
        signature = signature_of(graph, columns, arrays["output"].tobytes().decode("utf-8", "replace"))
        ranker = cls(columns, content, signature, Session(content.data))
        ranker.require_soon()
        return ranker

    def require_soon(self) -> None:
        """Ask the graph about rows of zeros, once for its shapes and once for its time.

        Raises:
            ArtifactInvalid: It gives anything else than a number a row, or takes too long.
        """
        for count in (ROWS_STEP, TRIAL_ROWS):
            asked = self._asked(np.zeros((count, len(self.inputs)), dtype=np.float32))
            before = thread_time()
            (told,) = self._session.run([self.signature.output], asked, TRIAL_WALL_S_MAX)
            took = thread_time() - before
            _numbers(told, count)
            if took > TRIAL_S_MAX:
                message = f"the graph takes {took:.1f} s for {count} rows, at most {TRIAL_S_MAX} s are right"
                raise ArtifactInvalid(message)


def ranker_of(content: bytes, columns: Sequence[str] = (), output: str = "") -> OnnxRanker:
    """Return the ranker of an ONNX file from elsewhere.

    Args:
        content: The file.
        columns: Names of the features that it reads, in order; empty = those of its inputs, where it has one for each.
        output: Name of its output, where several have a number a row.

    Raises:
        ArtifactInvalid: It is no ONNX file, or it cannot be run.
        Invalid: It may not be run, or is no ranker over these columns: each reason is named.
        ExtraMissing: ONNX Runtime is not installed.
    """
    require_bytes(len(content))
    graph = read_graph(memoryview(content))
    require_allowed(graph)
    named = tuple(columns) or columns_of(graph)
    signature = signature_of(graph, named, output)
    kept = narrowed(memoryview(content), graph, signature.output)
    arrays: Arrays = {
        "inputs": names_text(named),
        "graph": np.frombuffer(kept, dtype=np.uint8),
        "output": np.frombuffer(signature.output.encode(), dtype=np.uint8),
    }
    ranker = OnnxRanker.restore(arrays)
    if not signature.has_classes and ranker.width() == CLASSES:
        raise Invalid((two_numbers(signature.output),))
    return ranker


def facts_of(ranker: OnnxRanker) -> Mapping[str, object]:
    """Return what a manifest says of a graph beside its runner: versions of its operators, and how it is asked."""
    graph = read_graph(ranker.graph.data)
    return {
        "opsets": {domain or "ai.onnx": version for domain, version in sorted(graph.opsets.items())},
        "nodes": len(graph.nodes),
        "output": ranker.signature.output,
    }


def marks_of(ranker: OnnxRanker) -> list[NDArray[np.float64]]:
    """Return numbers around which the values of each column lie, as far as a graph says them; see ``column_marks``."""
    return column_marks(read_graph(ranker.graph.data), ranker.signature.inputs, len(ranker.inputs))


def _padded(count: int) -> int:
    return -(-count // ROWS_STEP) * ROWS_STEP


def _numbers(told: Given, count: int) -> Score:
    """Return a number a row of what a graph gave."""
    if isinstance(told, list):
        raise ArtifactInvalid(f"the graph gives a list for {count} rows, where a number a row is right")
    if told.dtype.kind == "f" and told.shape in {(count,), (count, 1), (count, CLASSES)}:
        with np.errstate(over="ignore"):
            return (told if told.ndim == 1 else told[:, -1]).astype(np.float32)
    what = f"{told.dtype} {told.shape}"
    raise ArtifactInvalid(f"the graph gives {what} for {count} rows, where a number a row is right")
